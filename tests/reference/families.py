"""Tiny random checkpoints of every decoder family, and what transformers computes with them.

    python families.py [NAME ...]

Rebuilds `tests/fixtures/families/`, one Hugging Face folder per variant of `VARIANTS` and `EXPERTS`: `config.json` in the
spelling of the family's models on the hub, `model.safetensors`, `tokenizer.json`, and `expected*.safetensors` with

- `tokens` i32 `[T]`: the prompt and then 12 forced tokens, all drawn at random;
- `prompt_len` i32 `[1]`: how many of `tokens` are the prompt;
- `logits` f32 `[T, vocabulary]`: row `t` is the model's output after it has read `tokens[..=t]`.

Where llama.cpp has the architecture, `model.gguf` holds the same weights under the names of the `gguf` package's
map, with the metadata that llama.cpp's converter writes.

The logits are those of transformers in float32 with eager attention and a cache: the prompt in one forward, then
one token per forward. The script checks that they have a deviation of 0.4 to 5, and that each switch that a
variant is there for moves them: without it they differ by more than 0.05. Of a mixture of experts it draws tokens until
no expert that is chosen is nearly tied with one that is not: a router's logits for the two are at least `MARGIN`
apart in each layer at each token, so that rounding (keys and values in halves included) changes no choice.
"""

import json
import shutil
import sys

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

import recipe
from tiny_llama import save_tokenizer, write_json

STEPS = 12
MARGIN = 0.03
OUTPUT = recipe.FIXTURES / "families"

BASE = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 48,
    "intermediate_size": 60,
    "max_position_embeddings": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 96,
}
QWEN2 = BASE | {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "sliding_window": 16,
    "max_window_layers": 1,
}
PHI3 = BASE | {
    "model_type": "phi3",
    "architectures": ["Phi3ForCausalLM"],
    "original_max_position_embeddings": 32,
    "pad_token_id": 0,
    "partial_rotary_factor": 0.75,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0, 1.1, 1.3, 1.8, 2.0, 2.5],
        "long_factor": [1.5, 2.0, 4.0, 7.0, 9.0, 12.0],
    },
    "sliding_window": 24,
}
GRANITE = BASE | {
    "model_type": "granite",
    "architectures": ["GraniteForCausalLM"],
    "attention_bias": False,
    "attention_multiplier": 0.4,
    "embedding_multiplier": 3.0,
    "logits_scaling": 0.5,
    "residual_multiplier": 0.3,
    "tie_word_embeddings": True,
}

GEMMA = {key: value for key, value in BASE.items() if key != "tie_word_embeddings"} | {
    "attention_bias": False,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "head_dim": 16,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-6,
}
GEMMA2 = GEMMA | {
    "model_type": "gemma2",
    "architectures": ["Gemma2ForCausalLM"],
    "attn_logit_softcapping": 1.5,
    "final_logit_softcapping": 3.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "query_pre_attn_scalar": 16,
    "sliding_window": 9,
}
GEMMA3 = GEMMA | {
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 12,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_attention_heads": 2,
    "query_pre_attn_scalar": 12,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 9,
}
del GEMMA3["hidden_act"]
LAYER_NORMS = {key: value for key, value in BASE.items() if key not in ("rms_norm_eps", "rope_theta")}
STARCODER2 = LAYER_NORMS | {
    "model_type": "starcoder2",
    "architectures": ["Starcoder2ForCausalLM"],
    "hidden_act": "gelu_pytorch_tanh",
    "norm_epsilon": 1e-5,
    "rope_theta": 100000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_bias": True,
}
NEOX = LAYER_NORMS | {
    "model_type": "gpt_neox",
    "architectures": ["GPTNeoXForCausalLM"],
    "hidden_act": "gelu",
    "hidden_size": 64,
    "layer_norm_eps": 1e-5,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "use_parallel_residual": True,
}
del NEOX["num_key_value_heads"]
STABLELM = LAYER_NORMS | {
    "model_type": "stablelm",
    "architectures": ["StableLmForCausalLM"],
    "hidden_size": 64,
    "layer_norm_eps": 1e-5,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000,
    "use_qkv_bias": True,
}
GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "layer_norm_epsilon": 1e-5,
    "model_type": "gpt2",
    "n_embd": 48,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 128,
    "vocab_size": 96,
}

# name: (config, token counts of the prompts, what the switches' effects are measured against, gguf architecture)
VARIANTS = {
    "qwen2": (QWEN2, {"": 30}, {}, "qwen2"),
    "qwen2-window": (QWEN2 | {"use_sliding_window": True}, {"": 40}, {"use_sliding_window": False}, None),
    "mistral": (
        BASE
        | {
            "model_type": "mistral",
            "architectures": ["MistralForCausalLM"],
            "head_dim": 16,
            "sliding_window": 11,
        },
        {"": 40},
        {"sliding_window": None},
        None,
    ),
    "ministral": (
        BASE
        | {
            "model_type": "ministral",
            "architectures": ["MinistralForCausalLM"],
            "head_dim": 12,
            "layer_types": ["full_attention", "sliding_attention"],
            "sliding_window": 9,
        },
        {"": 40},
        {"layer_types": ["full_attention", "full_attention"]},
        None,
    ),
    "qwen3": (
        BASE | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 16, "attention_bias": False},
        {"": 30},
        {},
        "qwen3",
    ),
    "qwen3-odd-heads": (
        BASE | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 14, "attention_bias": True},
        {"": 30},
        {},
        None,
    ),
    "phi3": (PHI3, {"": 18, "crossing": 27, "long": 40}, {"rope_scaling": None}, "phi3"),
    "smollm3": (
        BASE
        | {
            "model_type": "smollm3",
            "architectures": ["SmolLM3ForCausalLM"],
            "no_rope_layer_interval": 4,
            "no_rope_layers": [1, 1, 1, 0],
            "num_hidden_layers": 4,
            "pad_token_id": 0,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
        },
        {"": 30},
        {"no_rope_layers": [1, 1, 1, 1]},
        "smollm3",
    ),
    "granite": (
        GRANITE,
        {"": 30},
        {"attention_multiplier": 0.29, "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0},
        "granite",
    ),
    # The first of Gemma's files say `gelu` and mean its tanh form.
    "gemma": (
        GEMMA
        | {
            "model_type": "gemma",
            "architectures": ["GemmaForCausalLM"],
            "hidden_act": "gelu",
            "hidden_activation": None,
        },
        {"": 30},
        {},
        "gemma",
    ),
    "gemma2": (
        GEMMA2,
        {"": 40},
        {"attn_logit_softcapping": None, "final_logit_softcapping": None, "sliding_window": 1000},
        "gemma2",
    ),
    "gemma2-scalar": (
        GEMMA2 | {"attn_logit_softcapping": None, "query_pre_attn_scalar": 6},
        {"": 30},
        {"query_pre_attn_scalar": 16},
        None,
    ),
    "gemma3": (
        GEMMA3 | {"num_hidden_layers": 6, "sliding_window_pattern": 6},
        {"": 40},
        {"sliding_window": 1000, "rope_local_base_freq": 1000000.0},
        "gemma3",
    ),
    "gemma3-scaled": (
        GEMMA3
        | {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "num_hidden_layers": 3,
            "query_pre_attn_scalar": 5,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        {"": 40},
        {"query_pre_attn_scalar": 12, "rope_scaling": None},
        None,
    ),
    "gemma3-nested": (
        {key: value for key, value in GEMMA3.items() if not key.startswith("rope_")}
        | {
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"factor": 4.0, "rope_theta": 500000.0, "rope_type": "linear"},
                "sliding_attention": {"rope_theta": 2000.0, "rope_type": "default"},
            },
        },
        {"": 40},
        {"rope_scaling": None, "rope_local_base_freq": 10000.0},
        None,
    ),
    "olmo2": (
        BASE
        | {
            "model_type": "olmo2",
            "architectures": ["Olmo2ForCausalLM"],
            "attention_bias": False,
            "rope_theta": 500000.0,
        },
        {"": 30},
        {},
        "olmo2",
    ),
    "starcoder2": (STARCODER2, {"": 30}, {}, "starcoder2"),
    "starcoder2-window": (STARCODER2 | {"sliding_window": 9}, {"": 40}, {"sliding_window": 1000}, None),
    "gpt-neox": (NEOX, {"": 30}, {"use_parallel_residual": False}, "gptneox"),
    "gpt-neox-sequential": (
        NEOX | {"attention_bias": False, "rotary_pct": 0.5, "use_parallel_residual": False},
        {"": 30},
        {},
        None,
    ),
    "gpt2": (GPT2, {"": 30}, {}, "gpt2"),
    "gpt2-inner": (GPT2 | {"n_head": 8, "n_inner": 60}, {"": 30}, {}, None),
    # StableLM 2's config.json does not say that it is sequential.
    "stablelm": (STABLELM, {"": 30}, {"partial_rotary_factor": 1.0, "use_qkv_bias": False}, "stablelm"),
    "stablelm-parallel": (
        STABLELM | {"partial_rotary_factor": 0.5, "use_parallel_residual": True, "use_qkv_bias": False},
        {"": 30},
        {"partial_rotary_factor": 0.25, "use_parallel_residual": False},
        "stablelm",
    ),
}
QWEN3_MOE = BASE | {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 16,
    "mlp_only_layers": [],
    "moe_intermediate_size": 20,
    "norm_topk_prob": True,
    "num_experts": 5,
    "num_experts_per_tok": 2,
}
# The same for mixtures of experts.
EXPERTS = {
    "qwen3-moe": (QWEN3_MOE, {"": 30}, {"norm_topk_prob": False, "num_experts_per_tok": 1}, "qwen3moe"),
    # Experts in the second layer of four only.
    "qwen3-moe-sparse": (
        QWEN3_MOE
        | {
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            "moe_intermediate_size": 36,
            "norm_topk_prob": False,
            "num_experts": 7,
            "num_experts_per_tok": 3,
            "num_hidden_layers": 4,
        },
        {"": 30},
        {"norm_topk_prob": True},
        None,
    ),
    "qwen3-moe-one": (
        QWEN3_MOE | {"norm_topk_prob": False, "num_experts": 3, "num_experts_per_tok": 1},
        {"": 20},
        {"norm_topk_prob": True},
        None,
    ),
    "mixtral": (
        BASE
        | {
            "model_type": "mixtral",
            "architectures": ["MixtralForCausalLM"],
            "intermediate_size": 40,
            "num_experts_per_tok": 2,
            "num_local_experts": 3,
            "sliding_window": None,
        },
        {"": 30},
        {"num_experts_per_tok": 1},
        "llama",
    ),
    "olmoe": (
        BASE
        | {
            "model_type": "olmoe",
            "architectures": ["OlmoeForCausalLM"],
            "clip_qkv": None,
            "intermediate_size": 20,
            "norm_topk_prob": False,
            "num_experts": 7,
            "num_experts_per_tok": 3,
            "num_key_value_heads": 4,
        },
        {"": 30},
        {"norm_topk_prob": True},
        "olmoe",
    ),
}
# Those whose norms multiply with one more than the weight.
GAINS_LESS_ONE = ("gemma", "gemma2", "gemma3_text")


def random_weights(model, seed):
    """The checkpoint's tensors, by what their names say they are."""
    random, state = np.random.default_rng(seed), {}
    tied = model.config.tie_word_embeddings
    for name, old in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        if name.endswith(("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight")):
            values = random.uniform(0.5, 1.5, old.shape) - (model.config.model_type in GAINS_LESS_ONE)
        elif name.endswith("bias"):
            values = random.normal(0.0, 0.3, old.shape)
        else:
            values = random.normal(0.0, 0.3 if "embed" in name or ".wte" in name or ".wpe" in name or "lm_head" in name else 0.2, old.shape)
        if name.endswith("mlp.gate.weight"):
            values = 2 * values
        state[name] = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
    return state


def by_expert(weights, config):
    """The tensors with those of experts one by one, under the names of the files on the hub."""
    gate, up, down, block = "gate_proj", "up_proj", "down_proj", "mlp"
    if config["model_type"] == "mixtral":
        gate, up, down, block = "w1", "w3", "w2", "block_sparse_moe"
    state = {}
    for name, weight in weights.items():
        stem = name.replace(".mlp.", f".{block}.").rpartition(".")[0]
        if name.endswith("experts.gate_up_proj"):
            for number, rows in enumerate(weight):
                for part, half in zip((gate, up), rows.chunk(2)):
                    state[f"{stem}.{number}.{part}.weight"] = half.contiguous()
        elif name.endswith("experts.down_proj"):
            for number, rows in enumerate(weight):
                state[f"{stem}.{number}.{down}.weight"] = rows.contiguous()
        elif name.endswith("mlp.gate.weight"):
            state[f"{stem}.weight"] = weight
        else:
            state[name] = weight
    return state


def load(folder, **changes):
    """A fresh float32 model of the folder; `changes` replace configuration values."""
    config = AutoConfig.from_pretrained(folder)
    for key, value in changes.items():
        if key == "rope_local_base_freq":
            config.rope_parameters["sliding_attention"]["rope_theta"] = value
        elif key == "rope_scaling" and "full_attention" in config.rope_parameters:
            theta = config.rope_parameters["full_attention"]["rope_theta"]
            config.rope_parameters["full_attention"] = {"rope_type": "default", "rope_theta": theta}
            continue
        elif key == "rope_scaling" and value is None:
            value, key = {"rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]}, "rope_parameters"
            value |= {k: v for k, v in config.rope_parameters.items() if k == "partial_rotary_factor"}
        elif key == "partial_rotary_factor":
            config.rope_parameters[key] = value
        if key == "use_sliding_window":
            config.layer_types = ["full_attention"] * config.num_hidden_layers
        setattr(config, key, value)
    model = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager"
    )
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    return model.eval()


def run(model, tokens, count):
    """Logits of a prefill of `count` tokens and one step for each of the others."""
    cache, rows = DynamicCache(config=model.config), []
    for fed in [tokens[:count]] + [[token] for token in tokens[count:]]:
        rows.append(model(torch.tensor([fed]), past_key_values=cache, use_cache=True).logits[0])
    return torch.cat(rows)


def router_margin(model, tokens, count):
    """How far the logits of chosen experts are from those of others, at the least."""
    found = []

    def watch(module, _, output):
        best = output[0].sort(dim=-1, descending=True).values
        if module.top_k < best.shape[-1]:
            found.append(float((best[:, module.top_k - 1] - best[:, module.top_k]).min()))

    for module in model.modules():
        if type(module).__name__.endswith("TopKRouter"):
            module.register_forward_hook(watch)
    run(model, tokens, count)
    assert found
    return min(found)


def neighbours(weight, heads):
    """The rows of query or key heads as GGUF files of Llama's kind order them: pairs next to each other."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(folder, config, arch):
    """The same checkpoint as llama.cpp's converter writes it, in float32."""
    writer = gguf.GGUFWriter(folder / "model.gguf", arch)
    if arch == "gpt2":
        own = {"hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
        config = config | {usual: config[name] for usual, name in own.items()}
        config["max_position_embeddings"], config["intermediate_size"] = config["n_positions"], 4 * config["n_embd"]
        config["norm_epsilon"] = config["layer_norm_epsilon"]
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    head_dim = config.get("head_dim", hidden // heads)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads", heads))
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        writer.add_layer_norm_eps(config.get("norm_epsilon", config.get("layer_norm_eps")))
    if "rope_theta" in config:
        writer.add_rope_freq_base(config["rope_theta"])
    if arch == "gptneox":
        writer.add_parallel_residual(config["use_parallel_residual"])
    if arch == "stablelm":
        # Converters say so of models that do not say.
        writer.add_parallel_residual(config.get("use_parallel_residual", True))
    writer.add_vocab_size(config["vocab_size"])
    if "head_dim" in config:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if not arch.startswith(("gemma", "gpt2")):
        share = config.get("partial_rotary_factor", config.get("rotary_pct", 1.0))
        writer.add_rope_dimension_count(int(head_dim * share))
    if arch in ("gemma2", "gemma3"):
        writer.add_sliding_window(config["sliding_window"])
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    experts = config.get("num_experts", config.get("num_local_experts"))
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if arch == "phi3":
        original = config["original_max_position_embeddings"]
        scale = config["max_position_embeddings"] / original
        writer.add_sliding_window(config["sliding_window"])
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(scale) / np.log(original))))
        for kind in ("long", "short"):
            factors = np.array(config["rope_scaling"][f"{kind}_factor"], dtype=np.float32)
            writer.add_tensor(f"rope_factors_{kind}.weight", factors)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {token["id"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if number in special else 1 for _, number in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    architecture = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    weights = {name: weight.float().numpy() for name, weight in load_file(folder / "model.safetensors").items()}
    for name in [name for name in weights if ".experts.0." in name]:
        # All experts' matrices become one tensor.
        own = [weights.pop(name.replace(".experts.0.", f".experts.{number}.")) for number in range(experts)]
        stacked = name.replace(".experts.0.", ".experts.")
        if arch == "llama":
            stacked = stacked.replace("model.", "").replace("block_sparse_moe", "feed_forward")
        weights[stacked] = np.stack(own)
    for name, weight in weights.items():
        if arch in ("llama", "granite", "smollm3") and name.endswith(("q_proj.weight", "k_proj.weight")):
            own = heads if "q_proj" in name else config["num_key_value_heads"]
            weight = neighbours(weight, own)
        if config["model_type"] in GAINS_LESS_ONE and name.endswith("norm.weight"):
            weight = weight + 1
        if "query_key_value" in name:
            # Heads of queries, keys and values in turn become all of each.
            weight = weight.reshape(heads, 3, head_dim, -1).swapaxes(0, 1).reshape(weight.shape)
        if arch == "gpt2" and weight.ndim == 2 and ".h." in name:
            weight = weight.T
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert target, name
        writer.add_tensor(target, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    variants = list(enumerate(VARIANTS.items())) + list(enumerate(EXPERTS.items(), 100))
    chosen = sys.argv[1:] or VARIANTS | EXPERTS
    for number, (name, (config, prompts, without, arch)) in variants:
        if name not in chosen:
            continue
        folder = OUTPUT / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / "config.json", config)
        save_tokenizer(folder, config["vocab_size"])
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        weights = random_weights(empty, 3000 + number)
        if name == "gpt-neox":
            # As the files on the hub have it; the other one is as transformers 5 writes it.
            weights["embed_out.weight"] = weights.pop("lm_head.weight")
        if name == "gpt2-inner":
            # As in the first files.
            weights = {key.removeprefix("transformer."): value for key, value in weights.items()}
        save_file(by_expert(weights, config), folder / "model.safetensors", metadata={"format": "pt"})
        if name in EXPERTS:
            loaded = load(folder).state_dict()
            assert all(torch.equal(loaded[key], value.float()) for key, value in weights.items())
        for case, count in prompts.items():
            random = np.random.default_rng(4000 + 10 * number + len(case))
            measures, margin = {}, 0.0
            while margin < MARGIN:
                tokens = random.integers(3, config["vocab_size"], count + STEPS).tolist()
                margin = router_margin(load(folder), tokens, count) if name in EXPERTS else MARGIN
            if name in EXPERTS:
                measures["router_margin"] = margin
            logits = run(load(folder), tokens, count)
            deviation = float(logits.std())
            assert 0.4 < deviation < 5.0, deviation
            measures["logits_deviation"] = deviation
            for key, value in without.items():
                effect = float((run(load(folder, **{key: value}), tokens, count) - logits).abs().max())
                measures[f"effect_of_{key}"] = effect
                assert effect > 0.05, measures
            header = {
                "script": "tests/reference/families.py",
                "packages": json.dumps(recipe.packages()),
                "reference": "transformers, float32, eager attention, prefill then cached steps",
            } | {key: f"{value:.3g}" for key, value in measures.items()}
            tensors = {
                "tokens": torch.tensor(tokens, dtype=torch.int32),
                "prompt_len": torch.tensor([count], dtype=torch.int32),
                "logits": logits.contiguous(),
            }
            file = "expected" + (f"-{case}" if case else "") + ".safetensors"
            save_file(tensors, folder / file, metadata=header)
            print(f"{name}/{file}: {count} + {STEPS} tokens,", measures)
        if arch:
            write_gguf(folder, config, arch)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size} bytes", flush=True)
        assert size < 500_000


if __name__ == "__main__":
    main()
