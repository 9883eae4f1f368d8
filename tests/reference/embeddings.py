"""Embedding models, and what transformers computes with them.

    python embeddings.py [MINILM_FOLDER]

Rebuilds `tests/fixtures/embeddings/`: one folder per model of `MODELS`, tiny and random, with `config.json`,
`tokenizer.json`, `model.safetensors`, sentence-transformers' small files and `expected.json`; and, from the folder
of all-MiniLM-L6-v2 where it is given, `minilm.json`, which needs the real file to be compared with. Each holds

- `texts`: what is embedded;
- `tokens`: their tokens, special ones included;
- `embeddings`: what the model's files make of their hidden states, one list of floats for each text;
- `states` (tiny models only): for the first three texts the hidden states of every token after the last layer and
  its norm.

The hidden states are those of transformers in float32 with eager attention, one text at a time. The script checks
that a padded batch gives the same, that the texts' embeddings differ, and that an encoder's first token sees the
last one.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel

import recipe
from tiny_llama import write_json

OUTPUT = recipe.FIXTURES / "embeddings"

BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 48,
    "intermediate_size": 84,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "vocab_size": 120,
}
NOMIC = {
    "model_type": "nomic_bert",
    "architectures": ["NomicBertModel"],
    "activation_function": "swiglu",
    "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 48,
    "n_head": 3,
    "n_inner": 60,
    "n_layer": 2,
    "n_positions": 128,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "type_vocab_size": 2,
    "vocab_size": 120,
}
# What transformers calls the fields of NOMIC, and its modules what they are called on the hub.
NOMIC_FIELDS = {
    "activation_function": "hidden_act",
    "layer_norm_epsilon": "layer_norm_eps",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
}
NOMIC_MODULES = {
    "embeddings.LayerNorm": "emb_ln",
    "layers.": "encoder.layers.",
    "self_attn.o_proj": "attn.out_proj",
    "up_proj": "fc11",
    "gate_proj": "fc12",
    "down_proj": "fc2",
    "post_attention_layernorm": "norm1",
    "post_mlp_layernorm": "norm2",
}
QWEN3 = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "eos_token_id": 3,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 48,
    "intermediate_size": 60,
    "max_position_embeddings": 1024,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "vocab_size": 120,
}

TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}

# Config, what pools, whether sentence-transformers' files say so, whether they norm.
MODELS = {
    "bert-mean": (BERT, "mean_tokens", True, True),
    "bert-cls": (BERT | {"num_attention_heads": 3, "hidden_act": "gelu_new"}, "cls_token", True, False),
    "bert-bare": (BERT | {"num_hidden_layers": 1, "type_vocab_size": 1}, "mean_tokens", False, True),
    "nomic-mean": (NOMIC, "mean_tokens", True, True),
    "qwen3-last": (QWEN3, "lasttoken", True, True),
}

WORDS = "the a fire cold warm night river stone we they sleep burn near old tree and of snow wolf".split()
TEXTS = [
    "the fire",
    "The old wolf and the cold river",
    "a",
    "we sleep near the warm fire, they burn old trees",
    " ".join(WORDS * 2),
    "Snow; snow; SNOW! zebra",
]
MINILM_TEXTS = [
    "A fire crackles in the fireplace.",
    "Das Feuer knistert im Kamin.",
    "The central bank raised interest rates by a quarter point.",
    "",
    "Naïve café — 数学 and emoji 🔥 in one text",
    "fn main() { println!(\"hello\"); }",
    "the " * 120 + "end",
]


def tokenizer(folder, encoder):
    """Lower-casing WordPiece with [CLS] and [SEP] around, or for a decoder a mark at the end."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ",", ";", "!", "##s", *WORDS]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces += [*letters, *(f"##{letter}" for letter in letters)]
    pieces = list(dict.fromkeys(pieces))
    vocab = {piece: number for number, piece in enumerate(pieces)}
    own = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    own.normalizer = normalizers.BertNormalizer(lowercase=True)
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    own.decoder = decoders.WordPiece()
    own.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    around = "[CLS] $A [SEP]" if encoder else "$A [SEP]"
    special = [(name, vocab[name]) for name in ("[CLS]", "[SEP]") if name in around]
    own.post_processor = processors.TemplateProcessing(single=around, special_tokens=special)
    own.save(str(folder / "tokenizer.json"))
    return own


def random_state(model, seed):
    """Weights that make tokens matter: norms near one, the rest with a deviation of 0.3."""
    random, state = torch.Generator().manual_seed(seed), {}
    for name, old in model.state_dict().items():
        values = torch.randn(old.shape, generator=random) * 0.3
        if "norm" in name.lower() and name.endswith("weight"):
            values = values + 1
        state[name] = values.bfloat16().contiguous()
    return state


def as_nomic(state):
    """A state under the hub's names: projections fused, the rest renamed."""
    renamed = {}
    for name, tensor in state.items():
        if "q_proj" in name:
            parts = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            name, tensor = name.replace("self_attn.q_proj", "attn.Wqkv"), torch.cat(parts)
        elif "k_proj" in name or "v_proj" in name:
            continue
        for own, theirs in NOMIC_MODULES.items():
            name = name.replace(own, theirs)
        renamed[name] = tensor
    return renamed


def write_compact(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")


def pooled(states, way, norm):
    chosen = {"mean_tokens": states.mean(0), "cls_token": states[0], "lasttoken": states[-1]}[way]
    return chosen / chosen.norm() if norm else chosen


def hidden(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).last_hidden_state[0]


def check(model, encoded, way, norm):
    """A padded batch gives the same, texts differ, and an encoder looks ahead."""
    longest = max(map(len, encoded))
    ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in encoded])
    mask = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in encoded])
    with torch.no_grad():
        batch = model(ids, attention_mask=mask).last_hidden_state
    found = []
    for tokens, states in zip(encoded, batch, strict=True):
        alone = hidden(model, tokens)
        assert (states[: len(tokens)] - alone).abs().max() < 1e-4
        found.append(pooled(alone, way, True))
    cosines = torch.stack(found) @ torch.stack(found).T - torch.eye(len(found))
    assert cosines.max() < 0.999, cosines.max()
    whole, short = hidden(model, encoded[1]), hidden(model, encoded[1][:-1])
    ahead = (whole[0] - short[0]).abs().max()
    assert ahead < 1e-5 if model.config.model_type == "qwen3" else ahead > 1e-3


def rounded(values):
    return [round(float(value), 6) for value in values]


def tiny(name):
    config, way, says, norm = MODELS[name]
    folder = OUTPUT / name
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    own = tokenizer(folder, config["model_type"] != "qwen3")
    nomic = config["model_type"] == "nomic_bert"
    fields = {NOMIC_FIELDS.get(field, field): value for field, value in config.items()} if nomic else dict(config)
    if nomic:
        fields |= {"hidden_act": "silu", "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}
    wanted = AutoConfig.for_model(**fields)
    wanted._attn_implementation = "eager"
    kinds = {"add_pooling_layer": False} if config["model_type"] == "bert" else {}
    model = AutoModel.from_config(wanted, **kinds).float().eval()
    state = random_state(model, 11)
    model.load_state_dict({key: value.float() for key, value in state.items()})
    save_file(as_nomic(state) if nomic else state, folder / "model.safetensors", metadata={"format": "pt"})
    if says:
        write_json(folder / "modules.json", [TRANSFORMER, POOLING] + ([NORMALIZE] if norm else []))
        (folder / "1_Pooling").mkdir()
        modes = {f"pooling_mode_{mode}": mode == way for mode in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")}
        write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 48} | modes)
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
        prompts = {"prompts": {"query": "we burn ", "document": ""}, "default_prompt_name": None}
        write_json(folder / "config_sentence_transformers.json", prompts)
    encoded = [own.encode(text).ids for text in TEXTS]
    check(model, encoded, way, norm)
    states = [hidden(model, tokens) for tokens in encoded]
    write_compact(
        folder / "expected.json",
        {
            "recipe": "tests/reference/embeddings.py",
            **recipe.packages(),
            "texts": TEXTS,
            "tokens": encoded,
            "embeddings": [rounded(pooled(s, way, norm)) for s in states],
            "states": [[rounded(row) for row in s] for s in states[:3]],
        },
    )


def minilm(folder):
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").float().eval()
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.no_padding()
    own.no_truncation()
    encoded = [own.encode(text).ids for text in MINILM_TEXTS]
    states = [hidden(model, tokens) for tokens in encoded]
    write_compact(
        OUTPUT / "minilm.json",
        {
            "recipe": "tests/reference/embeddings.py",
            "sha256": recipe.sha256(folder / "model.safetensors"),
            **recipe.packages(),
            "texts": MINILM_TEXTS,
            "tokens": encoded,
            "embeddings": [rounded(pooled(s, "mean_tokens", True)) for s in states],
        },
    )


def main():
    shutil.rmtree(OUTPUT, ignore_errors=True)
    for name in MODELS:
        tiny(name)
    if len(sys.argv) > 1:
        minilm(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
