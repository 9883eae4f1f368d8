"""Tiny random Llama checkpoints and what transformers computes with them.

    python tiny_llama.py

Rebuilds `tests/fixtures/tiny-llama/`, one Hugging Face folder per variant of `VARIANTS`: `config.json`,
`model.safetensors` (or shards and an index), `tokenizer.json`, and `expected*.safetensors` with

- `tokens` i32 `[T]`: the prompt and then 8 forced tokens, all drawn at random;
- `prompt_len` i32 `[1]`: how many of `tokens` are the prompt;
- `logits` f32 `[T, vocabulary]`: row `t` is the model's output after it has read `tokens[..=t]`;
- `greedy` i32 `[16]` and `greedy_gap` f32 `[16]`: greedy continuation of the prompt alone, and the difference of
  the two largest logits at each of its steps;
- for dynamic scaling, `rope_base` f64 `[T]`: the base that rotated the query and the key of token `t`;
  `recomputed` f32 `[8, vocabulary]`: the last row of a cache-free forward over the sequence, after each forced token;
- header metadata: the recipe, and the measures that the checks below took; among them by how much the prompt's
  logits move if keys and values are rounded to float16, as a paged cache may do.

The logits are those of transformers in float32 (float16 and bfloat16 weights are widened first) with eager
attention, a fresh model per file, and a cache: the prompt in one forward, then one token per forward. Except for
dynamic scaling the script checks that this equals one cache-free forward over all of `tokens`.

Dynamic scaling depends on history. transformers takes `n = max(length so far, max_position_embeddings)` and
rotates the tokens of the current forward with `base = rope_theta * (factor * n / max_position_embeddings -
(factor - 1)) ** (d / (d - 2))` (d the head size); keys that an earlier forward put into the cache keep the rotation
of their own time. So one prefill of a prompt longer than `max_position_embeddings` rotates the whole prompt with
the base of its full length, and each later step uses a new base for its own token only. The script checks this
formula against the model at every step.

The weights come from numpy's PCG64 with a seed per variant: matrices with deviation 0.2, embeddings and heads 0.3,
norms uniform in 0.5 to 1.5, biases 0.3. The script checks that logits have a deviation of 0.5 to 5, that attention
is far from uniform, and that a scaling kind moves the logits away from those of plain RoPE.
"""

import json
import shutil

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, DynamicCache, LlamaForCausalLM

import recipe
from half_cache import HalfCache
from prompts import LONG_TEXT

FORCED_STEPS = 8
GREEDY_STEPS = 16
LAYERS = 2
OUTPUT = recipe.FIXTURES / "tiny-llama"

BASE = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "tie_word_embeddings": True,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
}
ROPE = BASE | {
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 67,
}

# name: (stored type, config, token counts of the prompts). Sizes avoid multiples of 32 and 64 where they can.
VARIANTS = {
    "tied": ("float32", BASE, {"": 24}),
    "untied": (
        "float32",
        BASE | {"hidden_size": 40, "intermediate_size": 52, "vocab_size": 128, "tie_word_embeddings": False},
        {"": 24},
    ),
    "sharded": ("float16", BASE | {"vocab_size": 97, "tie_word_embeddings": False}, {"": 24}),
    "gqa-1-float16": ("float16", BASE | {"num_attention_heads": 3, "num_key_value_heads": 3}, {"": 24}),
    "gqa-3-float16": (
        "float16",
        BASE | {"hidden_size": 72, "intermediate_size": 100, "num_attention_heads": 9, "num_key_value_heads": 3},
        {"": 24},
    ),
    "gqa-8-bfloat16": (
        "bfloat16",
        BASE | {"hidden_size": 64, "intermediate_size": 72, "num_attention_heads": 8, "num_key_value_heads": 1},
        {"": 24},
    ),
    "head-dim": (
        "bfloat16",
        BASE | {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32, "rms_norm_eps": 1e-3},
        {"": 24},
    ),
    "biases": ("bfloat16", BASE | {"hidden_size": 40, "attention_bias": True, "mlp_bias": True}, {"": 24}),
    "odd-sizes": (
        "float16",
        BASE
        | {
            "hidden_size": 45,
            "intermediate_size": 67,
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "head_dim": 14,
            "vocab_size": 61,
        },
        {"": 35},
    ),
    # The four kinds in the spelling of transformers 4: `rope_theta` and `rope_scaling`, linear with the older "type".
    "rope-linear": ("float16", ROPE | {"rope_scaling": {"type": "linear", "factor": 4.0}}, {"": 40}),
    "rope-dynamic": (
        "float16",
        ROPE | {"max_position_embeddings": 32, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
        {"": 48, "crossing": 28, "short": 16},
    ),
    "rope-llama3": (
        "float16",
        ROPE
        | {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        {"": 72},
    ),
    "rope-yarn": (
        "float16",
        ROPE
        | {
            "rope_theta": 1000.0,
            "max_position_embeddings": 128,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        },
        {"": 72},
    ),
    # And in the spelling of transformers 5: everything in `rope_parameters`.
    "rope-yarn-options": (
        "float16",
        {key: value for key, value in ROPE.items() if key != "rope_theta"}
        | {
            "max_position_embeddings": 512,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 500.0,
                "factor": 8.0,
                "original_max_position_embeddings": 64,
                "attention_factor": 0.8,
                "beta_fast": 8.0,
                "beta_slow": 0.5,
                "truncate": False,
            }
        },
        {"": 72},
    ),
}
GENERATION_CONFIG = {
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "pad_token_id": 2,
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.9,
    "repetition_penalty": 1.05,
    "max_new_tokens": 12,
}
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def full_config(config, dtype):
    """What `config.json` holds."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "mlp_bias": False,
        "num_hidden_layers": LAYERS,
        "rms_norm_eps": 1e-5,
        "torch_dtype": dtype,
        "use_cache": True,
    } | config


def random_weights(config, dtype, seed):
    """The checkpoint's tensors in their stored type."""
    random = np.random.default_rng(seed)
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim", hidden // heads)
    state = {}

    def put(name, values):
        state[name] = torch.from_numpy(values.astype(np.float32)).to(getattr(torch, dtype))

    def linear(name, rows, columns, bias):
        put(name + ".weight", random.normal(0.0, 0.2, (rows, columns)))
        if bias:
            put(name + ".bias", random.normal(0.0, 0.3, rows))

    put("model.embed_tokens.weight", random.normal(0.0, 0.3, (vocabulary, hidden)))
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}."
        put(stem + "input_layernorm.weight", random.uniform(0.5, 1.5, hidden))
        put(stem + "post_attention_layernorm.weight", random.uniform(0.5, 1.5, hidden))
        bias = config["attention_bias"]
        linear(stem + "self_attn.q_proj", heads * head_dim, hidden, bias)
        linear(stem + "self_attn.k_proj", kv_heads * head_dim, hidden, bias)
        linear(stem + "self_attn.v_proj", kv_heads * head_dim, hidden, bias)
        linear(stem + "self_attn.o_proj", hidden, heads * head_dim, bias)
        linear(stem + "mlp.gate_proj", inner, hidden, config["mlp_bias"])
        linear(stem + "mlp.up_proj", inner, hidden, config["mlp_bias"])
        linear(stem + "mlp.down_proj", hidden, inner, config["mlp_bias"])
    put("model.norm.weight", random.uniform(0.5, 1.5, hidden))
    if not config["tie_word_embeddings"]:
        put("lm_head.weight", random.normal(0.0, 0.3, (vocabulary, hidden)))
    return state


def save_weights(folder, state, sharded):
    """One `model.safetensors`, or three shards of consecutive tensors with their index."""
    if not sharded:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, count, where = list(state), 3, {}
    for shard in range(count):
        part = names[shard * len(names) // count : (shard + 1) * len(names) // count]
        file = f"model-{shard + 1:05}-of-{count:05}.safetensors"
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
        where |= {name: file for name in part}
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
    write_json(folder / "model.safetensors.index.json", index)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_tokenizer(folder, size):
    """A byte-level BPE of exactly `size` tokens, three of them special, learnt from the text of the long prompt."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, limit_alphabet=40, show_progress=False)
    tokenizer.train_from_iterator([LONG_TEXT.lower()], trainer)
    assert tokenizer.get_vocab_size() == size, (size, tokenizer.get_vocab_size())
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    text = "the light is electric."
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def load(folder, **changes):
    """A fresh float32 model of the folder; `changes` replace configuration values."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **changes)
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    return model.eval()


def dynamic_base(config, length):
    """The base of dynamic scaling for a sequence of `length` tokens."""
    top, factor, dim = config["max_position_embeddings"], config["rope_scaling"]["factor"], config["head_dim"]
    stretch = factor * max(length, top) / top - (factor - 1)
    return config["rope_theta"] * stretch ** (dim / (dim - 2))


def cached_run(model, config, prompt, steps, choose):
    """Prefill, then `steps` single tokens given by `choose(step, last logits)`: tokens, logits and dynamic bases."""
    cache, tokens, rows, bases = DynamicCache(config=model.config), list(prompt), [], []
    dynamic = config.get("rope_scaling", {}).get("rope_type") == "dynamic"
    for step in range(steps + 1):
        fed = tokens[cache.get_seq_length() :]
        out = model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
        rows.append(out.logits[0])
        if dynamic:
            base, dim = dynamic_base(config, len(tokens)), config["head_dim"]
            wanted = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
            torch.testing.assert_close(model.model.rotary_emb.inv_freq.double(), wanted, rtol=1e-5, atol=0)
            bases += [base] * len(fed)
        if step < steps:
            tokens.append(int(choose(step, rows[-1][-1])))
    return tokens, torch.cat(rows), bases


def expectation(folder, config, count, seed):
    """Tensors and metadata of one `expected` file."""
    vocabulary, random = config["vocab_size"], np.random.default_rng(seed)
    prompt = random.integers(3, vocabulary, count).tolist()
    follow = random.integers(3, vocabulary, FORCED_STEPS).tolist()
    tokens, logits, bases = cached_run(load(folder), config, prompt, FORCED_STEPS, lambda step, _: follow[step])
    whole = load(folder)(torch.tensor([tokens]), output_attentions=True)
    gaps = []

    def best(_, row):
        top = row.topk(2).values
        gaps.append(float(top[0] - top[1]))
        return row.argmax()

    greedy, _, _ = cached_run(load(folder), config, prompt, GREEDY_STEPS, best)
    tensors = {
        "tokens": torch.tensor(tokens, dtype=torch.int32),
        "prompt_len": torch.tensor([count], dtype=torch.int32),
        "logits": logits.contiguous(),
        "greedy": torch.tensor(greedy[count:], dtype=torch.int32),
        "greedy_gap": torch.tensor(gaps, dtype=torch.float32),
    }

    # What the numbers are worth: float32 against float64, the spread of logits, how peaked attention is.
    deviation = float(logits.std())
    assert 0.5 < deviation < 5.0, deviation
    peak = float(torch.stack([layer[0, :, -1].max(dim=-1).values.mean() for layer in whole.attentions]).mean())
    assert peak > 3.0 / len(tokens), peak
    half = load(folder)(torch.tensor([tokens[:count]]), past_key_values=HalfCache(), use_cache=True).logits[0]
    measures = {
        "logits_deviation": deviation,
        "mean_largest_attention_of_last_token": peak,
        "max_difference_with_float16_keys_and_values": float((half - logits[:count]).abs().max()),
    }
    if bases:
        tensors["rope_base"] = torch.tensor(bases, dtype=torch.float64)
        again = [load(folder)(torch.tensor([tokens[: count + n + 1]])).logits[0, -1] for n in range(FORCED_STEPS)]
        tensors["recomputed"] = torch.stack(again).contiguous()
        measures["max_difference_cached_to_recomputed"] = float((tensors["recomputed"] - logits[count:]).abs().max())
    else:
        wide = load(folder).double()(torch.tensor([tokens])).logits[0]
        measures["max_difference_to_float64"] = float((wide - logits).abs().max())
        measures["max_difference_cached_to_recomputed"] = float((whole.logits[0] - logits).abs().max())
        assert measures["max_difference_cached_to_recomputed"] < 1e-4, measures
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if scaling:
        theta = config.get("rope_theta") or scaling["rope_theta"]
        plain = load(folder, rope_parameters={"rope_type": "default", "rope_theta": theta})
        assert plain.model.rotary_emb.rope_type == "default"
        effect = float((plain(torch.tensor([tokens])).logits[0] - logits).abs().max())
        measures["max_effect_of_scaling"] = effect
        assert (effect > 0.5) == (len(tokens) > 24 or not bases), measures
    return tensors, measures


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    for number, (name, (dtype, config, prompts)) in enumerate(VARIANTS.items()):
        folder, config = OUTPUT / name, full_config(config, dtype)
        folder.mkdir(parents=True)
        write_json(folder / "config.json", config)
        save_weights(folder, random_weights(config, dtype, seed=1000 + number), sharded=name == "sharded")
        save_tokenizer(folder, config["vocab_size"])
        if name == "untied":
            write_json(folder / "generation_config.json", GENERATION_CONFIG)
            tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
            more = {"add_bos_token": False, "tokenizer_class": "PreTrainedTokenizerFast"}
            write_json(folder / "tokenizer_config.json", tokens | more | {"chat_template": CHAT_TEMPLATE})
            chat = AutoTokenizer.from_pretrained(folder).apply_chat_template(
                [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
            )
            assert chat == "user: hi\nassistant:"
        for case, count in prompts.items():
            tensors, measures = expectation(folder, config, count, seed=2000 + 10 * number + len(case))
            header = {
                "script": "tests/reference/tiny_llama.py",
                "packages": json.dumps(recipe.packages()),
                "reference": "transformers LlamaForCausalLM, float32, eager attention, prefill then cached steps",
            }
            header |= {key: f"{value:.3g}" for key, value in measures.items()}
            file = "expected" + (f"-{case}" if case else "") + ".safetensors"
            save_file(tensors, folder / file, metadata=header)
            gap = float(tensors["greedy_gap"].min())
            print(f"{name}/{file}: {count} + {FORCED_STEPS} tokens, min greedy gap {gap:.3f},", measures)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {dtype}, {size} bytes", flush=True)
        assert size < 300_000
    total = sum(file.stat().st_size for file in OUTPUT.rglob("*") if file.is_file())
    print(f"all: {total} bytes")
    assert total < 1_500_000


if __name__ == "__main__":
    main()
