"""transformers on the CPU, one thread: the GGUF's weights as 32-bit floats, as its loader makes them.

usage: hugging_face.py MODEL.gguf
"""

import json
import os
import sys
import time
from pathlib import Path

VOCABULARY_STEP = 7919


def say(value):
    print(json.dumps(value), flush=True)


def token(position, vocab, salt=0):
    return (position * VOCABULARY_STEP + 11 + salt * 104729) % vocab


def clock():
    times = os.times()
    return time.perf_counter(), times.user + times.system


def since(before):
    wall, cpu = clock()
    return {"wall_ms": (wall - before[0]) * 1e3, "cpu_ms": (cpu - before[1]) * 1e3}


class Peer:
    def __init__(self, path):
        import torch
        import transformers

        self.torch = torch
        torch.set_num_threads(1)
        transformers.logging.set_verbosity_error()
        path = Path(path)
        begin = time.perf_counter()
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32
        ).eval()
        self.vocab = self.model.config.vocab_size
        self.about = {
            "engine": f"transformers {transformers.__version__}, torch {torch.__version__}, f32",
            "adapter": {"name": "cpu", "backend": "torch", "software": True},
            "threads": 1,
            "load_seconds": time.perf_counter() - begin,
        }

    def step(self, rows, past=None):
        """The next tokens of some sequences, and their cache."""
        ids = self.torch.tensor(rows)
        with self.torch.inference_mode():
            out = self.model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1).tolist(), out.past_key_values

    def greedy(self, prompt, tokens, **_):
        [chosen], past = self.step([prompt])
        ids = [chosen]
        while len(ids) < tokens:
            [chosen], past = self.step([[chosen]], past)
            ids.append(chosen)
        return {"ids": ids}

    def prefill(self, tokens, salt=0):
        ids = [token(at, self.vocab, salt) for at in range(tokens)]
        before = clock()
        self.step([ids])
        return {"tokens": tokens, **since(before)}

    def decode(self, tokens, depth=0, sequences=1, salt=0):
        def ids(start, count):
            return [
                [token((start + at) * sequences + row, self.vocab) for at in range(count)] for row in range(sequences)
            ]

        past = self.step(ids(0, depth))[1] if depth else None
        before = clock()
        for at in range(tokens):
            past = self.step(ids(depth + at, 1), past)[1]
        return {"tokens": tokens * sequences, **since(before)}


def main():
    try:
        peer = Peer(sys.argv[1])
    except Exception as error:
        say({"skip": f"transformers does not load the file: {error}".splitlines()[0]})
        return
    say(peer.about)
    kinds = {"greedy": peer.greedy, "prefill": peer.prefill, "decode": peer.decode}
    for line in sys.stdin:
        request = json.loads(line)
        kind = request.pop("kind")
        if kind == "greedy":
            request.pop("text", None)
        try:
            say(kinds[kind](**request))
        except Exception as error:
            say({"error": f"{kind}: {error}".splitlines()[0]})


if __name__ == "__main__":
    main()
