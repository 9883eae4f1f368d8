"""LoRA adapters through the openai package and huggingface_hub, on a tiny random model."""

import json
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import openai
from huggingface_hub import InferenceClient

OWN = True
FIXTURES = Path(__file__).parents[2] / "fixtures"
PROMPT = "a b c d"
GREEDY = {"max_tokens": 12, "temperature": 0, "extra_body": {"ignore_eos": True}}


@contextmanager
def serve(setting):
    """A server with one adapter, and a folder that clients may load others from."""
    with tempfile.TemporaryDirectory() as root:
        copytree(FIXTURES / "lora" / "llama-attention", Path(root) / "attention")
        options = ["--lora", f"first={FIXTURES / 'lora' / 'llama'}", "--lora-root", root]
        with setting.start(*options, model=str(FIXTURES / "tiny-llama" / "head-dim")) as server:
            yield server, openai.OpenAI(base_url=server.url + "/v1", api_key="-", max_retries=0)


def post(server, path, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(
        server.url + path, data, {"content-type": "application/json"}
    )
    try:
        return urllib.request.urlopen(request, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def adapters_are_models_that_come_and_go(setting):
    with serve(setting) as (server, own):

        def text(model):
            whole = own.completions.create(model=model, prompt=PROMPT, **GREEDY)
            assert whole.model == model, whole.model
            return whole.choices[0].text

        name = next(iter(own.models.list())).id
        plain, first = text(name), text("first")
        assert plain != first
        load = {"lora_name": "second", "lora_path": "attention"}
        assert post(server, "/v1/load_lora_adapter", load) == 200
        assert [model.id for model in own.models.list()] == [name, "first", "second"]
        second = text("second")
        assert second not in (plain, first)
        assert (text(name), text("first")) == (plain, first)
        assert post(server, "/v1/unload_lora_adapter", {"lora_name": "first"}) == 200
        try:
            text("first")
        except openai.NotFoundError as error:
            assert "second" in error.message, error.message
        else:
            raise AssertionError("an unloaded adapter answers")


def huggingface_names_them_by_id(setting):
    with serve(setting) as (server, _):
        own = InferenceClient(server.url)

        def text(**options):
            return own.text_generation(PROMPT, max_new_tokens=12, **options)

        assert text(adapter_id="first") != text()


CHECKS = [adapters_are_models_that_come_and_go, huggingface_names_them_by_id]
