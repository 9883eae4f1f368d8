// Answers of the real model, from the first fetch of its file to the memory that it takes.

import assert from "node:assert/strict";

import { COMPARED, load, MODEL, TOKENS } from "./page.mjs";

export const CHECKS = {};

CHECKS["an address that does not exist is an http_error"] = async ({ page }) => {
  const { code, message } = await load(page, "/nowhere.gguf");
  assert.equal(code, "http_error", message);
  assert.match(message, /404/);
};

CHECKS["a file that is no model is a bad_model"] = async ({ page }) => {
  const { code, message } = await load(page, "no-such-name", { cache: false });
  assert.equal(code, "bad_option", message);
  const broken = await load(page, "/broken.gguf", { cache: false });
  assert.equal(broken.code, "bad_model", broken.message);
  assert.match(broken.message, /not a GGUF file/);
};

CHECKS["a download that breaks off resumes where it was"] = async ({ page, server }) => {
  server.faults[MODEL] = { cutAfter: 60_000_000 };
  server.seen.length = 0;
  const { info, message } = await load(page, MODEL);
  assert.ok(info, message);
  const ranges = server.seen.filter((r) => r.path === MODEL).map((r) => r.range);
  assert.equal(ranges[0], null);
  assert.ok(ranges.length >= 2, `asked ${ranges.length} times`);
  assert.match(ranges[1], /^bytes=\d{7,}-$/);
  delete server.faults[MODEL];
  await page.evaluate(() => window.engine.unload());
};

CHECKS["a second load comes from the cache with the network cut"] = async ({ page, server }) => {
  server.faults[MODEL] = { status: 503 };
  const { phases, times, info, message } = await load(page, MODEL);
  assert.ok(info, message);
  assert.deepEqual(phases, ["download", "upload", "compile"]);
  assert.ok(info.software);
  const { download, upload, compile, ready } = times;
  const spent = (from, to) => (to - from).toFixed(2);
  console.log(
    `start: ${ready.toFixed(2)} s from the cache to ready (module ${download.toFixed(2)}, ` +
      `tokenizer and device ${spent(download, upload)}, upload ${spent(upload, compile)}, ` +
      `shaders, the test of the device and a first answer ${spent(compile, ready)})`,
  );
  const models = await page.evaluate(async () => (await import("/package/index.js")).listModels());
  assert.equal(models.length, 1);
  assert.ok(models[0].complete);
  delete server.faults[MODEL];
};

CHECKS["first answers compile nothing: what they take was compiled beside the weights"] = async ({ page }) => {
  const [before, after] = await page.evaluate(async () => {
    const { engine } = window;
    const before = await engine.counters();
    const prompt = Array.from({ length: 21 }, (_, i) => i + 100);
    await engine.completions.create({ prompt, max_tokens: 2, temperature: 0 });
    const filtered = { temperature: 0.8, top_p: 0.9, top_k: 40, frequency_penalty: 0.5 };
    await engine.completions.create({ prompt: prompt.slice(4), max_tokens: 2, ...filtered });
    return [before, await engine.counters()];
  });
  assert.ok(after.dispatches > before.dispatches);
  assert.equal(after.pipelines, before.pipelines);
};

CHECKS["greedy tokens equal the native ones"] = async ({ page, prompts }) => {
  // Two without a near tie, by the fixture's own count.
  for (const name of ["code", "code-rust"]) {
    const { prompt_token_ids, generated_token_ids, near_ties } = prompts.get(name);
    assert.equal(near_ties, 0, name);
    const text = await page.evaluate(
      async ([prompt, max_tokens]) => {
        const body = { prompt, max_tokens, temperature: 0, ignore_eos: true };
        return (await window.engine.completions.create(body)).choices[0].text;
      },
      [prompt_token_ids, COMPARED],
    );
    assert.ok(generated_token_ids.length >= COMPARED, name);
    const expected = await page.evaluate(
      (tokens) => window.engine.detokenize(tokens),
      generated_token_ids.slice(0, COMPARED),
    );
    assert.equal(text, expected, name);
  }
};

CHECKS["a stream equals the whole, two at once"] = async ({ page }) => {
  const { streamed, whole, usage } = await page.evaluate(async (max_tokens) => {
    const body = {
      messages: [{ role: "user", content: "Say hello." }],
      max_tokens,
      temperature: 0.8,
      seed: 5,
    };
    const create = window.engine.chat.completions.create;
    let streamed = "";
    let usage;
    const stream = async () => {
      const options = { include_usage: true };
      for await (const chunk of await create({ ...body, stream: true, stream_options: options })) {
        streamed += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
      }
    };
    const [whole] = await Promise.all([create(body), stream()]);
    return { streamed, whole: whole.choices[0].message.content, usage };
  }, TOKENS);
  assert.equal(streamed, whole);
  assert.equal(usage.completion_tokens, TOKENS);
  assert.ok(usage.extra.decode_tokens_per_s > 0);
};

CHECKS["a second turn reuses the first, with the same text"] = async ({ page }) => {
  const { first, second, plain } = await page.evaluate(async (max_tokens) => {
    const { completions } = window.engine.chat;
    const messages = [{ role: "user", content: "Name three rivers of Europe, please." }];
    const ask = () => completions.create({ messages, max_tokens, temperature: 0 });
    await window.engine.resetChat();
    const first = await ask();
    messages.push(first.choices[0].message, { role: "user", content: "And the longest?" });
    const second = await ask();
    await window.engine.resetChat();
    const plain = await ask();
    const cached = (reply) => reply.usage.prompt_tokens_details.cached_tokens;
    const of = (reply) => ({ text: reply.choices[0].message.content, cached: cached(reply) });
    return { first: of(first), second: of(second), plain: of(plain) };
  }, TOKENS);
  assert.equal(first.cached, 0);
  assert.ok(second.cached >= 32, `${second.cached} tokens cached`);
  assert.equal(plain.cached, 0);
  assert.equal(second.text, plain.text);
};

CHECKS["requests at once share steps"] = async ({ page }) => {
  const { alone, together, texts } = await page.evaluate(async (max_tokens) => {
    const create = async (prompt) => {
      const body = { prompt, max_tokens, temperature: 0, ignore_eos: true };
      return (await window.engine.completions.create(body)).choices[0].text;
    };
    const count = async (run) => {
      const { steps } = await window.engine.counters();
      const texts = await run();
      return { texts, steps: (await window.engine.counters()).steps - steps };
    };
    const prompts = ["The sky is", "A list of fruits:", "Once upon a time"];
    const alone = await count(async () => {
      const texts = [];
      for (const prompt of prompts) texts.push(await create(prompt));
      return texts;
    });
    const together = await count(() => Promise.all(prompts.map(create)));
    return { alone: alone.steps, together: together.steps, texts: [alone.texts, together.texts] };
  }, TOKENS);
  assert.deepEqual(texts[1], texts[0]);
  assert.equal(alone, 3 * TOKENS);
  // Each may come a step after the one before.
  assert.ok(together <= TOKENS + 4, `${together} steps together, ${alone} alone`);
};

CHECKS["a request cancelled before its first step ends"] = async ({ page }) => {
  const codes = await page.evaluate(async () => {
    const create = window.engine.completions.create;
    const body = { prompt: "Once upon a time", max_tokens: 100, temperature: 0 };
    const controller = new AbortController();
    const { signal } = controller;
    const all = [create(body, { signal }), create({ ...body, prompt: "There was" }, { signal })];
    controller.abort();
    return (await Promise.allSettled(all)).map(({ reason }) => reason?.code);
  });
  assert.deepEqual(codes, ["aborted", "aborted"]);
};

CHECKS["an aborted request ends and the next one works"] = async ({ page }) => {
  const codes = await page.evaluate(async () => {
    const body = { prompt: "Once upon a time", max_tokens: 200, temperature: 0 };
    const controller = new AbortController();
    const codes = [];
    const stream = await window.engine.completions.create(
      { ...body, stream: true },
      { signal: controller.signal },
    );
    try {
      for await (const chunk of stream) {
        if (chunk.choices[0].text) controller.abort();
      }
    } catch (error) {
      codes.push(error.code);
    }
    const next = await window.engine.completions.create({ ...body, max_tokens: 2 });
    codes.push(next.choices[0].finish_reason);
    return codes;
  });
  assert.deepEqual(codes, ["aborted", "length"]);
};

CHECKS["a wrong request names its field"] = async ({ page }) => {
  const error = await page.evaluate(async () => {
    try {
      await window.engine.chat.completions.create({ messages: [], temperature: "hot" });
      return null;
    } catch ({ code, param, message }) {
      return { code, param, message };
    }
  });
  assert.deepEqual(error, {
    code: "invalid_request_error",
    param: "temperature",
    message: 'temperature is "hot"; expected a number',
  });
};

CHECKS["memory stays below 64 MB and the largest tensor"] = async ({ page }) => {
  const { wasmBytes } = await page.evaluate(() => window.engine.counters());
  assert.ok(wasmBytes < 64e6 + 30.1e6, `${wasmBytes} bytes`);
  await page.evaluate(() => window.engine.unload());
};
