"""The openai package."""

import asyncio

import openai

from server import NAME, until

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is deep learning?"},
]
PROMPT = "The capital of France is"


def client(setting):
    return openai.OpenAI(base_url=setting.server.url + "/v1/", api_key="-", max_retries=0)


def refuses(kind, call):
    """The error of a call that must be refused."""
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"it is answered: {answer}")


def chat_streams(setting):
    own = client(setting)
    options = {"messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    chunks = list(own.chat.completions.create(model="tgi", stream=True, **options))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")
    assert all(chunk.choices for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    whole = own.chat.completions.create(model=NAME, **options)
    assert whole.choices[0].message.content == text != ""
    assert whole.usage.completion_tokens <= 8


def usage_comes_where_it_is_asked_for(setting):
    stream = client(setting).chat.completions.create(
        model="tgi",
        messages=MESSAGES,
        stream=True,
        max_tokens=4,
        stream_options={"include_usage": True},
    )
    last = list(stream)[-1]
    assert last.choices == [] and last.usage.completion_tokens > 0


def completions_and_logprobs(setting):
    own = client(setting)
    whole = own.completions.create(
        model="tgi", prompt=[PROMPT, "One, two,"], max_tokens=3, temperature=0, logprobs=2
    )
    assert [choice.index for choice in whole.choices] == [0, 1]
    logprobs = whole.choices[0].logprobs
    assert len(logprobs.token_logprobs) == len(logprobs.tokens) == 3
    assert logprobs.text_offset and len(logprobs.text_offset) == 3, "there is no text_offset"
    scored = own.completions.create(
        model="tgi", prompt=PROMPT, max_tokens=0, echo=True, logprobs=1, temperature=0
    ).choices[0]
    assert scored.text == "".join(scored.logprobs.tokens) == PROMPT
    assert scored.logprobs.token_logprobs[0] is None
    assert all(one < 0 for one in scored.logprobs.token_logprobs[1:])
    assert scored.logprobs.text_offset[0] == 0
    best = own.completions.create(model="tgi", prompt=PROMPT, max_tokens=2, n=1, best_of=3)
    assert len(best.choices) == 1 and best.usage.completion_tokens > 2
    chat = own.chat.completions.create(
        model="tgi", messages=MESSAGES, max_tokens=2, n=2, seed=1, logprobs=True, top_logprobs=2
    )
    assert len(chat.choices) == 2
    assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 2


def a_seed_gives_the_same_again(setting):
    own = client(setting)

    def text(seed):
        answer = own.completions.create(
            model="tgi", prompt=PROMPT, max_tokens=8, temperature=1, seed=seed
        )
        return answer.choices[0].text

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(4)}) > 1


def models_and_errors(setting):
    own = client(setting)
    assert [model.id for model in own.models.list()] == [NAME]
    assert own.models.retrieve(NAME).owned_by == "fireside"
    create = own.chat.completions.create
    error = refuses(
        openai.BadRequestError, lambda: create(model="tgi", messages=MESSAGES, temperature=9)
    )
    assert error.param == "temperature", error
    error = refuses(openai.NotFoundError, lambda: create(model="gpt-4", messages=MESSAGES))
    assert error.code == "model_not_found", error


def many_at_once_get_what_one_gets_alone(setting):
    own = openai.AsyncOpenAI(base_url=setting.server.url + "/v1", api_key="-", max_retries=0)

    async def text(prompt):
        answer = await own.completions.create(
            model="tgi", prompt=prompt, max_tokens=8, temperature=0
        )
        return answer.choices[0].text

    async def compare():
        alone = await text(PROMPT)
        prompts = [PROMPT if n % 3 == 0 else f"{n} times {n} is" for n in range(12)]
        together = await asyncio.gather(*map(text, prompts))
        assert together[::3] == [alone] * 4, (alone, together)
        await own.close()

    asyncio.run(compare())


def a_stream_that_is_closed_frees_its_place(setting):
    stream = client(setting).chat.completions.create(
        model="tgi", messages=MESSAGES, stream=True, max_tokens=2000, temperature=0
    )
    next(iter(stream))
    until("one that runs", lambda: setting.server.running() == 1)
    stream.close()
    setting.server.wait_until_idle()


CHECKS = [
    chat_streams,
    usage_comes_where_it_is_asked_for,
    completions_and_logprobs,
    a_seed_gives_the_same_again,
    models_and_errors,
    many_at_once_get_what_one_gets_alone,
    a_stream_that_is_closed_frees_its_place,
]
