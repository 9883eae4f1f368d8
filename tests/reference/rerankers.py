"""Cross-encoders, and what transformers computes with them.

    python rerankers.py

Rebuilds `tests/fixtures/rerankers/`: one folder per model of `MODELS`, tiny and random, with `config.json`,
`tokenizer.json`, `model.safetensors` and `expected.json`, which holds

- `cases`: a query with its texts, and for each text

  - `tokens` and `types`: the pair as the tokenizer joins it, cut to the model's length with `longest_first`;
  - `logits`: what the model makes of it;
  - `scores`: the same after the model's own activation.

The logits are those of transformers' `BertForSequenceClassification` in float32 with eager attention, one pair at a
time. The script checks that a padded batch gives the same, that logits differ, and that token types count.
"""

import shutil

import torch
from safetensors.torch import save_file
from tokenizers import processors
from transformers import BertConfig, BertForSequenceClassification

import embeddings
import recipe
from tiny_llama import write_json

OUTPUT = recipe.FIXTURES / "rerankers"
CONFIG = embeddings.BERT | {
    "architectures": ["BertForSequenceClassification"],
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
}
IDENTITY = "torch.nn.modules.linear.Identity"

# Config, whether names have the `bert.` in front, the most tokens of a pair.
MODELS = {
    "bert-sigmoid": (CONFIG, True, 96),
    "bert-identity": (
        CONFIG
        | {"num_attention_heads": 3, "sentence_transformers": {"activation_fn": IDENTITY, "version": "5.4.0"}},
        False,
        48,
    ),
}

LONG = " ".join(embeddings.WORDS * 4)
CASES = [
    ("cold wolf", ["the wolf sleeps near the fire", "A cold, cold night!", "stone", "", "we burn old trees"]),
    ("Where do they sleep?", ["they sleep near the river", "zebra", "Snow; snow; SNOW!"]),
    ("a fire", [LONG, "fire"]),
    (LONG, [LONG, "the old wolf", "stone " * 30]),
]


def tokenizer(folder, longest):
    own = embeddings.tokenizer(folder, True)
    special = [(name, own.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    own.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    own.save(str(folder / "tokenizer.json"))
    own.enable_truncation(longest, strategy="longest_first")
    write_json(folder / "tokenizer_config.json", {"model_max_length": longest})
    return own


def logit(model, tokens, types):
    with torch.no_grad():
        return model(torch.tensor([tokens]), token_type_ids=torch.tensor([types])).logits[0, 0]


def check(model, encoded, logits):
    """A padded batch gives the same, logits differ, and types count."""
    longest = max(len(one.ids) for one in encoded)
    padded = [torch.tensor([part + [0] * (longest - len(part)) for part in parts]) for parts in (
        [one.ids for one in encoded],
        [one.type_ids for one in encoded],
        [[1] * len(one.ids) for one in encoded],
    )]
    with torch.no_grad():
        batch = model(padded[0], token_type_ids=padded[1], attention_mask=padded[2]).logits[:, 0]
    assert (batch - torch.stack(logits)).abs().max() < 1e-4
    ordered = sorted(float(one) for one in logits)
    assert min(b - a for a, b in zip(ordered, ordered[1:])) > 2e-3, ordered
    untyped = logit(model, encoded[0].ids, [0] * len(encoded[0].ids))
    assert abs(untyped - logits[0]) > 1e-3


def tiny(name, seed):
    fields, prefixed, longest = MODELS[name]
    folder = OUTPUT / name
    folder.mkdir(parents=True)
    write_json(folder / "config.json", fields)
    own = tokenizer(folder, longest)
    config = BertConfig(**fields)
    config._attn_implementation = "eager"
    assert config.num_labels == 1
    model = BertForSequenceClassification(config).float().eval()
    state = embeddings.random_state(model, seed)
    model.load_state_dict({key: value.float() for key, value in state.items()})
    if not prefixed:
        state = {key.removeprefix("bert."): value for key, value in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    activation = torch.nn.Identity() if "sentence_transformers" in fields else torch.nn.Sigmoid()
    cases = []
    for query, texts in CASES:
        encoded = [own.encode(query, text) for text in texts]
        logits = [logit(model, one.ids, one.type_ids) for one in encoded]
        check(model, encoded, logits)
        cases.append(
            {
                "query": query,
                "texts": texts,
                "tokens": [one.ids for one in encoded],
                "types": [one.type_ids for one in encoded],
                "logits": embeddings.rounded(logits),
                "scores": embeddings.rounded(activation(one) for one in logits),
            }
        )
    expected = {"recipe": "tests/reference/rerankers.py", **recipe.packages(), "cases": cases}
    embeddings.write_compact(folder / "expected.json", expected)


def main():
    shutil.rmtree(OUTPUT, ignore_errors=True)
    for seed, name in enumerate(MODELS, 11):
        tiny(name, seed)


if __name__ == "__main__":
    main()
