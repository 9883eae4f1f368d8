"""What goes wrong below HTTP's body: heads, lengths, half requests, readers that do not read."""

import json
import socket

from server import until
from wire import CHAT, COMPLETE, JSON, Stream, begin, call, encode, exchange, head, post, receive

PROMPT = "The capital of France is"


def closed_or(reply, *statuses):
    """Whether the server closed, or refused with one of these."""
    return reply is None or reply.status in statuses


def bodies_over_the_limit_keep_memory_flat(setting):
    server = setting.server
    limit = server.json("/info")["payload_limit"]
    before = server.memory()
    for path in (COMPLETE, "/generate"):
        reply = exchange(server, head("POST", path, JSON, ("content-length", limit + 1)))
        assert reply.status == 413, (path, reply.status)
        assert str(limit) in reply.text() and reply.headers["connection"] == "close"
        # A length that no server should take at its word.
        reply = exchange(server, head("POST", path, JSON, ("content-length", 2**62)))
        assert closed_or(reply, 413), (path, reply.status)
        # No length: it ends where the limit is, not where the client does.
        with server.connect() as connection:
            connection.sendall(head("POST", path, JSON, ("transfer-encoding", "chunked")))
            chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            try:
                for _ in range(50 * limit // 0x10000):
                    connection.sendall(chunk)
            except (BrokenPipeError, ConnectionResetError):
                pass
            else:
                raise AssertionError("the server takes fifty times its limit")
    if before is not None:
        more = server.memory() - before
        assert more < 20 * limit, f"{more} bytes more"


def framing_that_contradicts_itself(setting):
    server = setting.server
    body = encode({"prompt": PROMPT, "max_tokens": 1})
    length = ("content-length", len(body))
    for headers, sent in [
        ((length, ("content-length", len(body) + 5)), body),
        ((("content-length", "-1"),), body),
        ((("content-length", "x"),), body),
        ((("transfer-encoding", "chunked"),), b"zz\r\n" + body),
        ((("transfer-encoding", "chunked"),), b"ffffffffffffffffff\r\n" + body),
    ]:
        reply = exchange(server, head("POST", COMPLETE, JSON, *headers) + sent)
        assert closed_or(reply, 400), (headers, reply.status)
        server.check_health()
    for line in (
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9\r\n\r\n",
    ):
        with server.connect() as connection:
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
        server.check_health()


def heads_that_are_too_large(setting):
    server = setting.server
    many = [(f"x-{n}", "1") for n in range(1000)]
    for headers in (
        [("x-long", "x" * 100_000)],
        many,
        [("authorization", "Bearer " + "x" * 100_000)],
    ):
        body = encode({"prompt": PROMPT, "max_tokens": 1})
        data = head("POST", COMPLETE, JSON, ("content-length", len(body)), *headers) + body
        assert closed_or(exchange(server, data), 431)
        server.check_health()
    reply = exchange(server, head("GET", "/" + "x" * 100_000))
    assert closed_or(reply, 414, 431), reply.status


def requests_that_break_off(setting):
    server = setting.server
    body = encode({"prompt": PROMPT, "max_tokens": 1})
    for sent in (
        b"POST /v1/comp",
        head("POST", COMPLETE, JSON, ("content-length", len(body)))[:-2],
        head("POST", COMPLETE, JSON, ("content-length", len(body))) + body[:-4],
        head("POST", COMPLETE, JSON, ("transfer-encoding", "chunked")) + b"5\r\n{",
    ):
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(sent)
    server.wait_until_idle()


def heads_and_bodies_that_do_not_come(setting):
    """Neither is waited for: the connection ends by itself, and others are served meanwhile."""
    server = setting.server
    slow = b"GET /health HTTP/1.1\r\nx-slow: "
    trickling = server.connect()
    trickling.sendall(slow)
    begun = []
    for sent in (b"", slow, head("POST", CHAT, JSON, ("content-length", 9))):
        connection = server.connect()
        connection.sendall(sent)
        begun.append(connection)
    reply = post(server, COMPLETE, {"prompt": PROMPT, "max_tokens": 1})
    assert reply.status == 200
    until("an end of the head that trickles in", lambda: is_closed_after(trickling, b"x"))
    for connection in begun:
        with connection:
            # Ends at the latest with the socket's time-out, which is a failure.
            answer = b""
            while part := connection.recv(65536):
                answer += part
            assert answer == b"" or b" 408 " in answer.split(b"\r\n")[0], answer[:200]


def is_closed_after(connection, more):
    """Whether a connection is closed, and if not so, whether it is after some bytes more."""
    connection.settimeout(0.5)
    try:
        connection.sendall(more)
        closed = connection.recv(65536) == b""
    except TimeoutError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        closed = True
    if closed:
        connection.close()
    return closed


def a_reader_that_does_not_read_holds_nobody_up(setting):
    server = setting.server
    body = {
        "prompt": PROMPT,
        "max_tokens": 2000,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    slow = begin(server, COMPLETE, body | {"logprobs": 5})
    one = Stream(server, COMPLETE, body | {"max_tokens": 8})
    assert one.rest()[-1] == "[DONE]"
    until("one that runs", lambda: server.running() == 1)
    # One byte at a time is a reader too.
    for _ in range(20):
        assert slow.recv(1)
    slow.close()
    server.wait_until_idle()


def pages_of_other_sites_are_turned_away(setting):
    """What a browser would send for them without asking; nothing of it is generated."""
    server = setting.server
    before = server.metrics().value("tgi_request_count")
    text = ("content-type", "text/plain")
    for path in (COMPLETE, CHAT, "/", "/generate", "/generate?prompt=Hi", "/tokenize"):
        for headers in ([("origin", "https://evil.example"), text], [("origin", "null")]):
            reply = call(server, "POST", path, {"prompt": PROMPT, "inputs": PROMPT}, headers)
            assert reply.status == 403, (path, reply.status)
            assert "--cors-allow-origin" in reply.text(), reply.text()
    rebound = b"GET /info HTTP/1.1\r\nhost: evil.example\r\n\r\n"
    assert exchange(server, rebound).status == 403
    assert server.metrics().value("tgi_request_count") == before
    own = [JSON, ("origin", "http://localhost")]
    body = {"prompt": PROMPT, "max_tokens": 1}
    assert call(server, "POST", COMPLETE, body, own).status == 200


def a_connection_is_used_again(setting):
    with setting.server.connect() as connection:
        body = encode({"prompt": PROMPT, "max_tokens": 1, "temperature": 0})
        request = head("POST", COMPLETE, JSON, ("content-length", len(body))) + body
        texts = []
        for _ in range(3):
            connection.sendall(request)
            reply = receive(connection)
            texts.append(json.loads(reply.read())["choices"][0]["text"])
        # An error that has read its whole body leaves it open, too.
        connection.sendall(head("POST", COMPLETE, JSON, ("content-length", 2)) + b"{}")
        reply = receive(connection)
        assert reply.status == 400 and reply.read()
        connection.sendall(head("GET", "/health"))
        assert receive(connection).status == 200
    assert len(set(texts)) == 1
    assert call(setting.server, "GET", "/health").status == 200


CHECKS = [
    bodies_over_the_limit_keep_memory_flat,
    framing_that_contradicts_itself,
    heads_that_are_too_large,
    requests_that_break_off,
    heads_and_bodies_that_do_not_come,
    a_reader_that_does_not_read_holds_nobody_up,
    pages_of_other_sites_are_turned_away,
    a_connection_is_used_again,
]
