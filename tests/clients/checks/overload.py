"""More requests than may wait: what is admitted ends well, the rest is told to come again."""

import json
from concurrent.futures import ThreadPoolExecutor

from server import until
from wire import CHAT, COMPLETE, begin, receive, stream, text_of

QUEUE = 8
OPTIONS = ["--max-batch-size", "2", "--max-queued-requests", str(QUEUE)]
OPTIONS += ["--max-batch-prefill-tokens", "64"]
BODY = {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}


def prefills(server):
    return server.metrics().value("tgi_batch_inference_count", method="prefill")


def answers(connections):
    """What each gets, read to its end."""
    found = []
    for connection in connections:
        with connection:
            reply = receive(connection)
            found.append((reply.status, reply.headers, reply.read()))
    return found


def four_times_the_queue_in_both_dialects(setting):
    server = setting.server
    expected, _ = text_of(stream(server, COMPLETE, BODY | {"stream": True}))
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    tgi = {"inputs": BODY["prompt"], "parameters": {"max_new_tokens": 4}}
    kinds = [
        (COMPLETE, BODY),
        (COMPLETE, BODY | {"stream": True}),
        (CHAT, chat | {"stream": True}),
        ("/generate", tgi),
    ]
    sent = [kinds[n % len(kinds)] for n in range(4 * QUEUE + 2)]
    connections = [begin(server, path, body) for path, body in sent]
    # It says that it is alive and ready all the while: it is busy, not ill.
    server.check_health()
    admitted = refused = 0
    for (path, body), (status, headers, answer) in zip(sent, answers(connections)):
        if status == 429:
            refused += 1
            assert int(headers["retry-after"]) >= 1
            error = json.loads(answer)
            kind = error["error_type"] if path == "/generate" else error["error"]["type"]
            assert kind.startswith("overloaded"), error
            continue
        assert status == 200, (path, status, answer)
        admitted += 1
        if body.get("stream"):
            events = answer.decode().strip().split("\n\n")
            assert events[-1] == "data: [DONE]", events[-1]
        elif path == COMPLETE:
            assert json.loads(answer)["choices"][0]["text"] == expected
    assert admitted >= QUEUE and refused > 0, (admitted, refused)
    assert admitted + refused == len(sent)
    counted = server.metrics().value("vllm:admission_rejections_total")
    assert counted == refused, f"{counted} refusals are counted, {refused} were seen"
    server.wait_until_idle()
    assert text_of(stream(server, COMPLETE, BODY | {"stream": True}))[0] == expected
    return f"{admitted} of {len(sent)} admitted"


def five_hundred_at_once(setting):
    server = setting.server
    connections = [begin(server, COMPLETE, BODY | {"max_tokens": 1}) for _ in range(500)]
    until("a full queue or its end", lambda: server.waiting() <= QUEUE)
    statuses = [status for status, _, _ in answers(connections)]
    assert set(statuses) <= {200, 429}, set(statuses)
    assert statuses.count(200) >= QUEUE
    return f"{statuses.count(200)} admitted"


def a_short_prompt_overtakes_a_long_one(setting):
    """A long prompt is run in steps, and others join in between."""
    server = setting.server
    before = prefills(server)
    long = " ".join(str(number) for number in range(100, 180))
    slow = begin(server, COMPLETE, BODY | {"prompt": long, "stream": True, "max_tokens": 1})
    until("the first step of the long prompt", lambda: prefills(server) > before)
    quick = begin(server, COMPLETE, BODY | {"stream": True, "max_tokens": 1})
    order = []

    def read(name, connection):
        with connection:
            assert receive(connection).read().endswith(b"data: [DONE]\n\n")
            order.append(name)

    with ThreadPoolExecutor() as pool:
        for reading in [pool.submit(read, "long", slow), pool.submit(read, "short", quick)]:
            reading.result()
    assert order == ["short", "long"], "the short prompt waits for all of the long one"


CHECKS = [
    a_short_prompt_overtakes_a_long_one,
    four_times_the_queue_in_both_dialects,
    five_hundred_at_once,
]
