"""Embeddings through the openai package, LangChain and huggingface_hub, from all-MiniLM-L6-v2."""

import openai
from huggingface_hub import InferenceClient
from langchain_openai import OpenAIEmbeddings

from report import Skip

OWN = True
TEXTS = [
    "A man is eating food.",
    "Someone eats a meal.",
    "The stock market fell sharply today.",
]


def serve(setting):
    if not setting.embedding_model:
        raise Skip("there is no embedding model")
    return setting.start(model=setting.embedding_model)


def cosine(a, b):
    lengths = sum(x * x for x in a) ** 0.5 * sum(x * x for x in b) ** 0.5
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths


def means_the_same(vectors):
    """The first two texts are near each other, the third is not."""
    assert {len(vector) for vector in vectors} == {384}
    near, far = cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[2])
    assert near > 0.6 > 0.3 > far, (near, far)
    return f"{near:.2f} and {far:.2f}"


def openai_package(setting):
    with serve(setting) as server:
        own = openai.OpenAI(base_url=server.url + "/v1", api_key="-", max_retries=0)
        # The package asks for base64 where nothing is said, and reads it.
        coded = own.embeddings.create(model="tgi", input=TEXTS)
        floats = own.embeddings.create(model="tgi", input=TEXTS, encoding_format="float")
        for one, other in zip(coded.data, floats.data, strict=True):
            assert all(
                abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding, strict=True)
            )
        assert coded.usage.prompt_tokens == coded.usage.total_tokens > 15
        short = own.embeddings.create(model="tgi", input=TEXTS[0], dimensions=64)
        assert len(short.data[0].embedding) == 64
        try:
            own.chat.completions.create(model="tgi", messages=[{"role": "user", "content": "Hi"}])
        except openai.BadRequestError as error:
            assert "makes embeddings" in error.message, error.message
        else:
            raise AssertionError("a chat is answered by an embedding model")
        return means_the_same([one.embedding for one in coded.data])


def langchain(setting):
    with serve(setting) as server:
        own = OpenAIEmbeddings(
            model="tgi",
            base_url=server.url + "/v1",
            api_key="-",
            # Else it sends tokens of OpenAI's own vocabulary.
            check_embedding_ctx_length=False,
        )
        assert len(own.embed_query(TEXTS[0])) == 384
        return means_the_same(own.embed_documents(TEXTS))


def huggingface(setting):
    with serve(setting) as server:
        own = InferenceClient(server.url)
        return means_the_same([list(own.feature_extraction(text)[0]) for text in TEXTS])


CHECKS = [openai_package, langchain, huggingface]
