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
/** A tiny model with random weights, in three parts and in one: for what is not about answers. */
const PARTS = [1, 2, 3].map((part) => `/tiny/tiny-0000${part}-of-00003.gguf`);
const TINY = "/tiny/whole.gguf";
/** Tokens of an answer: a software adapter takes a good part of a second for one. */
const TOKENS = 6;
/** Tokens that are compared with the native ones. */
const COMPARED = 24;

/** Loads in the page, with what comes of it: the error's code, or the engine under `window.engine`. */
function load(page, source, options = {}) {
  return page.evaluate(
    async ([source, options]) => {
      const { CreateEngine } = await import("/package/index.js");
      const phases = [];
      const times = {};
      const parts = [];
      const begin = performance.now();
      const initProgressCallback = ({ phase, part }) => {
        if (phases.at(-1) !== phase) phases.push(phase);
        times[phase] ??= (performance.now() - begin) / 1000;
        if (part && parts.at(-1) !== part.number) parts.push(part.number);
        if (options.abortIn === phase) controller.abort();
      };
      const controller = new AbortController();
      try {
        window.engine = await CreateEngine(source, {
          ...options,
          initProgressCallback,
          signal: controller.signal,
        });
        times.ready = (performance.now() - begin) / 1000;
        return { phases, times, parts, info: window.engine.info };
      } catch (error) {
        return { phases, code: error.code, message: error.message, param: error.param };
      }
    },
    [source, options],
  );
}

const unload = (page) => page.evaluate(() => window.engine.unload());

/** Runs `check` on a page of its own, in which `override` has run first. */
async function onOtherPage({ context, server }, override, check) {
  const other = await context.newPage();
  other.setDefaultTimeout(10 * 60 * 1000);
  await other.addInitScript(override);
  try {
    await other.goto(`${server.origin}/`);
    return await check(other);
  } finally {
    await other.close();
  }
}

/** A greedy answer, as tokens would have it the same everywhere. */
function answer(page, max_tokens = 12) {
  return page.evaluate(async (max_tokens) => {
    const body = { prompt: "The quick brown fox", max_tokens, temperature: 0, ignore_eos: true };
    return (await window.engine.completions.create(body)).choices[0].text;
  }, max_tokens);
}

const kept = (page) => page.evaluate(async () => (await import("/package/index.js")).listModels());

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
    const { phases, times, info, message } = await load(page, MODEL);
    assert.ok(info, message);
    assert.deepEqual(phases, ["download", "upload", "compile"]);
    assert.ok(info.software);
    const { download, upload, compile, ready } = times;
    const spent = (from, to) => (to - from).toFixed(2);
    console.log(
      `start: ${ready.toFixed(2)} s from the cache to ready (module ${download.toFixed(2)}, ` +
        `tokenizer, device and its test ${spent(download, upload)}, upload ${spent(upload, compile)}, ` +
        `shaders and first answer ${spent(compile, ready)})`,
    );
    const models = await page.evaluate(async () => (await import("/package/index.js")).listModels());
    assert.equal(models.length, 1);
    assert.ok(models[0].complete);
    delete server.faults[MODEL];
  },

  async "greedy tokens equal the native ones"({ page, prompts }) {
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

CHECKS["parts of a split model are one model, each kept by itself"] = async ({ page, server }) => {
  const whole = await load(page, TINY, { cache: false });
  assert.ok(whole.info, whole.message);
  const expected = await answer(page);
  await unload(page);

  server.faults[PARTS[1]] = { status: 503 };
  const broken = await load(page, PARTS);
  assert.equal(broken.code, "http_error", broken.message);
  delete server.faults[PARTS[1]];
  server.seen.length = 0;
  const first = await load(page, PARTS);
  assert.ok(first.info, first.message);
  assert.equal(first.info.model, "tiny.gguf");
  assert.deepEqual(first.parts, [1, 2, 3]);
  assert.equal(await answer(page), expected);
  const asked = server.seen.map((request) => request.path).filter((path) => PARTS.includes(path));
  assert.deepEqual(asked, PARTS.slice(1));
  await unload(page);

  // The address of any part means all of them, and they are here.
  for (const part of PARTS) server.faults[part] = { status: 503 };
  const again = await load(page, PARTS[2]);
  assert.ok(again.info, again.message);
  assert.equal(await answer(page), expected);
  await unload(page);
  for (const part of PARTS) delete server.faults[part];

  const found = await page.evaluate(async (parts) => {
    const { deleteModel, hasModel, listModels } = await import("/package/index.js");
    const before = await hasModel(parts[1]);
    await deleteModel(parts[0]);
    return { before, after: await hasModel(parts[1]), left: (await listModels()).map(({ url }) => url) };
  }, PARTS);
  assert.equal(found.before, true);
  assert.equal(found.after, false);
  assert.ok(!found.left.some((url) => url.includes("/tiny/")), found.left.join(" "));
};

CHECKS["a split model with a part that is missing, doubled, foreign or damaged says which"] = async ({ page, server }) => {
  const refused = (source, options = {}) => load(page, source, { cache: false, ...options });
  const missing = await refused([PARTS[0], PARTS[2]]);
  assert.equal(missing.code, "bad_model", missing.message);
  assert.match(missing.message, /part 2 of 3 of the GGUF model is missing/);
  const doubled = await refused([...PARTS, PARTS[1]]);
  assert.equal(doubled.code, "bad_model", doubled.message);
  assert.match(doubled.message, /part 2 of 3, as tiny-00002-of-00003\.gguf is too/);
  const foreign = await refused([PARTS[0], TINY, PARTS[2]]);
  assert.equal(foreign.code, "bad_model");
  assert.match(foreign.message, /^whole\.gguf: .*no part of a split GGUF model/);
  const digests = await refused(PARTS, { sha256: ["0".repeat(64)] });
  assert.equal(digests.code, "bad_option");
  assert.equal(digests.param, "sha256");
  const damaged = await refused(PARTS, { sha256: Array(3).fill("0".repeat(64)) });
  assert.equal(damaged.code, "bad_digest");
  assert.match(damaged.message, /tiny-00001-of-00003/);
  const none = await refused([]);
  assert.equal(none.code, "bad_option");
  server.faults[PARTS[2]] = { status: 404 };
  const gone = await refused(PARTS[0]);
  delete server.faults[PARTS[2]];
  assert.equal(gone.code, "http_error");
  assert.match(gone.message, /tiny-00003-of-00003\.gguf/);
};

CHECKS["a request that is aborted in its prefill gives its blocks back"] = async ({ page }) => {
  const { info, message } = await load(page, TINY, { contextSize: 8192 });
  assert.ok(info, message);
  const { before, during, code, after, next } = await page.evaluate(async () => {
    const { engine } = window;
    const before = await engine.counters();
    // More than a step takes.
    const prompt = Array.from({ length: 6000 }, (_, at) => 32 + ((at * 7) % 90));
    const controller = new AbortController();
    const asked = engine.completions.create({ prompt, max_tokens: 5 }, { signal: controller.signal });
    const ended = asked.then(() => "answered", (error) => error.code);
    let during = await engine.counters();
    while (during.running === 0) during = await engine.counters();
    controller.abort();
    const code = await ended;
    const after = await engine.counters();
    const next = await engine.completions.create({ prompt: "Once", max_tokens: 2, ignore_eos: true });
    return { before, during, code, after, next: next.choices[0].finish_reason };
  });
  assert.ok(during.usedBlocks > 0);
  assert.equal(during.generatedTokens, before.generatedTokens, "it was past its prefill");
  assert.equal(code, "aborted");
  assert.equal(after.running, 0);
  assert.equal(after.usedBlocks, 0);
  assert.equal(next, "length");
  await unload(page);
};

CHECKS["unload ends the worker, what it answered, and what comes later"] = async ({ page }) => {
  const { info, message } = await load(page, TINY);
  assert.ok(info, message);
  assert.equal(page.workers().length, 1);
  const codes = await page.evaluate(async () => {
    const { engine } = window;
    const code = ({ reason }) => reason?.code;
    const create = () => engine.completions.create({ prompt: "Once", max_tokens: 4000, ignore_eos: true });
    const before = create();
    await engine.counters();
    const [one] = await Promise.allSettled([before, engine.unload()]);
    const [two] = await Promise.allSettled([create()]);
    return [code(one), code(two)];
  });
  assert.deepEqual(codes, ["unloaded", "unloaded"]);
  while (page.workers().length > 0) await page.waitForEvent("worker", { timeout: 1 }).catch(() => {});
};

CHECKS["on the page's own thread unload gives the adapter's memory back"] = async (all) => {
  const override = () => {
    window.devices = [];
    const own = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      const device = await own.apply(this, args);
      window.devices.push(device);
      return device;
    };
  };
  await onOtherPage(all, override, async (page) => {
    const { info, message } = await load(page, TINY, { worker: false });
    assert.ok(info, message);
    const { reasons, code } = await page.evaluate(async () => {
      const { engine } = window;
      await engine.reload();
      await engine.unload();
      const lost = await Promise.all(window.devices.map((device) => device.lost));
      const [later] = await Promise.allSettled([engine.completions.create({ prompt: "A" })]);
      return { reasons: lost.map(({ reason }) => reason), code: later.reason?.code };
    });
    // That of the first load, and that of the second.
    assert.deepEqual(reasons, ["destroyed", "destroyed"]);
    assert.equal(code, "unloaded");
  });
};

CHECKS["without WebGPU or without an adapter there is a no_adapter"] = async (all) => {
  const nothing = () => Object.defineProperty(Navigator.prototype, "gpu", { value: undefined });
  const none = () => (GPU.prototype.requestAdapter = async () => null);
  for (const [override, says] of [
    [nothing, /no WebGPU/],
    [none, /hardware acceleration/],
  ]) {
    await onOtherPage(all, override, async (page) => {
      const { code, message } = await load(page, TINY, { worker: false });
      assert.equal(code, "no_adapter", message);
      assert.match(message, says);
      const report = await page.evaluate(async () => {
        const { adapterReport } = await import("/package/index.js");
        return adapterReport().then(() => "a report", (error) => error.code);
      });
      assert.equal(report, "no_adapter");
    });
  }
};

CHECKS["an adapter that computes wrong is an adapter_wrong, and is let go"] = async (all) => {
  // What a driver with a fault gives back: a bit of each value is another.
  const override = () => {
    const own = GPUBuffer.prototype.getMappedRange;
    GPUBuffer.prototype.getMappedRange = function (...args) {
      const range = own.apply(this, args);
      if (this.usage & GPUBufferUsage.MAP_READ) {
        const words = new Uint32Array(range);
        words.forEach((word, at) => (words[at] = word ^ 0x800000));
      }
      return range;
    };
  };
  await onOtherPage(all, override, async (page) => {
    const { code, message } = await load(page, TINY, { worker: false });
    assert.equal(code, "adapter_wrong", message);
    assert.match(message, /update its driver/);
  });
};

CHECKS["the adapter option is what the browser is asked for, by report and engine"] = async (all) => {
  const override = () => {
    window.asked = [];
    const own = GPU.prototype.requestAdapter;
    GPU.prototype.requestAdapter = function (options) {
      window.asked.push(options?.powerPreference);
      return own.call(this, options);
    };
  };
  await onOtherPage(all, override, async (page) => {
    for (const adapter of ["low-power", "high-performance"]) {
      const { info, message } = await load(page, TINY, { worker: false, adapter });
      assert.ok(info, message);
      const asked = await page.evaluate(async (adapter) => {
        const { adapterReport } = await import("/package/index.js");
        await adapterReport({ adapter });
        await window.engine.unload();
        return window.asked.splice(0);
      }, adapter);
      // The page before the download and for the name, the module for its device, the report.
      assert.deepEqual(asked, Array(4).fill(adapter));
    }
    const { code, param, message } = await load(page, TINY, { worker: false, adapter: "fastest" });
    assert.equal(code, "bad_option", message);
    assert.equal(param, "adapter");
  });
};

CHECKS["without a private file system models are kept in the Cache API"] = async (all) => {
  const { server } = all;
  const override = () => (StorageManager.prototype.getDirectory = undefined);
  await onOtherPage(all, override, async (page) => {
    // Larger than a piece, and broken off between two.
    server.faults[MODEL] = { cutAfter: 40_000_000 };
    server.seen.length = 0;
    const first = await load(page, MODEL, { worker: false, abortIn: "upload" });
    assert.equal(first.code, "aborted", first.message);
    const ranges = server.seen.filter((request) => request.path === MODEL).map((request) => request.range);
    // The browser's own cache may have some of it, and then asks up to the end.
    assert.match(ranges.at(-1), /^bytes=\d{7,}-\d*$/);
    const [model] = await kept(page);
    assert.ok(model.complete);
    assert.ok(model.pieces.length > 1);

    server.faults[MODEL] = { status: 503 };
    const second = await load(page, MODEL, { worker: false, abortIn: "upload" });
    assert.equal(second.code, "aborted", second.message);
    delete server.faults[MODEL];

    const tiny = await load(page, TINY, { worker: false });
    assert.ok(tiny.info, tiny.message);
    server.faults[TINY] = { status: 503 };
    await page.evaluate(() => window.engine.reload());
    delete server.faults[TINY];
    assert.notEqual(await answer(page), "");
    await unload(page);
    const names = await page.evaluate(async (url) => {
      const { deleteModel, hasModel } = await import("/package/index.js");
      await deleteModel(url);
      const left = await caches.open("fireside").then((cache) => cache.keys());
      return { left: left.length, has: await hasModel(url) };
    }, MODEL);
    // The tiny one's note and its one piece.
    assert.deepEqual(names, { left: 2, has: false });
    await page.evaluate(async () => (await import("/package/index.js")).deleteModel());
  });
};

CHECKS["a known model goes by its name in the store too"] = async ({ page }) => {
  const found = await page.evaluate(async () => {
    const { deleteModel, hasModel, knownModels } = await import("/package/index.js");
    const [{ id, url }] = knownModels;
    // As a finished download leaves it.
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url)));
    const key = Array.from(digest.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("fireside", { create: true });
    const file = await folder.getFileHandle(`${key}.json`, { create: true });
    const writer = await file.createWritable();
    await writer.write(JSON.stringify({ url, size: 1, received: 1, complete: true }));
    await writer.close();
    const before = [await hasModel(id), await hasModel(id.toUpperCase()), await hasModel(url)];
    await deleteModel(id.toLowerCase());
    return { before, after: await hasModel(id) };
  });
  assert.deepEqual(found, { before: [true, true, true], after: false });
};

CHECKS["a disk that fills in the middle is a quota_exceeded, and the cache goes on"] = async ({ page, server }) => {
  await page.evaluate(async () => (await import("/package/index.js")).deleteModel());
  const session = await page.context().newCDPSession(page);
  const { origin } = server;
  await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 30_000_000 });
  // Its length is not told, so that there is nothing to ask the quota for beforehand.
  server.faults[MODEL] = { length: false };
  const { code, message } = await load(page, MODEL);
  assert.equal(code, "quota_exceeded", message);
  assert.match(message, /no room left/);
  const tiny = await load(page, TINY);
  assert.ok(tiny.info, tiny.message);
  await unload(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin });
  const models = await kept(page);
  const [half] = models.filter((model) => !model.complete);
  assert.equal(models.filter((model) => model.complete).length, 1);
  // What is noted of it is there, and a load with more room goes on from it.
  server.faults[MODEL] = {};
  server.seen.length = 0;
  const more = await load(page, MODEL, { abortIn: "upload" });
  assert.equal(more.code, "aborted", more.message);
  const [asked] = server.seen.filter((request) => request.path === MODEL);
  assert.equal(asked.range, half ? `bytes=${half.received}-` : null);
  await page.evaluate(async () => (await import("/package/index.js")).deleteModel());
};

CHECKS["a full disk is a quota_exceeded, and leaves no half a model"] = async ({ page, server }) => {
  const session = await page.context().newCDPSession(page);
  const { origin } = server;
  await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 20_000_000 });
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
    "/tiny/": path.join(here, "../fixtures/tiny-gguf"),
  });
  try {
    return await withPage(values.chromium, async ({ context, page, said }) => {
      page.setDefaultTimeout(10 * 60 * 1000);
      await page.goto(`${server.origin}/`);
      const checks = [];
      for (const [name, check] of Object.entries(CHECKS)) {
        try {
          await check({ context, page, server, prompts });
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
