"""Reranking through the cohere package and as Text Embeddings Inference's clients ask, from a tiny random model."""

import json
from pathlib import Path

import cohere
import openai

from wire import post

OWN = True
MODEL = Path(__file__).parents[2] / "fixtures" / "rerankers" / "bert-identity"


def case():
    """A query, its texts, and transformers' logits."""
    return json.loads((MODEL / "expected.json").read_text(encoding="utf-8"))["cases"][0]


def best(logits):
    return sorted(range(len(logits)), key=lambda place: -logits[place])


def near(found, wanted):
    assert abs(found - wanted) < 1e-3, (found, wanted)


def cohere_package(setting):
    wanted = case()
    with setting.start(model=str(MODEL)) as server:
        own = cohere.Client(api_key="-", base_url=server.url)
        documents = [{"text": text} for text in wanted["texts"]]
        whole = own.rerank(query=wanted["query"], documents=documents, model="tgi")
        assert [one.index for one in whole.results] == best(wanted["logits"])
        for one in whole.results:
            near(one.relevance_score, wanted["logits"][one.index])
            assert one.document.text == wanted["texts"][one.index]
        few = own.rerank(
            query=wanted["query"],
            documents=wanted["texts"],
            model="tgi",
            top_n=2,
            return_documents=False,
        )
        assert [one.index for one in few.results] == best(wanted["logits"])[:2]
        assert few.results[0].document is None
        try:
            own.rerank(query="a", documents=[], model="tgi")
        except cohere.BadRequestError as error:
            assert "documents is an empty list" in str(error.body), error.body
        else:
            raise AssertionError("no documents are ranked")


def text_embeddings_inference(setting):
    wanted = case()
    with setting.start(model=str(MODEL)) as server:
        body = {"query": wanted["query"], "texts": wanted["texts"], "raw_scores": True}
        reply = post(server, "/rerank", body | {"return_text": True})
        assert reply.status == 200, reply.text()
        assert [one["index"] for one in reply.json()] == best(wanted["logits"])
        for one in reply.json():
            near(one["score"], wanted["logits"][one["index"]])
            assert one["text"] == wanted["texts"][one["index"]]
        likely = post(server, "/", body | {"raw_scores": None}).json()
        assert all(0 < one["score"] < 1 and set(one) == {"index", "score"} for one in likely)


def clients_of_other_models_are_told(setting):
    with setting.start(model=str(MODEL)) as server:
        own = openai.OpenAI(base_url=server.url + "/v1", api_key="-", max_retries=0)
        try:
            own.embeddings.create(model="tgi", input="a")
        except openai.BadRequestError as error:
            assert error.code == "wrong_model", error.code
            assert "call /v1/rerank" in error.message, error.message
        else:
            raise AssertionError("a cross-encoder makes embeddings")


CHECKS = [cohere_package, text_embeddings_inference, clients_of_other_models_are_told]
