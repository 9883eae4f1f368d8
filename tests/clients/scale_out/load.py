"""Clients that send a request again until it is answered, and keep why."""

import http.client
import json
import threading
import time
import urllib.parse

# Times that a client sends a request again, and the seconds before it.
REPEATS = 20
PAUSE = 0.2


class Broken(Exception):
    """There is no answer, or a part of one."""


class Answer(threading.Thread):
    """A request on its way to an answer."""

    def __init__(self, address, session, prompt, tokens, stream):
        super().__init__(daemon=True)
        self.address, self.session, self.stream = address, session, stream
        self.body = {
            "model": "tested",
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": stream,
        }
        if stream:
            self.body["stream_options"] = {"include_usage": True}
        self.begun = threading.Event()
        # Why the client had to send the request again, each time.
        self.repeats = []
        self.usage = None
        self.failure = None

    def __repr__(self):
        kind = "stream" if self.stream else "whole answer"
        return f"{kind} of {self.session}"

    @property
    def over(self):
        return not self.is_alive()

    def wait_until_begun(self):
        """Waits until a stream has text; a whole answer begins when it is sent."""
        if self.stream:
            self.begun.wait()

    def wait(self):
        self.join()
        return self

    def run(self):
        while self.usage is None:
            try:
                self.usage = self.once()
            except (Broken, OSError, http.client.HTTPException) as error:
                told = f"{type(error).__name__} {error}".strip()
                if len(self.repeats) == REPEATS:
                    self.failure = told
                    break
                self.repeats.append(told)
                time.sleep(PAUSE)
        self.begun.set()

    def once(self):
        """Sends the request; gives the usage of an answer that is complete."""
        connection = http.client.HTTPConnection(self.address, timeout=120)
        try:
            headers = {"content-type": "application/json", "x-session-id": self.session}
            connection.request("POST", "/v1/completions", json.dumps(self.body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise Broken(f"{response.status}: {response.read(200)}")
            if self.stream:
                return self.read(response)
            answer = json.loads(response.read())
            if not answer["choices"][0]["finish_reason"]:
                raise Broken("no finish_reason")
            return answer["usage"]
        finally:
            connection.close()

    def read(self, response):
        usage = None
        for line in response:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                if usage is None:
                    raise Broken("[DONE] without usage")
                # The end of the body, so that nothing comes after it.
                if response.read().strip():
                    raise Broken("text after [DONE]")
                return usage
            chunk = json.loads(data)
            if "error" in chunk:
                raise Broken(str(chunk["error"]))
            usage = chunk.get("usage") or usage
            if chunk["choices"] and chunk["choices"][0]["text"]:
                self.begun.set()
        raise Broken("the stream ended before [DONE]")


class Load:
    """Requests to one address."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc

    def start(self, session, tokens, stream=False, prompt=None):
        """Sends a request without waiting for its answer."""
        prompt = prompt or f"This is {session}. It begins"
        answer = Answer(self.address, session, prompt, tokens, stream)
        answer.start()
        return answer

    def answer(self, session, tokens, prompt=None):
        """Sends a request and waits for its answer."""
        answer = self.start(session, tokens, prompt=prompt).wait()
        if answer.failure:
            raise Broken(f"{answer}: {answer.failure}")
        return answer
