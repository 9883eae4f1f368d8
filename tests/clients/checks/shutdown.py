"""The end of a server: told once, told twice, told while it loads, and out of time."""

import socket

from server import until
from wire import COMPLETE, JSON, Stream, begin, encode, head, post, receive

OWN = True
PROMPT = {
    "prompt": "The capital of France is",
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
}


def open_streams(server, count, tokens):
    streams = [Stream(server, COMPLETE, PROMPT | {"max_tokens": tokens}) for _ in range(count)]
    assert all(stream.next() for stream in streams)
    return streams


def is_refused(server, connection):
    """A request on a new connection, and one on a connection that was open before."""
    body = encode({"prompt": "Hello", "max_tokens": 1})
    connection.sendall(head("POST", COMPLETE, JSON, ("content-length", len(body))) + body)
    with connection:
        reply = receive(connection)
        assert reply.status == 503, reply.status
        assert int(reply.headers["retry-after"]) >= 1
        assert b"draining" in reply.read()
    try:
        fresh = post(server, COMPLETE, {"prompt": "Hello", "max_tokens": 1})
    except OSError:
        return
    assert fresh.status == 503, fresh.text()


def five_streams_end_and_no_new_one_begins(setting):
    with setting.start() as server:
        streams = open_streams(server, 5, 24)
        earlier = server.connect()
        server.terminate()
        until("an end of readiness", lambda: server.status("/health/ready") == 503)
        assert server.status("/health") == 200
        is_refused(server, earlier)
        ends = [stream.rest()[-1] for stream in streams]
        assert ends == ["[DONE]"] * 5, ends
        code = server.exit_code()
        assert code == 0, f"it ends with {code}"


def a_second_signal_ends_at_once(setting):
    with setting.start() as server:
        streams = open_streams(server, 2, 4000)
        waiting = begin(server, COMPLETE, PROMPT | {"max_tokens": 4000})
        server.terminate()
        until("an end of readiness", lambda: server.status("/health/ready") == 503)
        server.terminate()
        code = server.exit_code()
        assert code == 0, f"it ends with {code}"
        for stream in streams:
            stream.close()
        waiting.close()


def the_drain_timeout_ends_what_is_left(setting):
    with setting.start("--drain-timeout", "1") as server:
        [stream] = open_streams(server, 1, 4000)
        server.terminate()
        code = server.exit_code()
        assert code == 0, f"it ends with {code}"
        stream.close()


def one_that_still_loads_ends_as_well(setting):
    with setting.start(wait=False) as server:
        assert server.status("/health") == 200
        refused = post(server, COMPLETE, {"prompt": "Hello", "max_tokens": 1})
        # It may have loaded by now.
        assert refused.status in (200, 503), refused.text()
        server.terminate()
        code = server.exit_code()
        assert code == 0, f"it ends with {code}"


def the_port_is_free_afterwards(setting):
    with setting.start() as server:
        server.terminate()
        assert server.exit_code() == 0
        try:
            socket.create_connection(server.address).close()
        except ConnectionRefusedError:
            return
        raise AssertionError("something still listens")


CHECKS = [
    five_streams_end_and_no_new_one_begins,
    a_second_signal_ends_at_once,
    the_drain_timeout_ends_what_is_left,
    one_that_still_loads_ends_as_well,
    the_port_is_free_afterwards,
]
