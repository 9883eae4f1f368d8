"""Keys: clients with a right one are let in, all others are told so, and monitors need none."""

import tempfile
from pathlib import Path

import openai
from huggingface_hub import InferenceClient
from huggingface_hub.errors import TextGenerationError

from wire import COMPLETE, JSON, call

OWN = True
# What monitors ask; the root is TGI's health.
OPEN = [("GET", path) for path in ("/", "/health", "/health/ready", "/ping")]
BODY = {"prompt": "Hello", "max_tokens": 1}


def keys_of_the_command_and_of_a_file(setting):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "keys")
        file.write_text("second\n\nthird \n")
        with setting.start("--api-key", "first", "--api-key-file", str(file)) as server:
            for key in ("first", "second", "third"):
                client = openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)
                assert client.completions.create(model="tgi", **BODY).choices
                hub = InferenceClient(model=server.url, token=key)
                assert hub.text_generation("Hello", max_new_tokens=1)
            client = openai.OpenAI(base_url=server.url + "/v1", api_key="other", max_retries=0)
            try:
                client.models.list()
                raise AssertionError("another key is taken")
            except openai.AuthenticationError as error:
                assert error.code == "invalid_api_key", error
            try:
                InferenceClient(model=server.url, token="other").text_generation("Hello")
                raise AssertionError("another key is taken")
            except TextGenerationError as error:
                assert "key is wrong" in str(error), error
            refuses_everywhere(server)
            server.check_health()


def refuses_everywhere(server):
    right = [("authorization", "Bearer first")]
    paths = call(server, "GET", "/api-doc/openapi.json", headers=right).json()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    for method, path in [("GET", "/"), ("POST", "/"), ("GET", "/metrics"), ("POST", COMPLETE)]:
        assert (method, path) in routes, routes
    for key in (None, "Bearer", "Bearer ", "Basic first", "first", "Bearer firs", "Bearer first2"):
        headers = [("authorization", key)] if key else []
        for method, path in routes:
            status = call(server, method, path, headers=headers).status
            expected = 200 if (method, path) in OPEN else 401
            assert status == expected, (key, method, path, status)
    # Its scheme is not a matter of case, the key is.
    for key, status in (("bearer first", 200), ("BEARER first", 200), ("Bearer FIRST", 401)):
        reply = call(server, "POST", COMPLETE, BODY, [JSON, ("authorization", key)])
        assert reply.status == status, (key, reply.status)


CHECKS = [keys_of_the_command_and_of_a_file]
