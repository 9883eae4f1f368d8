"""A tiny random Llama as one GGUF file, and the same in three parts as gguf-split writes them.

    python tiny_gguf.py

Rebuilds `tests/fixtures/tiny-gguf/`: `whole.gguf`, and `tiny-00001-of-00003.gguf` and its siblings. The first part
has the metadata, each one `split.no`, `split.count` and `split.tensors.count`. Matrices are Q8_0, so that the parts
lie at odd places; the vocabulary is that of bytes, the chat template a plain one, and the context long, so that a
prompt may take several steps. Only the `gguf` package and numpy are needed; the weights come from PCG64 with one seed.
The script reads all files back and compares them.
"""

import shutil

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, TokenType
from gguf.quants import quantize

import recipe

OUTPUT = recipe.FIXTURES / "tiny-gguf"
HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 64, 96, 4, 2, 16, 2
PARTS = 3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# A byte-level vocabulary has merges: one will do.
MERGED = ("t", "h")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_letters():
    """The letters that byte-level vocabularies write bytes with, in the order of the bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def tensors():
    """Names and values, in the order of the file; matrices are to be quantized."""
    random = np.random.Generator(np.random.PCG64(5000))
    matrix = lambda rows, columns, deviation=0.2: random.normal(0.0, deviation, (rows, columns)).astype(np.float32)
    norm = lambda: random.uniform(0.5, 1.5, HIDDEN).astype(np.float32)
    yield "token_embd.weight", matrix(256 + len(SPECIAL) + 1, HIDDEN, 0.3)
    for layer in range(LAYERS):
        stem = f"blk.{layer}."
        yield stem + "attn_norm.weight", norm()
        yield stem + "attn_q.weight", matrix(HEADS * HEAD_DIM, HIDDEN)
        yield stem + "attn_k.weight", matrix(KV_HEADS * HEAD_DIM, HIDDEN)
        yield stem + "attn_v.weight", matrix(KV_HEADS * HEAD_DIM, HIDDEN)
        yield stem + "attn_output.weight", matrix(HIDDEN, HEADS * HEAD_DIM)
        yield stem + "ffn_norm.weight", norm()
        yield stem + "ffn_gate.weight", matrix(INNER, HIDDEN)
        yield stem + "ffn_up.weight", matrix(INNER, HIDDEN)
        yield stem + "ffn_down.weight", matrix(HIDDEN, INNER)
    yield "output_norm.weight", norm()


def write(path, all_tensors, **split):
    writer = GGUFWriter(path, "llama", **split)
    writer.add_name("tiny")
    writer.add_context_length(8192)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    letters = byte_letters()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(letters + SPECIAL + ["".join(MERGED)])
    kinds = [TokenType.NORMAL] * len(letters) + [TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(MERGED)])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, values in all_tensors:
        kind = GGMLQuantizationType.Q8_0 if values.ndim == 2 and values.shape[1] % 32 == 0 else None
        writer.add_tensor(name, quantize(values, kind) if kind else values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    all_tensors = list(tensors())
    write(OUTPUT / "whole.gguf", all_tensors)
    write(OUTPUT / "tiny.gguf", all_tensors, split_max_tensors=-(-len(all_tensors) // PARTS))
    parts = [OUTPUT / f"tiny-{part + 1:05}-of-{PARTS:05}.gguf" for part in range(PARTS)]
    assert sorted(OUTPUT.iterdir()) == sorted([*parts, OUTPUT / "whole.gguf"]), list(OUTPUT.iterdir())
    whole = {tensor.name: tensor for tensor in GGUFReader(OUTPUT / "whole.gguf").tensors}
    found = []
    for number, path in enumerate(parts):
        reader = GGUFReader(path)
        field = lambda key: int(reader.fields[key].parts[-1][0])
        assert (field("split.no"), field("split.count")) == (number, PARTS)
        assert field("split.tensors.count") == len(whole)
        found += reader.tensors
    assert len(found) == len(whole)
    for tensor in found:
        assert np.array_equal(tensor.data, whole[tensor.name].data), tensor.name
    for path in sorted(OUTPUT.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
