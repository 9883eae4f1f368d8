// The npm package in Chromium on its software adapter: a real model, served with ranges under a
// strict content security policy.
//
//   node engine.mjs PACKAGE MODEL.gguf [--chromium PATH]
//
// PACKAGE is the built package's folder (web/dist). Greedy tokens are those of the native runs:
// tests/fixtures/smollm2-greedy.json.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { withPage } from "./chromium.mjs";
import { serveFiles } from "./files.mjs";
import { conclude, exitWith } from "./report.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const MODEL = "/model.gguf";
/** Tokens that are compared: a software adapter takes a good part of a second for one. */
const TOKENS = 6;

/** Loads in the page, with what comes of it: the error's code, or the engine under `window.engine`. */
function load(page, source, options = {}) {
  return page.evaluate(
    async ([source, options]) => {
      const { CreateEngine } = await import("/package/index.js");
      const phases = [];
      const initProgressCallback = ({ phase }) => {
        if (phases.at(-1) !== phase) phases.push(phase);
        if (options.abortIn === phase) controller.abort();
      };
      const controller = new AbortController();
      try {
        window.engine = await CreateEngine(source, {
          ...options,
          initProgressCallback,
          signal: controller.signal,
        });
        return { phases, info: window.engine.info };
      } catch (error) {
        return { phases, code: error.code, message: error.message };
      }
    },
    [source, options],
  );
}

const CHECKS = {
  async "an address that does not exist is an http_error"({ page }) {
    const { code, message } = await load(page, "/nowhere.gguf");
    assert.equal(code, "http_error", message);
    assert.match(message, /404/);
  },

  async "a file that is no model is a bad_model"({ page }) {
    const { code, message } = await load(page, "no-such-name", { cache: false });
    assert.equal(code, "bad_option", message);
    const broken = await load(page, "/broken.gguf", { cache: false });
    assert.equal(broken.code, "bad_model", broken.message);
    assert.match(broken.message, /not a GGUF file/);
  },

  async "a download that breaks off resumes where it was"({ page, server }) {
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
  },

  async "a second load comes from the cache with the network cut"({ page, server }) {
    server.faults[MODEL] = { status: 503 };
    const { phases, info, message } = await load(page, MODEL);
    assert.ok(info, message);
    assert.deepEqual(phases, ["download", "upload", "compile"]);
    assert.ok(info.software);
    const models = await page.evaluate(async () => (await import("/package/index.js")).listModels());
    assert.equal(models.length, 1);
    assert.ok(models[0].complete);
    delete server.faults[MODEL];
  },

  async "greedy tokens equal the native ones"({ page, prompts }) {
    for (const name of ["chat", "single-token"]) {
      const { prompt_token_ids, generated_token_ids } = prompts.get(name);
      const text = await page.evaluate(
        async ([prompt, max_tokens]) => {
          const body = { prompt, max_tokens, temperature: 0, ignore_eos: true };
          return (await window.engine.completions.create(body)).choices[0].text;
        },
        [prompt_token_ids, TOKENS],
      );
      const expected = await page.evaluate(
        (tokens) => window.engine.detokenize(tokens),
        generated_token_ids.slice(0, TOKENS),
      );
      assert.equal(text, expected, name);
    }
  },

  async "a stream equals the whole, two at once"({ page }) {
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
  },

  async "a second turn reuses the first, with the same text"({ page }) {
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
  },

  async "requests at once share steps"({ page }) {
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
  },

  async "a request cancelled before its first step ends"({ page }) {
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
  },

  async "an aborted request ends and the next one works"({ page }) {
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
  },

  async "a wrong request names its field"({ page }) {
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
  },

  async "memory stays below 64 MB and the largest tensor"({ page }) {
    const { wasmBytes } = await page.evaluate(() => window.engine.counters());
    assert.ok(wasmBytes < 64e6 + 30.1e6, `${wasmBytes} bytes`);
    await page.evaluate(() => window.engine.unload());
  },

  async "a lost device is had again, and answers under way go on"({ page, prompts }) {
    await page.evaluate(() => {
      window.devices = [];
      const own = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (...args) {
        if (window.refuse) throw new Error("no device for you");
        const device = await own.apply(this, args);
        window.devices.push(device);
        return device;
      };
    });
    // On the page's own thread, where the test can reach the device.
    const { message, info } = await load(page, MODEL, { worker: false });
    assert.ok(info, message);
    const { prompt_token_ids, generated_token_ids } = prompts.get("chat");
    const { text, whole, expected, devices } = await page.evaluate(
      async ([prompt, max_tokens, generated]) => {
        const body = { prompt, max_tokens, temperature: 0, ignore_eos: true };
        const create = window.engine.completions.create;
        const other = create(body);
        let text = "";
        let chunks = 0;
        for await (const chunk of await create({ ...body, stream: true })) {
          text += chunk.choices[0]?.text ?? "";
          if (++chunks === 3) window.devices.at(-1).destroy();
        }
        const whole = (await other).choices[0].text;
        const expected = await window.engine.detokenize(generated);
        return { text, whole, expected, devices: window.devices.length };
      },
      [prompt_token_ids, TOKENS, generated_token_ids.slice(0, TOKENS)],
    );
    assert.equal(text, expected);
    assert.equal(whole, expected);
    assert.equal(devices, 2);
  },

  async "a device that cannot be had again is a device_lost"({ page }) {
    const { code, message } = await page.evaluate(async () => {
      window.refuse = true;
      window.devices.at(-1).destroy();
      try {
        await window.engine.completions.create({ prompt: "A", max_tokens: 2 });
        return { message: "it answered" };
      } catch ({ code, message }) {
        return { code, message };
      } finally {
        window.refuse = false;
      }
    });
    assert.equal(code, "device_lost", message);
    assert.match(message, /reload the page/);
    await page.evaluate(() => window.engine.unload());
  },

  async "an aborted load is aborted"({ page }) {
    const { code } = await load(page, MODEL, { abortIn: "upload" });
    assert.equal(code, "aborted");
  },

  async "a wrong digest is a bad_digest, and a deleted model is gone"({ page }) {
    const { code, message } = await load(page, MODEL, { sha256: "0".repeat(64) });
    assert.equal(code, "bad_digest", message);
    const left = await page.evaluate(async () => {
      const { deleteModel, listModels } = await import("/package/index.js");
      await deleteModel();
      return listModels();
    });
    assert.deepEqual(left, []);
  },
};

CHECKS["a full disk is a quota_exceeded, and leaves no half a model"] = async ({ page, server }) => {
  const session = await page.context().newCDPSession(page);
  const { origin } = server;
  await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 20_000_000 });
  server.seen.length = 0;
  const { code, message } = await load(page, MODEL);
  await session.send("Storage.overrideQuotaForOrigin", { origin });
  assert.equal(code, "quota_exceeded", message);
  assert.match(message, /delete a cached model or free some space/);
  const left = await page.evaluate(async () => (await import("/package/index.js")).listModels());
  assert.deepEqual(left.filter((model) => model.complete), []);
};

CHECKS["a server without ranges serves a whole download, and a broken one from its start"] = async ({ page, server }) => {
  server.faults[MODEL] = { ranges: false, cutAfter: 60_000_000 };
  const broken = await load(page, MODEL);
  assert.equal(broken.code, "network_error", broken.message);
  server.faults[MODEL] = { ranges: false };
  const { info, message } = await load(page, MODEL);
  assert.ok(info, message);
  delete server.faults[MODEL];
  await page.evaluate(() => window.engine.unload());
};

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { chromium: { type: "string", default: "/usr/bin/chromium" } },
  });
  if (positionals.length !== 2) {
    throw new Error("usage: node engine.mjs PACKAGE MODEL.gguf [--chromium PATH]");
  }
  const [folder, model] = positionals;
  const fixture = await readFile(path.join(here, "../fixtures/smollm2-greedy.json"), "utf8");
  const { prompts: list } = JSON.parse(fixture);
  const prompts = new Map(list.map((prompt) => [prompt.name, prompt]));
  const server = await serveFiles({
    "/package/": folder,
    [MODEL]: model,
    "/broken.gguf": path.join(here, "package.json"),
  });
  try {
    return await withPage(values.chromium, async ({ page, said }) => {
      page.setDefaultTimeout(10 * 60 * 1000);
      await page.goto(`${server.origin}/`);
      const checks = [];
      for (const [name, check] of Object.entries(CHECKS)) {
        try {
          await check({ page, server, prompts });
          checks.push({ name, why: null });
        } catch (error) {
          checks.push({ name, why: error.message.split("\n").slice(0, 6).join(" ") });
        }
      }
      return conclude(checks, said);
    });
  } finally {
    await server.close();
  }
}

exitWith(main);
