"""Writes an ONNX model with the weights of a Llama GGUF file, for ONNX Runtime's WebGPU provider.

usage: onnx_model.py MODEL.gguf OUT.onnx

The graph is what ONNX Runtime's own builder makes of such a model: MatMulNBits with blocks of 32,
GroupQueryAttention with rotation inside, normalization fused with the residual sum. Differences to the file:

- Q4_1 and Q4_0 stay 4 bits. The provider takes integer zero points only, so that a Q4_1 block, whose minimum is a
  number of its own, is rounded again to the scale and zero point that fit it best. Q4_0 is exact.
- Q8_0 stays 8 bits and is exact: the head. The embedding, of which a step reads a row, is 32-bit floats.
- The rows of Q and K go from neighbouring pairs to halves, which is exact.

The graph's float type is f32: a software adapter has no f16.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, dequantize
from onnx import TensorProto, helper, numpy_helper

BLOCK = 32
MS = "com.microsoft"
# Factors on a block's scale that are tried with each zero point.
SCALES = (0.94, 1.0, 1.06)


def four_bits(weights):
    """The levels, scales and zero points that fit blocks of 32 floats best, and the relative error."""
    rows, columns = weights.shape
    blocks = weights.reshape(rows, columns // BLOCK, BLOCK)
    low = np.minimum(blocks.min(axis=2), 0)
    high = np.maximum(blocks.max(axis=2), 0)
    step = np.maximum((high - low) / 15, 1e-12)
    best = np.full(step.shape, np.inf, dtype=np.float32)
    scale = step.copy()
    zero = np.zeros(step.shape, dtype=np.float32)
    for factor in SCALES:
        tried = step * factor
        for rounding in (np.floor, np.ceil):
            point = np.clip(rounding(-low / tried), 0, 15)
            levels = np.clip(np.rint(blocks / tried[..., None]) + point[..., None], 0, 15)
            error = (((levels - point[..., None]) * tried[..., None] - blocks) ** 2).sum(axis=2)
            better = error < best
            best = np.where(better, error, best)
            scale = np.where(better, tried, scale)
            zero = np.where(better, point, zero)
    levels = np.clip(np.rint(blocks / scale[..., None]) + zero[..., None], 0, 15)
    return levels.astype(np.uint8), scale.astype(np.float32), zero.astype(np.uint8), best.sum()


def nibbles(levels):
    """Two levels a byte, the first one low; an odd end is filled with zero."""
    if levels.shape[-1] % 2:
        levels = np.concatenate([levels, np.zeros_like(levels[..., :1])], axis=-1)
    return levels[..., 0::2] | (levels[..., 1::2] << 4)


class Writer:
    def __init__(self, reader):
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.reader = reader
        self.nodes = []
        self.constants = []
        self.error = 0.0
        self.energy = 0.0

    def field(self, name, fallback=None):
        field = self.reader.get_field(name)
        if field is None:
            if fallback is None:
                raise SystemExit(f"the file has no {name}")
            return fallback
        return field.contents()

    def floats(self, name):
        tensor = self.tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float32)

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op, inputs, outputs, domain="", **attributes):
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def product(self, name, source, weights, into):
        """`source` times the rows of 4-bit weights."""
        rows, columns = weights.shape
        levels, scale, zero, error = four_bits(weights)
        self.error += float(error)
        self.energy += float((weights.astype(np.float64) ** 2).sum())
        packed = nibbles(levels)
        inputs = [
            source,
            self.constant(f"{name}.quants", packed),
            self.constant(f"{name}.scales", scale.reshape(-1)),
            self.constant(f"{name}.zeros", nibbles(zero).reshape(-1)),
        ]
        sizes = dict(K=columns, N=rows, bits=4, block_size=BLOCK)
        return self.node("MatMulNBits", inputs, [into], MS, accuracy_level=4, **sizes)

    def head(self, source, into):
        """Logits from the head, or from the embedding where the file has none."""
        tensor = self.tensors.get("output.weight", self.tensors["token_embd.weight"])
        if tensor.tensor_type != Type.Q8_0:
            return self.product("head", source, self.floats(tensor.name), into)
        rows = tensor.data.reshape(-1, 34)
        scale = rows[:, :2].copy().view(np.float16).astype(np.float32)
        levels = (rows[:, 2:].view(np.int8).astype(np.int16) + 128).astype(np.uint8)
        vocab = int(tensor.shape[1])
        columns = int(tensor.shape[0])
        inputs = [
            source,
            self.constant("head.quants", levels.reshape(vocab, columns // BLOCK, BLOCK)),
            self.constant("head.scales", scale.reshape(-1)),
        ]
        sizes = dict(K=columns, N=vocab, bits=8, block_size=BLOCK)
        return self.node("MatMulNBits", inputs, [into], MS, accuracy_level=4, **sizes)


def halves(weights, heads):
    """Rows of a head from neighbouring pairs to halves."""
    rows, columns = weights.shape
    pairs = weights.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def build(source):
    reader = GGUFReader(source)
    w = Writer(reader)
    if w.field("general.architecture") != "llama":
        raise SystemExit(f"{source} is no llama model")
    layers = int(w.field("llama.block_count"))
    width = int(w.field("llama.embedding_length"))
    heads = int(w.field("llama.attention.head_count"))
    kv_heads = int(w.field("llama.attention.head_count_kv", heads))
    context = int(w.field("llama.context_length"))
    head = width // heads
    eps = float(w.field("llama.attention.layer_norm_rms_epsilon"))
    base = float(w.field("llama.rope.freq_base", 10000.0))

    angles = np.outer(np.arange(context), base ** (-np.arange(0, head, 2, dtype=np.float64) / head))
    cosines = w.constant("cos", np.cos(angles).astype(np.float32))
    sines = w.constant("sin", np.sin(angles).astype(np.float32))
    embedding = w.constant("embedding", w.floats("token_embd.weight"))
    vocab = int(w.tensors["token_embd.weight"].shape[1])

    # Lengths from the mask, as the provider wants them: on the CPU.
    one = w.constant("one", np.array([1], dtype=np.int64))
    w.node("ReduceSum", ["attention_mask", one], ["mask_sum"], keepdims=1)
    w.node("Sub", ["mask_sum", one], ["last_position"])
    w.node("Cast", ["last_position"], ["seqlens_k"], to=TensorProto.INT32)
    w.node("Shape", ["attention_mask"], ["mask_shape"])
    w.node("Gather", ["mask_shape", w.constant("axis", np.array(1, dtype=np.int64))], ["total"], axis=0)
    w.node("Cast", ["total"], ["total_sequence_length"], to=TensorProto.INT32)

    stream = w.node("Gather", [embedding, "input_ids"], ["embedded"])
    gain = w.constant("norm.0", w.floats("blk.0.attn_norm.weight"))
    normed = w.node("SimplifiedLayerNormalization", [stream, gain], ["normed.0"], epsilon=eps, axis=-1)
    inputs, outputs = [], []
    for at in range(layers):
        name = f"blk.{at}"
        parts = [
            halves(w.floats(f"{name}.attn_q.weight"), heads),
            halves(w.floats(f"{name}.attn_k.weight"), kv_heads),
            w.floats(f"{name}.attn_v.weight"),
        ]
        qkv = w.product(f"{name}.qkv", normed, np.concatenate(parts), f"{name}.qkv")
        attended, key, value = f"{name}.attended", f"present.{at}.key", f"present.{at}.value"
        past = [f"past_key_values.{at}.key", f"past_key_values.{at}.value"]
        w.node(
            "GroupQueryAttention",
            [qkv, "", "", *past, "seqlens_k", "total_sequence_length", cosines, sines],
            [attended, key, value],
            MS,
            num_heads=heads,
            kv_num_heads=kv_heads,
            scale=head**-0.5,
            do_rotary=1,
            rotary_interleaved=0,
        )
        for cache, length in ((past, "past"), ((key, value), "total")):
            shape = ["batch", kv_heads, length, head]
            ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in cache]
            (inputs if length == "past" else outputs).extend(ports)
        mixed = w.product(f"{name}.out", attended, w.floats(f"{name}.attn_output.weight"), f"{name}.mixed")
        gain = w.constant(f"{name}.ffn_norm", w.floats(f"{name}.ffn_norm.weight"))
        outs = [f"{name}.ffn_in", "", "", f"{name}.middle"]
        w.node("SkipSimplifiedLayerNormalization", [stream, mixed, gain], outs, MS, epsilon=eps)
        gate = w.product(f"{name}.gate", outs[0], w.floats(f"{name}.ffn_gate.weight"), f"{name}.gated")
        up = w.product(f"{name}.up", outs[0], w.floats(f"{name}.ffn_up.weight"), f"{name}.upped")
        w.node("Sigmoid", [gate], [f"{name}.sigmoid"])
        w.node("Mul", [gate, f"{name}.sigmoid"], [f"{name}.silu"])
        inner = w.node("Mul", [f"{name}.silu", up], [f"{name}.inner"])
        down = w.product(f"{name}.down", inner, w.floats(f"{name}.ffn_down.weight"), f"{name}.downed")
        following = "output_norm.weight" if at + 1 == layers else f"blk.{at + 1}.attn_norm.weight"
        gain = w.constant(f"norm.{at + 1}", w.floats(following))
        outs = [f"normed.{at + 1}", "", "", f"{name}.stream"]
        if at + 1 == layers:
            outs = outs[:1]
        w.node("SkipSimplifiedLayerNormalization", [f"{name}.middle", down, gain], outs, MS, epsilon=eps)
        normed, stream = outs[0], outs[-1]
    # Only the last position is asked for.
    last = w.constant("last", np.array([-1], dtype=np.int64))
    w.node("Gather", [normed, last], ["last_hidden"], axis=1)
    w.head("last_hidden", "logits")

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, vocab])
    graph = helper.make_graph(w.nodes, "llama", [ids, mask, *inputs], [logits, *outputs], w.constants)
    versions = [helper.make_opsetid("", 18), helper.make_opsetid(MS, 1)]
    model = helper.make_model(graph, opset_imports=versions, producer_name="fireside-bench")
    model.ir_version = 10
    shape = dict(layers=layers, kv_heads=kv_heads, head=head, vocab=vocab, context=context)
    for key, value in shape.items():
        model.metadata_props.add(key=key, value=str(value))
    error = (w.error / w.energy) ** 0.5 if w.energy else 0.0
    return model, error


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__.split("\n\n")[1])
    source, out = map(Path, sys.argv[1:])
    model, error = build(source)
    # Whole or not there at all.
    part = out.with_suffix(".part")
    onnx.save_model(model, part)
    part.replace(out)
    print(f"{out}: 4-bit weights rounded again, relative error {error:.4f}")


if __name__ == "__main__":
    main()
