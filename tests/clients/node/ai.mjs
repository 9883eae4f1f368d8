// Vercel's AI SDK.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, streamText } from "ai";

const prompt = "What is the capital of France?";
const options = { temperature: 0, maxOutputTokens: 6, maxRetries: 0 };

function model(url) {
  const provider = createOpenAICompatible({
    name: "fireside",
    baseURL: `${url}/v1`,
    apiKey: "-",
    includeUsage: true,
  });
  return provider("tgi");
}

export async function generate_text(url) {
  const answer = await generateText({ ...options, model: model(url), prompt });
  assert.notEqual(answer.text, "");
  assert.equal(answer.finishReason, "length");
  assert.equal(answer.usage.outputTokens, 6);
}

export async function stream_text(url) {
  const whole = await generateText({ ...options, model: model(url), prompt });
  const stream = streamText({ ...options, model: model(url), prompt });
  let text = "";
  for await (const part of stream.textStream) {
    text += part;
  }
  assert.equal(text, whole.text);
  assert.equal(await stream.finishReason, "length");
  assert.equal((await stream.usage).outputTokens, 6);
}

export async function a_conversation_goes_on(url) {
  const messages = [
    { role: "system", content: "You are brief." },
    { role: "user", content: [{ type: "text", text: "My name is Ada." }] },
    { role: "assistant", content: "Hello Ada." },
    { role: "user", content: "What is my name?" },
  ];
  const answer = await generateText({ ...options, model: model(url), messages });
  assert.notEqual(answer.text, "");
  assert.ok(answer.usage.inputTokens > 20);
}

export async function errors_say_what_is_wrong(url) {
  const call = generateText({ ...options, temperature: 9, model: model(url), prompt });
  await assert.rejects(call, (error) => {
    assert.ok(APICallError.isInstance(error), error);
    assert.equal(error.statusCode, 400);
    assert.match(error.message, /temperature/);
    assert.equal(error.isRetryable, false);
    return true;
  });
}

export async function an_aborted_stream_ends(url) {
  const abort = new AbortController();
  const stream = streamText({
    ...options,
    model: model(url),
    prompt,
    maxOutputTokens: 2000,
    abortSignal: abort.signal,
  });
  let parts = 0;
  let aborted = false;
  for await (const part of stream.fullStream) {
    aborted ||= part.type === "abort";
    if (part.type === "text-delta") {
      parts += 1;
      if (parts === 3) {
        abort.abort();
      }
    }
  }
  assert.ok(aborted);
  assert.ok(parts < 200, `${parts} parts`);
}
