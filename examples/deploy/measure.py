"""Measures two things that a server promises, against one that runs.

    python measure.py second-turn [--url URL] [--tokens 1000] [--at-least 10]
    python measure.py overhead --pid PID [--url URL] [--concurrency 8] [--at-most 5]

second-turn asks a question of so many tokens and then a next one in the same conversation, and
compares the times to the first token: what the prefix cache is worth. Any server with OpenAI's
interface will do. overhead streams answers from `fireside serve` and tells how much of the CPU time
of that process went to its threads for HTTP, JSON, templates and tokens, where the rest is the
engine's and the device's; it reads /proc, so it runs on the server's own Linux machine.

Nothing but Python is needed. The key is taken from FIRESIDE_API_KEY. With a bound the exit code is 1
where it is not kept. Measure on a machine that does nothing else.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WORDS = """
    the of and to in is for on with as by at from this that are was be have not but all one new more
    time people year work world life day part number water long little good great small large place
    house school book story music light night morning city country river mountain sea sun moon star
""".split()
# Threads of the server that know nothing of the model, as its first one.
SERVING = "tokio-rt-worker"


def call(url, body=None):
    headers = {"content-type": "application/json"}
    key = os.environ.get("FIRESIDE_API_KEY")
    if key:
        headers["authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=600)


def chat(url, model, messages, max_tokens):
    """The seconds until the first text, the text, and the usage of a streamed answer."""
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = time.monotonic()
    first, text, usage = None, "", {}
    with call(f"{url}/chat/completions", body) as reply:
        for line in reply:
            data = line.decode().removeprefix("data:").strip()
            if not data.startswith("{"):
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise SystemExit(f"the server says: {chunk['error']}")
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                part = choice["delta"].get("content") or ""
                if part and first is None:
                    first = time.monotonic() - began
                text += part
    if first is None:
        raise SystemExit("the server gives no text")
    return first, text, usage


def question(words):
    return " ".join(random.choice(WORDS) for _ in range(words))


def user(text):
    return {"role": "user", "content": text}


def second_turn(given):
    model = first_model(given.url)
    chat(given.url, model, [user(question(8))], 1)
    ratios = []
    for _ in range(given.repeat):
        messages = [user(question(given.tokens))]
        first, text, _ = chat(given.url, model, messages, 16)
        messages += [{"role": "assistant", "content": text}, user("And then?")]
        second, _, usage = chat(given.url, model, messages, 16)
        ratios.append(first / second)
        tokens = usage.get("prompt_tokens")
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        print(
            f"first turn {first:.3f} s, second turn {second:.3f} s: {first / second:.1f} times sooner;"
            f" {cached} of {tokens} tokens were in the cache"
        )
    ratio = statistics.median(ratios)
    print(f"the second turn's first token comes {ratio:.1f} times sooner (median of {len(ratios)})")
    return given.at_least is None or ratio >= given.at_least


def cpu_seconds(pid):
    """The CPU time of a process so far, and what of it is none of the model's. Threads that serve may
    have ended; those of the engine and the device stay, so it is theirs that is taken off."""
    total, _ = spent(Path(f"/proc/{pid}/stat"))
    model = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            used, name = spent(task / "stat")
        except OSError:
            continue  # It ended.
        model += 0 if name == SERVING or task.name == str(pid) else used
    return total, total - model


def spent(stat):
    """The CPU seconds of a process or thread, and its name."""
    before, _, after = stat.read_text().rpartition(")")
    fields = after.split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds, before.partition("(")[2]


def overhead(given):
    model = first_model(given.url)
    chat(given.url, model, [user(question(8))], 1)
    if not Path(f"/proc/{given.pid}/task").exists():
        raise SystemExit(f"there is no process {given.pid}")

    def ask(_):
        return chat(given.url, model, [user(question(given.tokens))], given.max_tokens)[2]

    before, before_serving = cpu_seconds(given.pid)
    with ThreadPoolExecutor(given.concurrency) as pool:
        usages = list(pool.map(ask, range(4 * given.concurrency)))
    after, after_serving = cpu_seconds(given.pid)
    total, serving = after - before, after_serving - before_serving
    tokens = sum(usage.get("completion_tokens", 0) for usage in usages)
    share = 100 * serving / max(total, 1e-9)
    print(
        f"{len(usages)} answers, {tokens} tokens: {total:.2f} s of CPU, {serving:.2f} s of them for"
        f" HTTP, JSON and tokens ({1e6 * serving / max(tokens, 1):.0f} µs a token): {share:.1f} %"
    )
    return given.at_most is None or share <= given.at_most


def first_model(url):
    with call(f"{url}/models") as reply:
        return json.load(reply)["data"][0]["id"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, run in [("second-turn", second_turn), ("overhead", overhead)]:
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--url", default="http://127.0.0.1:8080/v1")
        if run is second_turn:
            command.add_argument("--tokens", type=int, default=1000, help="of the question, about")
            command.add_argument("--repeat", type=int, default=3)
            command.add_argument("--at-least", type=float, help="times sooner")
        else:
            command.add_argument("--pid", type=int, required=True, help="of the server")
            command.add_argument("--tokens", type=int, default=128, help="of a question, about")
            command.add_argument("--max-tokens", type=int, default=64, help="of an answer")
            command.add_argument("--concurrency", type=int, default=8)
            command.add_argument("--at-most", type=float, help="percent")
    given = parser.parse_args()
    try:
        kept = given.run(given)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{error.url} answers {error.code}: {error.read().decode()[:300]}") from error
    except urllib.error.URLError as error:
        raise SystemExit(f"{given.url} cannot be reached: {error.reason}") from error
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
