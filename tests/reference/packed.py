"""Tiny random Llama checkpoints whose linear weights are packed as quantizers pack them.

    python packed.py

Rebuilds `tests/fixtures/packed/`, one Hugging Face folder per scheme (GPTQ, AWQ, 8-bit floats): `config.json` with
its `quantization_config`, `model.safetensors`, `tokenizer.json` (that of `tiny-llama/tied`), and
`expected.safetensors` as tiny_llama.py describes it, without the greedy continuation. The logits are those of
transformers in float32 with the weights that the packed ones stand for. How AutoGPTQ, AutoAWQ and PyTorch pack is
proved apart: crates/fireside-formats/tests/fixtures/make_packed.py.
"""

import json
import shutil

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

import recipe

OUTPUT = recipe.FIXTURES / "packed"
CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "tie_word_embeddings": False,
    "max_position_embeddings": 256,
}
GROUP = 32
PROMPT, FORCED = 24, 8
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def words(values: torch.Tensor) -> torch.Tensor:
    """Runs of 8 integers of 4 bits as words, the first in the lowest bits."""
    parts = values.reshape(*values.shape[:-1], -1, 8).to(torch.int64)
    word = sum(parts[..., at] << (4 * at) for at in range(8))
    return torch.where(word >= 2**31, word - 2**32, word).to(torch.int32).contiguous()


def rounded(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Integers [in, out], and scales and zero points [groups, out]."""
    columns = weight.T.reshape(-1, GROUP, weight.shape[0])
    low, high = columns.amin(1), columns.amax(1)
    scales = ((high - low) / 15).half()
    zeros = (-low / scales.float()).round().clamp(1, 15)
    integers = (columns / scales.float()[:, None] + zeros[:, None]).round().clamp(0, 15)
    return integers.reshape(-1, weight.shape[0]), scales, zeros


def spread(values: torch.Tensor) -> torch.Tensor:
    return values.float().repeat_interleave(GROUP, 0)


def gptq(base: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    integers, scales, zeros = rounded(weight)
    order = torch.arange(weight.shape[1], dtype=torch.int32) // GROUP
    own = {"qweight": words(integers.T).T.contiguous(), "qzeros": words(zeros - 1), "scales": scales, "g_idx": order}
    return {f"{base}.{name}": tensor for name, tensor in own.items()}, ((integers - spread(zeros)) * spread(scales)).T


def awq(base: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    integers, scales, zeros = rounded(weight)
    ordered = [8 * word + at for word in range(weight.shape[0] // 8) for at in AWQ_ORDER]
    own = {"qweight": words(integers[:, ordered]), "qzeros": words(zeros[:, ordered]), "scales": scales}
    return {f"{base}.{name}": tensor for name, tensor in own.items()}, ((integers - spread(zeros)) * spread(scales)).T


def fp8(base: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    scale = (weight.abs().amax(1, keepdim=True) / 448).to(torch.bfloat16)
    small = (weight / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn)
    own = {f"{base}.weight": small, f"{base}.weight_scale": scale}
    return own, (small.float() * scale.float()).half().float()


SCHEMES = {
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False}),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}),
    "fp8": (fp8, {"quant_method": "compressed-tensors", "format": "float-quantized"}),
}


@torch.no_grad()
def main() -> None:
    for name, (pack, config) in SCHEMES.items():
        torch.manual_seed(41)
        folder = OUTPUT / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = LlamaForCausalLM(LlamaConfig(**CONFIG, attn_implementation="eager")).float().eval()
        tensors = {}
        for parameter, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.uniform_(0.5, 1.5)
            else:
                weight.normal_(0, 0.2)
            if "layers" in parameter and weight.dim() == 2:
                packed, values = pack(parameter.removesuffix(".weight"), weight)
                tensors |= packed
                weight.copy_(values)
            else:
                tensors[parameter] = weight.clone()
        tokens = torch.randint(3, CONFIG["vocab_size"], (1, PROMPT + FORCED))
        logits = model(tokens).logits[0]
        assert 0.5 < logits.std() < 5, logits.std()
        save_file(tensors, folder / "model.safetensors")
        expected = {"tokens": tokens[0].to(torch.int32), "prompt_len": torch.tensor([PROMPT], dtype=torch.int32)}
        save_file(expected | {"logits": logits.contiguous()}, folder / "expected.safetensors")
        whole = json.loads(model.config.to_json_string()) | {"quantization_config": config}
        (folder / "config.json").write_text(json.dumps(whole, indent=2) + "\n")
        shutil.copy(recipe.FIXTURES / "tiny-llama/tied/tokenizer.json", folder)


if __name__ == "__main__":
    main()
