"""The calls of smol-course's page on inference, with their arguments.

Only the port is the server's own. Where the page sets no limit, or a high one, the reader leaves
after some chunks: what counts is that they come as the page reads them.
"""

import itertools
import json
import shutil
import subprocess

from huggingface_hub import InferenceClient
from openai import OpenAI

from report import Skip
from server import PATIENCE
from wire import call

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
DEEP_LEARNING = {"role": "user", "content": "What is deep learning?"}
COUNT = {"role": "user", "content": "Count to 10"}
CHUNKS = 12


def curl(setting):
    if not shutil.which("curl"):
        raise Skip("no curl; run: sudo apt-get install --no-install-recommends curl")
    body = {
        "model": "tgi",
        "messages": [SYSTEM, DEEP_LEARNING],
        "stream": True,
        "max_tokens": 20,
    }
    command = ["curl", "--silent", "--show-error", "--noproxy", "*"]
    command += [setting.server.url + "/v1/chat/completions", "-X", "POST"]
    command += ["-d", json.dumps(body, indent=2), "-H", "Content-Type: application/json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    events = run.stdout.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""], events[-2:]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    assert any(chunk["choices"][0]["delta"].get("content") for chunk in chunks)


def inference_client(setting):
    client = InferenceClient(base_url=setting.server.url + "/v1/")
    output = client.chat.completions.create(
        model="tgi", messages=[SYSTEM, COUNT], stream=True, max_tokens=1024
    )
    # The page prints it so, without a look at how many choices there are.
    parts = [chunk.choices[0].delta.content for chunk in itertools.islice(output, CHUNKS)]
    output.close()
    assert "".join(part or "" for part in parts)


def openai_client(setting):
    client = OpenAI(base_url=setting.server.url + "/v1/", api_key="-")
    stream = client.chat.completions.create(
        model="tgi", messages=[SYSTEM, DEEP_LEARNING], stream=True
    )
    chunks = list(itertools.islice(stream, CHUNKS))
    stream.close()
    assert len(chunks) == CHUNKS
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    setting.server.wait_until_idle()


def pipeline_endpoint(setting):
    path = "/generate?prompt=Hello%20there&max_new_tokens=3"
    reply = call(setting.server, "POST", path, headers=())
    assert reply.status == 200, reply.text()
    assert list(reply.json()) == ["generated_text"]
    assert reply.json()["generated_text"].startswith("Hello there")


CHECKS = [curl, inference_client, openai_client, pipeline_endpoint]
