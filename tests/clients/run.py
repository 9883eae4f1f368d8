"""Real clients against a server: the openai package and huggingface_hub's InferenceClient.

    python run.py FIRESIDE MODEL

FIRESIDE is the binary, MODEL a chat model's file or folder. The packages are those of
requirements.txt beside this file. Prints a line for each check; the exit code is 1 if one fails.
"""

import signal
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request

import openai
from huggingface_hub import InferenceClient

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is deep learning?"},
]
PROMPT = "The capital of France is"


class Server:
    """A server on a free port, ready to answer."""

    def __init__(self, binary, model):
        command = [binary, "serve", "--model", model, "--port", "0", "--served-model-name", "tested"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        said = self.process.stdout.readline().strip()
        if not said.startswith("listening on "):
            raise SystemExit(f"the server says {said!r} and {self.process.stderr.read()!r}")
        self.url = said.removeprefix("listening on ")
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        while self.status("/health/ready") != 200:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: {self.log[-1:]}")
            time.sleep(0.1)

    def status(self, path):
        try:
            return urllib.request.urlopen(self.url + path).status
        except urllib.error.HTTPError as error:
            return error.code

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def openai_chat_streams(url):
    client = openai.OpenAI(base_url=url + "/v1/", api_key="-")
    stream = client.chat.completions.create(
        model="tgi", messages=MESSAGES, stream=True, max_tokens=8, temperature=0
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    whole = client.chat.completions.create(
        model="tested", messages=MESSAGES, max_tokens=8, temperature=0
    )
    assert whole.choices[0].message.content == text != ""
    assert whole.usage.completion_tokens <= 8


def openai_usage_comes_where_it_is_asked_for(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key="-")
    stream = client.chat.completions.create(
        model="tgi",
        messages=MESSAGES,
        stream=True,
        max_tokens=4,
        stream_options={"include_usage": True},
    )
    last = list(stream)[-1]
    assert last.choices == [] and last.usage.completion_tokens > 0


def openai_completions_and_logprobs(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key="-")
    whole = client.completions.create(
        model="tgi", prompt=[PROMPT, "One, two,"], max_tokens=3, temperature=0, logprobs=2
    )
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert len(whole.choices[0].logprobs.token_logprobs) == 3
    scored = client.completions.create(
        model="tgi", prompt=PROMPT, max_tokens=0, echo=True, logprobs=1, temperature=0
    ).choices[0]
    assert scored.text == PROMPT
    assert "".join(scored.logprobs.tokens) == PROMPT
    assert scored.logprobs.token_logprobs[0] is None
    assert all(one < 0 for one in scored.logprobs.token_logprobs[1:])
    assert scored.logprobs.text_offset[0] == 0
    best = client.completions.create(model="tgi", prompt=PROMPT, max_tokens=2, n=1, best_of=3)
    assert len(best.choices) == 1 and best.usage.completion_tokens > 2
    chat = client.chat.completions.create(
        model="tgi", messages=MESSAGES, max_tokens=2, n=2, seed=1, logprobs=True, top_logprobs=2
    )
    assert len(chat.choices) == 2
    assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 2


def openai_models_and_errors(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key="-", max_retries=0)
    assert [model.id for model in client.models.list()] == ["tested"]
    assert client.models.retrieve("tested").owned_by == "fireside"
    try:
        client.chat.completions.create(model="tgi", messages=MESSAGES, temperature=9)
        raise AssertionError("a temperature of 9 is taken")
    except openai.BadRequestError as error:
        assert error.param == "temperature", error
    try:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
        raise AssertionError("another model is taken")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error


def hub_chat_as_in_the_course(url):
    client = InferenceClient(base_url=url + "/v1/")
    output = client.chat.completions.create(
        model="tgi",
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Count to 10"},
        ],
        stream=True,
        max_tokens=8,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in output)
    assert text != ""


def hub_text_generation(url):
    client = InferenceClient(model=url)

    def generate(**parameters):
        return client.text_generation(PROMPT, return_full_text=False, **parameters)

    plain = generate(max_new_tokens=5)
    # As TGI, the root gives the prompt with it unless it is told not to.
    assert client.text_generation(PROMPT, max_new_tokens=5) == PROMPT + plain
    streamed = "".join(generate(max_new_tokens=5, stream=True))
    assert streamed == plain != ""
    details = generate(max_new_tokens=5, details=True)
    assert details.generated_text == plain
    assert details.details.generated_tokens == 5
    assert len(details.details.tokens) == 5
    scored = generate(max_new_tokens=1, details=True, decoder_input_details=True)
    assert scored.details.prefill[0].logprob is None
    assert all(token.logprob < 0 for token in scored.details.prefill[1:])
    last = list(generate(max_new_tokens=5, details=True, stream=True))[-1]
    assert last.generated_text == plain
    assert last.details.finish_reason == "length"
    stop = plain.strip()[0]
    assert stop not in generate(max_new_tokens=5, stop=[stop])


def hub_errors(url):
    client = InferenceClient(model=url)
    try:
        client.text_generation(PROMPT, max_new_tokens=10**9)
        raise AssertionError("a billion tokens are promised")
    except Exception as error:
        assert "max_tokens" in str(error), error


def course_curl(url):
    body = b'{"model": "tgi", "messages": [{"role": "user", "content": "Hi"}], "stream": true, "max_tokens": 4}'
    request = urllib.request.Request(
        url + "/v1/chat/completions", body, {"content-type": "application/json"}
    )
    lines = urllib.request.urlopen(request).read().decode().split("\n\n")
    assert lines[-2] == "data: [DONE]", lines


def course_pipeline_endpoint(url):
    request = urllib.request.Request(url + "/generate?prompt=Hello&max_new_tokens=3", method="POST")
    assert b'{"generated_text":"Hello' in urllib.request.urlopen(request).read()


CHECKS = [
    openai_chat_streams,
    openai_usage_comes_where_it_is_asked_for,
    openai_completions_and_logprobs,
    openai_models_and_errors,
    hub_chat_as_in_the_course,
    hub_text_generation,
    hub_errors,
    course_curl,
    course_pipeline_endpoint,
]


def main():
    server = Server(*sys.argv[1:3])
    failures = 0
    for check in CHECKS:
        try:
            check(server.url)
            print(f"ok      {check.__name__}")
        except Exception as error:  # each check is told for itself
            failures += 1
            line = traceback.extract_tb(error.__traceback__)[-1].line
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error} at {line}")
    code = server.end()
    if code != 0:
        failures += 1
    print(f"{len(CHECKS)} checks, {failures} failures, the server ended with {code}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
