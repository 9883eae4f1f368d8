"""LangChain's ChatOpenAI."""

import openai
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

QUESTION = "What is the capital of France?"


def model(setting, **more):
    options = {"model": "tgi", "temperature": 0, "max_tokens": 6, "max_retries": 0} | more
    return ChatOpenAI(base_url=setting.server.url + "/v1", api_key="-", **options)


def invoke_and_stream(setting):
    whole = model(setting).invoke(QUESTION)
    assert whole.content
    assert whole.response_metadata["finish_reason"] == "length"
    assert whole.usage_metadata["output_tokens"] == 6
    chunks = list(model(setting).stream(QUESTION))
    assert "".join(chunk.content for chunk in chunks) == whole.content


def usage_of_a_stream(setting):
    chunks = list(model(setting, stream_usage=True).stream(QUESTION))
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.usage_metadata["output_tokens"] == 6


def batch(setting):
    questions = [QUESTION, "Say hello.", QUESTION, "Count to three."]
    answers = model(setting).batch(questions)
    assert all(answer.content for answer in answers)
    assert answers[0].content == answers[2].content


def chain_with_a_prompt(setting):
    prompt = ChatPromptTemplate.from_messages(
        [("system", "You answer in {language}."), ("human", "{question}")]
    )
    chain = prompt | model(setting, stop=["\n"]) | StrOutputParser()
    answer = chain.invoke({"language": "English", "question": QUESTION})
    assert isinstance(answer, str) and "\n" not in answer


def errors_are_the_openai_packages(setting):
    try:
        model(setting, temperature=9).invoke(QUESTION)
    except openai.BadRequestError as error:
        assert error.param == "temperature", error
    else:
        raise AssertionError("a temperature of 9 is taken")


CHECKS = [
    invoke_and_stream,
    usage_of_a_stream,
    batch,
    chain_with_a_prompt,
    errors_are_the_openai_packages,
]
