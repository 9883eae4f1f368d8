"""A second, independent forward pass of a Llama GGUF file: numpy only, float64, no cache.

It shares nothing with the transformers run but the file. Blocks are decoded here from their bytes, and the
file's own row order of Q and K is kept, with the rotation of adjacent pairs that this order is made for
(transformers rotates the two halves of un-permuted rows instead). Agreement of the two therefore proves the
mapping of weights as well as the arithmetic.
"""

import numpy as np


def dequantize(tensor):
    """Float32 matrix `[rows, columns]` (or vector) of a `gguf.ReaderTensor` in F32, Q8_0 or Q4_1."""
    shape = tuple(int(n) for n in reversed(tensor.shape))
    raw = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8)
    kind = tensor.tensor_type.name
    if kind == "F32":
        return raw.view(np.float32).reshape(shape)
    if kind == "Q8_0":  # 2 bytes of f16 scale, 32 signed bytes
        block = raw.reshape(-1, 34)
        scale = block[:, :2].copy().view(np.float16).astype(np.float32)
        return (block[:, 2:].copy().view(np.int8).astype(np.float32) * scale).reshape(shape)
    if kind == "Q4_1":  # f16 scale, f16 minimum, 16 bytes: low nibbles are values 0-15, high nibbles 16-31
        block = raw.reshape(-1, 20)
        scale = block[:, 0:2].copy().view(np.float16).astype(np.float32)
        minimum = block[:, 2:4].copy().view(np.float16).astype(np.float32)
        nibbles = np.concatenate([block[:, 4:] & 15, block[:, 4:] >> 4], axis=1).astype(np.float32)
        return (nibbles * scale + minimum).reshape(shape)
    raise ValueError(f"tensor {tensor.name}: type {kind} is not read here")


class NumpyLlama:
    """The model of one GGUF file, held as float32 and computed in float64."""

    def __init__(self, reader):
        field = lambda key: reader.fields[key].contents()
        self.weights = {tensor.name: dequantize(tensor) for tensor in reader.tensors}
        self.layers = field("llama.block_count")
        self.heads = field("llama.attention.head_count")
        self.kv_heads = field("llama.attention.head_count_kv")
        self.head_dim = field("llama.rope.dimension_count")
        self.eps = field("llama.attention.layer_norm_rms_epsilon")
        self.theta = field("llama.rope.freq_base")

    def _linear(self, x, name):
        return x @ self.weights[name].astype(np.float64).T

    def _norm(self, x, name):
        scale = 1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps)
        return x * scale * self.weights[name].astype(np.float64)

    def _rotate(self, x, cos, sin):
        """Rotates adjacent pairs of `x` `[tokens, heads, head_dim]` by angles `[tokens, head_dim / 2]`."""
        even, odd = x[..., 0::2], x[..., 1::2]
        cos, sin = cos[:, None, :], sin[:, None, :]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def logits(self, tokens, first):
        """Float64 logits `[len(tokens) - first, vocabulary]` at positions `first..`, in one causal pass."""
        count = len(tokens)
        frequencies = self.theta ** (-np.arange(0, self.head_dim, 2) / self.head_dim)
        angles = np.arange(count)[:, None] * frequencies[None, :]
        cos, sin = np.cos(angles), np.sin(angles)
        future = np.triu(np.ones((count, count), dtype=bool), k=1)
        group = self.heads // self.kv_heads

        x = self.weights["token_embd.weight"][tokens].astype(np.float64)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            h = self._norm(x, block + "attn_norm.weight")
            q = self._linear(h, block + "attn_q.weight").reshape(count, self.heads, self.head_dim)
            k = self._linear(h, block + "attn_k.weight").reshape(count, self.kv_heads, self.head_dim)
            v = self._linear(h, block + "attn_v.weight").reshape(count, self.kv_heads, self.head_dim)
            q, k = self._rotate(q, cos, sin), self._rotate(k, cos, sin)
            out = np.empty_like(q)
            for head in range(self.heads):
                scores = q[:, head] @ k[:, head // group].T / np.sqrt(self.head_dim)
                scores[future] = -np.inf
                scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
                scores /= scores.sum(axis=-1, keepdims=True)
                out[:, head] = scores @ v[:, head // group]
            x = x + self._linear(out.reshape(count, -1), block + "attn_output.weight")
            h = self._norm(x, block + "ffn_norm.weight")
            gate = self._linear(h, block + "ffn_gate.weight")
            gate = gate / (1.0 + np.exp(-gate)) * self._linear(h, block + "ffn_up.weight")
            x = x + self._linear(gate, block + "ffn_down.weight")
        x = self._norm(x[first:], "output_norm.weight")
        head = "output.weight" if "output.weight" in self.weights else "token_embd.weight"
        return self._linear(x, head)
