"""A stream's text is the whole answer's, whatever the characters, the seed and the stop strings."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

from wire import CHAT, COMPLETE, post, stream, text_of

# Prompts that a small model goes on with in kind: characters of several tokens, of several code
# points, written from right to left, and what JSON and event streams have to escape.
CORPUS = {
    "emoji": "😀 🎉 🚀 😀 🎉",
    "joined emoji": "👩‍👩‍👧‍👦 👩‍👩‍👧",
    "chinese": "东京、大阪、东京、大",
    "japanese": "ありがとう。ありが",
    "korean": "안녕하세요. 안녕",
    "arabic": "مرحبا بالعالم مرحبا",
    "hebrew": "שלום עולם שלום",
    "hindi": "नमस्ते नमस्ते",
    "combining": "e\u0301 a\u0300 e\u0301 a\u0300 e\u0301 a\u0300",
    "escapes": 'print("a\\tb\\n")\r\nprint("a',
    "english": "One, two, three, four, five, six,",
}
# Those that are enough where every prompt would take too long.
SOME = ("emoji", "joined emoji", "chinese", "arabic", "escapes")
TOKENS = 8
GREEDY = {"temperature": 0}
SAMPLED = {"temperature": 1.0, "top_p": 0.95, "seed": 1}


def at_once(calls):
    """The results of calls that share the server's batches."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda call: call(), calls))


def whole(server, path, body):
    """The text and the finish reason of a whole answer."""
    reply = post(server, path, body)
    assert reply.status == 200, reply.text()
    choice = reply.json()["choices"][0]
    text = choice["text"] if path == COMPLETE else choice["message"]["content"]
    return text, choice["finish_reason"]


def streamed(server, path, body):
    return text_of(stream(server, path, body | {"stream": True}))


def both(server, bodies, path=COMPLETE):
    """The whole and the streamed answers."""
    # One after the other, so that the second finds the prompts in the cache.
    wholes = at_once([lambda b=b: whole(server, path, b) for b in bodies])
    streams = at_once([lambda b=b: streamed(server, path, b) for b in bodies])
    return list(zip(wholes, streams))


def parts_of(server, body):
    """The texts of a stream's events."""
    events = stream(server, COMPLETE, body | {"stream": True})[:-1]
    return [json.loads(event)["choices"][0]["text"] for event in events]


def completions_stream_their_text(setting):
    bodies = [{"prompt": prompt, "max_tokens": TOKENS} | GREEDY for prompt in CORPUS.values()]
    bodies += [{"prompt": CORPUS[name], "max_tokens": TOKENS} | SAMPLED for name in SOME]
    beyond = 0
    for body, (one, other) in zip(bodies, both(setting.server, bodies)):
        assert one == other, (body, one, other)
        beyond += not one[0].isascii()
    # The corpus would prove nothing if the model answered it in English.
    assert beyond > len(bodies) / 2, f"{beyond} of {len(bodies)} texts are beyond ascii"
    return f"{beyond} of {len(bodies)} texts beyond ascii"


def chats_stream_their_text(setting):
    bodies = [
        {"messages": [{"role": "user", "content": f"Repeat: {CORPUS[name]}"}], "max_tokens": TOKENS}
        | (SAMPLED if name == "emoji" else GREEDY)
        for name in SOME
    ]
    for body, (one, other) in zip(bodies, both(setting.server, bodies, CHAT)):
        assert one == other, (body, one, other)


def tgi_streams_its_text(setting):
    def one(body):
        reply = post(setting.server, "/generate", body)
        assert reply.status == 200, reply.text()
        return reply.json()["generated_text"]

    def other(body):
        events = [json.loads(event) for event in stream(setting.server, "/generate_stream", body)]
        assert [event["index"] for event in events] == list(range(1, len(events) + 1))
        assert all(event["generated_text"] is None for event in events[:-1])
        shown = "".join(event["token"]["text"] for event in events if not event["token"]["special"])
        return shown, events[-1]["generated_text"]

    bodies = [
        {"inputs": prompt, "parameters": {"max_new_tokens": TOKENS} | how}
        for prompt, how in [
            *((CORPUS[name], {}) for name in SOME),
            (CORPUS["emoji"], {"do_sample": True, "seed": 5}),
        ]
    ]
    results = at_once([lambda b=b, f=f: f(b) for b in bodies for f in (one, other)])
    for body, text, (shown, last) in zip(bodies, results[::2], results[1::2]):
        assert last == text, (body, last, text)
        assert shown == text, (body, shown, text)


def a_limit_inside_of_a_character_ends_before_it(setting):
    limits = range(1, 7)
    bodies = [
        {"prompt": CORPUS[name], "max_tokens": most} | GREEDY
        for name in ("emoji", "chinese", "hindi")
        for most in limits
    ]
    pairs = both(setting.server, bodies)
    for body, (one, other) in zip(bodies, pairs):
        assert one == other, (body, one, other)
        assert one[1] == "length", (body, one)
    cuts = 0
    for first in range(0, len(bodies), len(limits)):
        # What is left of a cut character is told as one replacement character, at the very end.
        texts = [one[0].removesuffix("\ufffd") for one, _ in pairs[first : first + len(limits)]]
        assert not any("\ufffd" in text for text in texts), texts
        for shorter, longer in zip(texts, texts[1:]):
            assert longer.startswith(shorter), texts
        # Where one token more gives no more text, a character was cut.
        cuts += len(texts) - len(set(texts))
    assert cuts > 0, "no limit cut a character"
    return f"{cuts} characters cut"


def stop_strings_across_tokens_are_never_sent(setting):
    server = setting.server
    bodies = [{"prompt": prompt, "max_tokens": TOKENS} | GREEDY for prompt in CORPUS.values()]
    streams = at_once([lambda b=b: parts_of(server, b) for b in bodies])
    stopping, expected, crossing = [], [], 0
    for body, parts in zip(bodies, streams):
        # An event has a token's text, but for those of parts of characters: borders of events are
        # borders of tokens.
        text, borders = "".join(parts), list(itertools.accumulate(map(len, parts)))
        for at in {1, len(text) // 2} if len(text) > 5 else ():
            stop = text[at : at + 4]
            stopping.append(body | {"stop": [stop, "never there"] if at % 2 else stop})
            expected.append((text[: text.find(stop)], "stop"))
            crossing += any(at < border < at + len(stop) for border in borders)
    for body, result, (one, other) in zip(stopping, expected, both(server, stopping)):
        assert one == result, (body, one, result)
        assert other == result, (body, other, result)
    assert crossing > 5, f"{crossing} of {len(stopping)} stop strings lie across tokens"
    return f"{crossing} of {len(stopping)} stop strings across tokens"


def nothing_of_a_stop_string_comes_before_it_is_known(setting):
    """What is held back for a stop string that does not come is sent all the same."""
    body = {"prompt": CORPUS["english"], "max_tokens": TOKENS} | GREEDY
    text, _ = whole(setting.server, COMPLETE, body)
    # Each begins somewhere in the text, and none is in it.
    almost = [text[at : at + 5] + "\u0000" for at in (0, len(text) // 2)] + [text[-2:] + "\u0000"]
    events = stream(setting.server, COMPLETE, body | {"stop": almost, "stream": True})
    assert text_of(events) == (text, "length")


CHECKS = [
    completions_stream_their_text,
    chats_stream_their_text,
    tgi_streams_its_text,
    a_limit_inside_of_a_character_ends_before_it,
    stop_strings_across_tokens_are_never_sent,
    nothing_of_a_stop_string_comes_before_it_is_known,
]
