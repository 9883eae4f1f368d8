// The openai package.

import assert from "node:assert/strict";
import OpenAI from "openai";

const messages = [{ role: "user", content: "What is the capital of France?" }];

function client(url) {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "-", maxRetries: 0 });
}

export async function chat_streams(url) {
  const own = client(url);
  const options = { model: "tgi", messages, max_tokens: 8, temperature: 0 };
  let text = "";
  let reason = null;
  for await (const chunk of await own.chat.completions.create({ ...options, stream: true })) {
    text += chunk.choices[0].delta.content ?? "";
    reason = chunk.choices[0].finish_reason;
  }
  const whole = await own.chat.completions.create(options);
  assert.equal(text, whole.choices[0].message.content);
  assert.notEqual(text, "");
  assert.equal(reason, whole.choices[0].finish_reason);
  // The helper puts the chunks together itself.
  const helped = await own.chat.completions.stream(options).finalContent();
  assert.equal(helped, text);
}

export async function usage_comes_where_it_is_asked_for(url) {
  const stream = await client(url).chat.completions.create({
    model: "tgi",
    messages,
    max_tokens: 4,
    stream: true,
    stream_options: { include_usage: true },
  });
  let last;
  for await (const chunk of stream) {
    last = chunk;
  }
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.total_tokens, last.usage.prompt_tokens + last.usage.completion_tokens);
}

export async function completions_and_models(url) {
  const own = client(url);
  const whole = await own.completions.create({
    model: "tgi",
    prompt: ["One, two,", "A, B,"],
    max_tokens: 3,
    temperature: 0,
  });
  assert.deepEqual(whole.choices.map((choice) => choice.index), [0, 1]);
  const models = await own.models.list();
  const model = await own.models.retrieve(models.data[0].id);
  assert.equal(model.object, "model");
}

export async function errors_have_their_classes(url) {
  const own = client(url);
  const chat = (more) => own.chat.completions.create({ model: "tgi", messages, ...more });
  await assert.rejects(chat({ temperature: 9 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, error);
    assert.equal(error.param, "temperature");
    return true;
  });
  await assert.rejects(chat({ model: "gpt-4" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError, error);
    assert.equal(error.code, "model_not_found");
    return true;
  });
}

export async function an_aborted_stream_ends(url) {
  const stream = await client(url).chat.completions.create({
    model: "tgi",
    messages,
    max_tokens: 2000,
    temperature: 0,
    stream: true,
  });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    if (chunks === 3) {
      stream.controller.abort();
    }
  }
  assert.ok(chunks < 200, `${chunks} chunks`);
}
