"""huggingface_hub's InferenceClient: texts in TGI's dialect, chats in OpenAI's."""

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, TextGenerationError

PROMPT = "The capital of France is"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def client(setting):
    return InferenceClient(model=setting.server.url)


def refuses(call):
    """The error of a call that must be refused."""
    try:
        answer = call()
    except (HfHubHTTPError, TextGenerationError) as error:
        return error
    raise AssertionError(f"it is answered: {answer}")


def text_generation_whole_and_streaming(setting):
    # A client that is forgotten closes its streams.
    own = client(setting)

    def generate(**parameters):
        return own.text_generation(PROMPT, max_new_tokens=5, return_full_text=False, **parameters)

    plain = generate()
    # As TGI, the root gives the prompt with it unless it is told not to.
    assert own.text_generation(PROMPT, max_new_tokens=5) == PROMPT + plain
    assert "".join(generate(stream=True)) == plain != ""
    details = generate(details=True)
    assert details.generated_text == plain
    assert details.details.generated_tokens == 5
    assert len(details.details.tokens) == 5
    scored = generate(details=True, decoder_input_details=True)
    assert scored.details.prefill[0].logprob is None
    assert all(token.logprob < 0 for token in scored.details.prefill[1:])
    last = list(generate(details=True, stream=True))[-1]
    assert last.generated_text == plain
    assert last.details.finish_reason == "length"
    stop = plain.strip()[0]
    assert stop not in generate(stop=[stop])


def text_generation_samples(setting):
    def generate(**parameters):
        return client(setting).text_generation(
            PROMPT, max_new_tokens=6, do_sample=True, temperature=0.9, top_p=0.95, **parameters
        )

    assert generate(seed=3) == generate(seed=3)
    best = generate(best_of=2, details=True)
    assert len(best.details.best_of_sequences) == 1
    details = generate(details=True, top_n_tokens=3, seed=3).details
    alternatives = [len(some) for some in details.top_tokens]
    assert alternatives == [3] * len(details.tokens), alternatives


def chat_completion_whole_and_streaming(setting):
    own = client(setting)

    def chat(**parameters):
        return own.chat_completion(MESSAGES, max_tokens=6, temperature=0, **parameters)

    whole = chat()
    text = whole.choices[0].message.content
    assert text and whole.usage.completion_tokens == 6
    chunks = list(chat(stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == "length"


def errors_say_what_is_wrong(setting):
    error = refuses(lambda: client(setting).text_generation(PROMPT, max_new_tokens=10**9))
    assert "max_new_tokens" in str(error), error
    error = refuses(lambda: client(setting).text_generation(PROMPT, top_p=1.5))
    assert "top_p" in str(error), error
    error = refuses(lambda: client(setting).chat_completion(MESSAGES, temperature=9))
    assert "temperature" in str(error), error


CHECKS = [
    text_generation_whole_and_streaming,
    text_generation_samples,
    chat_completion_whole_and_streaming,
    errors_say_what_is_wrong,
]
