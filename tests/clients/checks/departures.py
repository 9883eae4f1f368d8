"""Clients that leave: in the queue, in prefill, in decode, and a thousand at all of these."""

import contextlib

from server import until
from wire import COMPLETE, Stream, begin

# Two sequences run, so that a third one waits; and a long prompt takes many short steps.
OPTIONS = ["--max-batch-size", "2", "--max-batch-prefill-tokens", "64"]
DROPPED = {"err": "dropped"}
LONG = {
    "prompt": "The capital of France is",
    "max_tokens": 2000,
    "temperature": 0,
    "ignore_eos": True,
}
ROUND = 100
ROUNDS = 10


def dropped(server):
    return server.metrics().value("tgi_request_failure", **DROPPED)


def generated(server):
    return server.metrics().value("vllm:generation_tokens_total")


def decodes(server):
    return server.metrics().value("tgi_batch_inference_count", method="decode")


def prefills(server):
    return server.metrics().value("tgi_batch_inference_count", method="prefill")


@contextlib.contextmanager
def one_more_dropped(server):
    before = dropped(server)
    yield
    until("the loss of one client", lambda: dropped(server) == before + 1)


def wait_for_a_token(server):
    before = generated(server)
    until("a token", lambda: generated(server) > before)


def in_decode(setting):
    server = setting.server
    with one_more_dropped(server):
        stream = Stream(server, COMPLETE, LONG | {"stream": True})
        assert stream.next() and stream.next()
        stream.close()
    server.wait_until_idle()


def in_decode_without_a_stream(setting):
    server = setting.server
    with one_more_dropped(server):
        before = decodes(server)
        connection = begin(server, COMPLETE, LONG)
        until("a step of decode", lambda: decodes(server) > before)
        connection.close()
    server.wait_until_idle()


def in_prefill(setting):
    server = setting.server
    before, steps = generated(server), prefills(server)
    # Many steps long, and with nothing in it that another prompt has.
    prompt = " ".join(str(number) for number in range(600))
    with one_more_dropped(server):
        connection = begin(server, COMPLETE, LONG | {"prompt": prompt, "stream": True})
        until("the prompt's first step", lambda: prefills(server) > steps)
        connection.close()
    server.wait_until_idle()
    assert generated(server) == before, "the prompt is read to its end"


def in_the_queue(setting):
    server = setting.server
    streams = [Stream(server, COMPLETE, LONG | {"stream": True}) for _ in range(2)]
    assert all(stream.next() for stream in streams)
    for streaming in (True, False):
        with one_more_dropped(server):
            waiting = begin(server, COMPLETE, LONG | {"stream": streaming})
            until("one that waits", lambda: server.waiting() == 1)
            waiting.close()
        until("an empty queue", lambda: server.waiting() == 0)
        until("two that run", lambda: server.running() == 2)
    # Those that run have noticed nothing.
    for stream in streams:
        assert stream.next()
        stream.close()
    server.wait_until_idle()


def a_thousand_at_all_stages(setting):
    server = setting.server
    before = server.metrics()
    for number in range(ROUNDS):
        body = LONG | {"prompt": f"{number} is a number, and"}
        connections = [begin(server, COMPLETE, body | {"stream": n % 2 == 0}) for n in range(ROUND)]
        # All of them are in: two run, the others wait, and each round leaves at another stage.
        until("a full queue", lambda: server.running() + server.waiting() == ROUND)
        if number % 2:
            wait_for_a_token(server)
        for connection in connections:
            connection.close()
        server.wait_until_idle()
    after = server.metrics()
    # Every place was given back, or a later round would have found none.
    rejections = after.value("vllm:admission_rejections_total")
    assert rejections == before.value("vllm:admission_rejections_total"), rejections
    lost = after.value("tgi_request_failure", **DROPPED) - before.value(
        "tgi_request_failure", **DROPPED
    )
    assert lost == ROUND * ROUNDS, lost
    stream = Stream(server, COMPLETE, LONG | {"stream": True, "max_tokens": 3})
    assert stream.rest()[-1] == "[DONE]"


CHECKS = [in_decode, in_decode_without_a_stream, in_prefill, in_the_queue, a_thousand_at_all_stages]
