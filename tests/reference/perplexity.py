"""Perplexity by transformers in float32, and the float files that quantizations are measured on.

    python perplexity.py measure MODEL.gguf...          # prints a line per file
    python perplexity.py fixture MODEL.gguf             # ../fixtures/smollm2-perplexity.json
    python perplexity.py gemma3 GEMMA3.gguf             # ../fixtures/gemma3-perplexity.json
    python perplexity.py float MODEL.gguf FLOAT.gguf    # the same weights as F32
    python perplexity.py rotate MODEL.gguf FLOAT.gguf   # the same function from other weights, F32

`measure` reads `tests/fixtures/scandal.txt`: the opening of "A Scandal in Bohemia" by Arthur Conan Doyle (1892, in the
public domain), a paragraph a line, from Project Gutenberg's eBook 1661. The definition is that of llama.cpp's
llama-perplexity and of `fireside perplexity`: windows of 512 tokens that do not overlap, of which tokens 257 to 511
count. Weights are what the `gguf` package dequantizes the file to; the model is SmolLM2's. `fixture` does the same for
the first paragraph in windows of 64, which is quick enough for a test.
`gemma3` is the same for Gemma 3, whose windows begin with its beginning token; its fixture has the tokens and the
perplexity of each window, too.

No float weights of SmolLM2 come with this repository, only the Q4_1 file. `float` writes what its blocks stand for.
These values lie on a grid of 16 steps, which flatters a second rounding to Q4_1 and to nothing else. So `rotate` takes
another basis of the residual stream: gains of norms go into the projections behind them, then embedding, projections
and head are multiplied with a random orthogonal matrix (fixed seed). RMS norms commute with that, so the function is
the same but for rounding, and no weight is on a grid. Its weights are nearer to normally distributed than trained ones.
"""

import json
import sys

import gguf
import numpy as np
import torch

import gemma3
import recipe
from smollm2 import build_model, build_tokenizer

WINDOW = 512
TEXT = recipe.FIXTURES / "scandal.txt"
OUTPUT = recipe.FIXTURES / "smollm2-perplexity.json"
GEMMA3 = recipe.FIXTURES / "gemma3-perplexity.json"


@torch.no_grad()
def measure(path, text, width):
    """Perplexity of a text in windows of so many tokens, and how many tokens count."""
    reader = gguf.GGUFReader(path)
    assert not reader.fields.get("tokenizer.ggml.add_bos_token") or not (
        reader.fields["tokenizer.ggml.add_bos_token"].contents()
    ), "windows would have to begin with a begin-of-sequence token"
    ids = build_tokenizer(reader).encode(text, add_special_tokens=False)
    model = build_model(reader)
    surprises = torch.cat([surprises_of(model, window) for window in windows(ids, width)])
    return surprises.mean().exp().item(), len(surprises)


def windows(ids, width):
    return [ids[start : start + width] for start in range(0, len(ids) - width + 1, width)]


def surprises_of(model, window):
    """The negative log-probabilities of a window's tokens that count."""
    window, first = torch.tensor(window), len(window) // 2
    logprobs = model(window[None]).logits[0].double().log_softmax(-1)
    return -logprobs[first:-1].gather(1, window[first + 1 :, None])


@torch.no_grad()
def write_gemma3(path, text, width):
    """The fixture of Gemma 3."""
    reader = gguf.GGUFReader(path)
    begin = reader.fields["tokenizer.ggml.bos_token_id"].contents()
    ids = [begin] + gemma3.build_tokenizer(reader).encode(text)
    cut = [[begin] + window[1:] for window in windows(ids, width)]
    model = gemma3.build_model(reader)
    surprises = [surprises_of(model, window) for window in cut]
    rounded = lambda values: round(values.mean().exp().item(), 5)
    fixture = {
        "recipe": {"packages": recipe.packages(), "model_sha256": recipe.sha256(path)},
        "window": width,
        "counted": sum(map(len, surprises)),
        "perplexity": rounded(torch.cat(surprises)),
        "windows": [
            {"token_ids": window, "perplexity": rounded(own)} for window, own in zip(cut, surprises, strict=True)
        ],
    }
    GEMMA3.write_text(json.dumps(fixture) + "\n", encoding="utf-8")


def write(path, reader, weights):
    """A GGUF file with the metadata of another one and F32 weights."""
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = field.contents()
        if field.name == "general.file_type":
            value = int(gguf.LlamaFileType.ALL_F32)
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=sub_type)
    for name, weight in weights.items():
        writer.add_tensor(name, np.ascontiguousarray(weight, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rotated(weights):
    """The weights in another basis of the residual stream; the head is one of its own then."""
    weights = {name: weight.astype(np.float64) for name, weight in weights.items()}
    hidden = weights["output_norm.weight"].size
    random = np.random.Generator(np.random.PCG64(2161))
    basis, _ = np.linalg.qr(random.normal(size=(hidden, hidden)))
    ones = np.ones(hidden)
    out = {}
    embedding = weights["token_embd.weight"]
    out["token_embd.weight"] = embedding @ basis
    for name, weight in weights.items():
        part = name.removesuffix(".weight").split(".")[-1]
        layer = name.rsplit(".", 2)[0]
        if part in ("attn_q", "attn_k", "attn_v"):
            weight = weight * weights[f"{layer}.attn_norm.weight"] @ basis
        elif part in ("ffn_gate", "ffn_up"):
            weight = weight * weights[f"{layer}.ffn_norm.weight"] @ basis
        elif part in ("attn_output", "ffn_down"):
            weight = basis.T @ weight
        elif part in ("attn_norm", "ffn_norm", "output_norm"):
            weight = ones
        else:
            assert part in ("token_embd", "output"), name
            continue
        out[name] = weight
    head = weights.get("output.weight", embedding)
    out["output.weight"] = head * weights["output_norm.weight"] @ basis
    return out


def main(action, *paths):
    torch.set_num_threads(2)
    text = TEXT.read_text(encoding="utf-8")
    if action == "measure":
        for path in paths:
            value, counted = measure(path, text, WINDOW)
            print(f"{path}: {value:.4f}, {counted} tokens", flush=True)
        return
    if action == "gemma3":
        (path,) = paths
        write_gemma3(path, text.partition("\n")[0], 64)
        return
    if action == "fixture":
        (path,) = paths
        value, counted = measure(path, text.partition("\n")[0], 64)
        header = {"packages": recipe.packages(), "model_sha256": recipe.sha256(path)}
        fixture = {"recipe": header, "window": 64, "counted": counted, "perplexity": round(value, 5)}
        OUTPUT.write_text(json.dumps(fixture) + "\n", encoding="utf-8")
        return
    source, target = paths
    reader = gguf.GGUFReader(source)
    weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    write(target, reader, {"float": dict, "rotate": rotated}[action](weights))


if __name__ == "__main__":
    main(*sys.argv[1:])
