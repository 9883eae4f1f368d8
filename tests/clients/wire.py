"""HTTP by hand, for what no client library would send, and streams read event by event."""

import http.client
import json

CHAT = "/v1/chat/completions"
COMPLETE = "/v1/completions"
JSON = ("content-type", "application/json")


def head(method, path, *headers):
    lines = [f"{method} {path} HTTP/1.1", "host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def encode(body):
    """A body as bytes; what is neither bytes nor text is written as JSON."""
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def begin(server, path, body):
    """Sends a request whose answer is read later, or never."""
    connection = server.connect()
    data = encode(body)
    connection.sendall(head("POST", path, JSON, ("content-length", len(data))) + data)
    return connection


def receive(connection):
    """The head of an answer; its body is read through it."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return reply


class Reply:
    """A whole answer."""

    def __init__(self, reply):
        self.status = reply.status
        self.headers = reply.headers
        self.body = reply.read()

    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


def exchange(server, data):
    """Sends bytes and reads the answer; none where the server closes without one."""
    with server.connect() as connection:
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # It has answered already, or closed.
        try:
            return Reply(receive(connection))
        except (ConnectionResetError, http.client.RemoteDisconnected):
            return None


def call(server, method, path, body=b"", headers=(JSON,)):
    data = encode(body)
    length = ("content-length", len(data))
    reply = exchange(server, head(method, path, *headers, length) + data)
    assert reply is not None, f"no answer to {method} {path}"
    return reply


def post(server, path, body):
    return call(server, "POST", path, body)


class Stream:
    """A streamed answer, event by event."""

    def __init__(self, server, path, body):
        self.connection = begin(server, path, body)
        self.reply = receive(self.connection)
        self.status = self.reply.status

    def next(self):
        """The data of the next event; none at the end. Comments keep a stream open, no more."""
        lines = []
        while line := self.reply.readline():
            text = line.decode().removesuffix("\n").removesuffix("\r")
            if text.startswith("data:"):
                lines.append(text.removeprefix("data:").removeprefix(" "))
            elif text == "" and lines:
                return "\n".join(lines)
            else:
                assert text == "" or text.startswith(":"), f"no part of an event: {text!r}"
        assert not lines, "the stream ends inside of an event"
        return None

    def rest(self):
        return list(iter(self.next, None))

    def close(self):
        self.reply.close()
        self.connection.close()


def stream(server, path, body):
    """All events of a stream."""
    opened = Stream(server, path, body)
    try:
        assert opened.status == 200, (opened.status, opened.reply.read())
        return opened.rest()
    finally:
        opened.close()


def text_of(events):
    """The text and the finish reason of OpenAI's events, which end with `[DONE]`."""
    assert events[-1:] == ["[DONE]"], events[-1:]
    text, reason = "", None
    for event in events[:-1]:
        chunk = json.loads(event)
        assert "error" not in chunk, chunk
        for choice in chunk["choices"]:
            assert choice["index"] == 0
            assert reason is None, f"something follows the end: {event}"
            reason = choice["finish_reason"]
            text += choice["text"] if "text" in choice else choice["delta"].get("content", "")
    return text, reason
