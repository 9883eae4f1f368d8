"""LoRA adapters for tiny checkpoints, and what PEFT computes with them.

    python lora.py

Rebuilds `tests/fixtures/lora/`: one folder per adapter of `ADAPTERS`, as PEFT saves it (`adapter_config.json`,
`adapter_model.safetensors`), for a checkpoint that is a fixture already, and `expected.safetensors` with

- `tokens` i32 `[T]`: the prompt and then 12 forced tokens, all drawn at random;
- `prompt_len` i32 `[1]`: how many of `tokens` are the prompt;
- `logits` f32 `[T, vocabulary]`: row `t` is the adapted model's output after it has read `tokens[..=t]`;
- `plain` f32 `[T, vocabulary]`: the same without the adapter.

`base.txt` names the checkpoint's folder under `tests/fixtures`. The logits are those of transformers and PEFT in
float32 with eager attention and a cache: the prompt in one forward, then one token per forward. The script checks
that each adapter moves them by more than 0.1.
"""

import json
import shutil

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, DynamicCache

import recipe

STEPS = 12
OUTPUT = recipe.FIXTURES / "lora"
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Name: checkpoint and options of PEFT's LoraConfig.
ADAPTERS = {
    # Every projection.
    "llama": ("tiny-llama/head-dim", {"r": 4, "lora_alpha": 8, "target_modules": LLAMA}),
    # Another one for the same model: other modules, other rank, a scale that is no power of two.
    "llama-attention": (
        "tiny-llama/head-dim",
        {"r": 6, "lora_alpha": 7, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    ),
    # Ranks and scales by module, and a layer left alone.
    "llama-patterns": (
        "tiny-llama/head-dim",
        {
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ["k_proj", "o_proj", "gate_proj"],
            "rank_pattern": {"o_proj": 5, "layers.1.self_attn.k_proj": 3},
            "alpha_pattern": {"^model.layers.1.self_attn.k_proj": 9, "gate_proj": 1},
            "layers_to_transform": [1],
        },
    ),
    # Biases and a tied head.
    "qwen2": ("families/qwen2", {"r": 4, "lora_alpha": 4, "target_modules": LLAMA}),
    # Padded heads.
    "odd-heads": ("families/qwen3-odd-heads", {"r": 4, "lora_alpha": 8, "target_modules": LLAMA}),
    # A factor on residuals.
    "granite": ("families/granite", {"r": 4, "lora_alpha": 8, "target_modules": LLAMA}),
    # Parallel layers with one norm.
    "stablelm": ("families/stablelm-parallel", {"r": 4, "lora_alpha": 8, "target_modules": LLAMA}),
    # Biases and no gate.
    "starcoder2": (
        "families/starcoder2",
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "o_proj", "c_fc", "c_proj"]},
    ),
    # Norms after, a gate of another function.
    "gemma2": ("families/gemma2", {"r": 3, "lora_alpha": 6, "target_modules": LLAMA}),
    # Projections in one tensor, part by part.
    "phi3": (
        "families/phi3",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
        },
    ),
    # Head by head, no gate, and attention beside the feed-forward layer.
    "gpt-neox": (
        "families/gpt-neox",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
        },
    ),
    # Transposed weights.
    "gpt2": (
        "families/gpt2",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["c_attn", "c_proj", "c_fc"],
            "fan_in_fan_out": True,
        },
    ),
    # Attention of a mixture of experts.
    "mixtral": (
        "families/mixtral",
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    ),
}


def logits(model, tokens, prompt):
    """The model's outputs: the prompt in one forward, then one token per forward."""
    cache = DynamicCache(config=model.config)
    pieces = [tokens[:prompt]] + [tokens[i : i + 1] for i in range(prompt, len(tokens))]
    rows = []
    with torch.no_grad():
        for piece in pieces:
            out = model(input_ids=torch.tensor([piece]), past_key_values=cache, use_cache=True)
            rows.append(out.logits[0])
    return torch.cat(rows).to(torch.float32)


def load(base):
    """A checkpoint in float32."""
    return AutoModelForCausalLM.from_pretrained(
        recipe.FIXTURES / base, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def main():
    shutil.rmtree(OUTPUT, ignore_errors=True)
    for seed, (name, (base, options)) in enumerate(ADAPTERS.items()):
        generator = torch.Generator().manual_seed(100 + seed)
        folder = OUTPUT / name
        model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", **options))
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.data = (noise * 0.15).to(torch.bfloat16).to(torch.float32)
        model.peft_config["default"].base_model_name_or_path = f"fireside/{base}"
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        (folder / "base.txt").write_text(base + "\n")

        prompt = 9
        vocab = model.config.vocab_size
        tokens = torch.randint(3, vocab, (prompt + STEPS,), generator=generator).tolist()
        adapted = PeftModel.from_pretrained(load(base), folder).eval()
        own = logits(adapted, tokens, prompt)
        plain = logits(load(base), tokens, prompt)
        moved = (own - plain).abs().max().item()
        assert moved > 0.1, f"{name} moves logits by {moved} only"
        save_file(
            {
                "tokens": torch.tensor(tokens, dtype=torch.int32),
                "prompt_len": torch.tensor([prompt], dtype=torch.int32),
                "logits": own.contiguous(),
                "plain": plain.contiguous(),
            },
            folder / "expected.safetensors",
            metadata={"packages": json.dumps(recipe.packages() | {"peft": peft.__version__})},
        )
        print(f"{name}: logits move by up to {moved:.2f}")


if __name__ == "__main__":
    main()
