// An engine from its load to its end: what is aborted, overtaken or unloaded leaves nothing.

import assert from "node:assert/strict";

import { answer, forgetAll, keepDevices, load, MODEL, onOtherPage, TINY, unload, until } from "./page.mjs";

export const CHECKS = {};

CHECKS["a load that is aborted in any phase ends, and gives its device back"] = async (all) => {
  await onOtherPage(all, keepDevices, async (page) => {
    await forgetAll(page);
    for (const phase of ["download", "upload", "compile"]) {
      const { code, message, phases } = await load(page, MODEL, { worker: false, abortIn: phase });
      assert.equal(code, "aborted", `${phase}: ${message}`);
      assert.equal(phases.at(-1), phase);
    }
    const reasons = await page.evaluate(() => Promise.all(window.devices.map((device) => device.lost.then(({ reason }) => reason))));
    // Before the download is over there is none.
    assert.deepEqual(reasons, ["destroyed", "destroyed"]);
  });
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
    const end = performance.now() + 60_000;
    while (during.running === 0 && performance.now() < end) during = await engine.counters();
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

CHECKS["a KV cache of bytes takes about half of one of halves, and another type is a bad_option"] = async ({ page }) => {
  const found = {};
  for (const kvCacheType of [undefined, "f16", "q8"]) {
    const options = kvCacheType === undefined ? {} : { kvCacheType };
    const { info, message } = await load(page, TINY, { contextSize: 256, ...options });
    assert.ok(info, message);
    assert.equal(info.kvCacheType, kvCacheType ?? "f16");
    const { finish_reason, text } = await page.evaluate(async () => {
      const { choices } = await window.engine.completions.create({ prompt: "Once", max_tokens: 4, ignore_eos: true });
      return choices[0];
    });
    assert.equal(finish_reason, "length");
    assert.equal(typeof text, "string");
    found[kvCacheType ?? "none"] = info.cacheBytes;
    await unload(page);
  }
  assert.equal(found.none, found.f16);
  // A scale for each head takes as much as four of its bytes.
  assert.ok(found.q8 > found.f16 / 2 && found.q8 < found.f16, JSON.stringify(found));
  const { code, param, message } = await load(page, TINY, { kvCacheType: "f8" });
  assert.equal(code, "bad_option", message);
  assert.equal(param, "kvCacheType");
  assert.match(message, /kvCacheType is "f8"; expected "f16" or "q8"/);
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
  await until("the worker has ended", () => page.workers().length === 0);
};

CHECKS["on the page's own thread unload gives the adapter's memory back"] = async (all) => {
  await onOtherPage(all, keepDevices, async (page) => {
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

CHECKS["of loads that overlap the last one stands, and the others leave nothing"] = async (all) => {
  await onOtherPage(all, keepDevices, async (page) => {
    const { info, message } = await load(page, TINY, { worker: false });
    assert.ok(info, message);
    const { codes, left, text } = await page.evaluate(async () => {
      const { engine } = window;
      const ended = await Promise.allSettled([engine.reload(), engine.reload(), engine.reload()]);
      const codes = ended.map(({ reason }) => reason?.code ?? "loaded");
      const body = { prompt: "Once", max_tokens: 3, ignore_eos: true };
      const { choices } = await engine.completions.create(body);
      let left = window.devices.length;
      for (const device of window.devices) void device.lost.then(() => (left -= 1));
      await engine.counters();
      return { codes, left, text: choices[0].finish_reason };
    });
    assert.deepEqual(codes, ["aborted", "aborted", "loaded"]);
    assert.equal(text, "length");
    assert.equal(left, 1);
    const after = await page.evaluate(async () => {
      const { engine } = window;
      const loading = engine.reload();
      await engine.unload();
      const [{ reason }] = await Promise.allSettled([loading]);
      await Promise.all(window.devices.map((device) => device.lost));
      return reason?.code ?? "loaded";
    });
    assert.equal(after, "unloaded");
  });
};

CHECKS["a worker of the page's own makes its engine, with addresses of its own"] = async ({ page }) => {
  const text = await page.evaluate(async () => {
    const worker = new Worker("/scripts/own-worker.js", { type: "module" });
    const { data } = await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
    worker.terminate();
    return data;
  });
  const { info, message } = await load(page, TINY, { cache: false });
  assert.ok(info, message);
  assert.equal(text, await answer(page));
  await unload(page);
};

CHECKS["bytes that begin like a byte order mark are read as they are, without a worker"] = async ({ page }) => {
  const read = await page.evaluate(async () => {
    const { blobReader } = await import("/package/reader.js");
    const marks = [[0xef, 0xbb, 0xbf], [0xff, 0xfe], [0xfe, 0xff], [0, 0, 0xfe, 0xff], []];
    return marks.map((mark) => {
      const bytes = [...mark, 0x41, 0x80, 0xff];
      const reader = blobReader(new Blob([new Uint8Array([7, ...bytes, 9])]));
      return [bytes, [...reader.read(1, 1 + bytes.length)]];
    });
  });
  for (const [expected, found] of read) assert.deepEqual(found, expected);
};

CHECKS["an interruption ends requests whose numbers are not known yet"] = async ({ page }) => {
  for (const worker of [true, false]) {
    const { info, message } = await load(page, TINY, worker ? {} : { worker: false });
    assert.ok(info, message);
    const reasons = await page.evaluate(async () => {
      const { engine } = window;
      const body = { prompt: "Once", max_tokens: 4000, ignore_eos: true };
      const running = engine.completions.create(body);
      await engine.counters();
      const late = engine.completions.create(body);
      engine.interruptGenerate();
      const both = await Promise.all([running, late]);
      return both.map(({ choices }) => choices[0].finish_reason);
    });
    assert.deepEqual(reasons, ["abort", "abort"]);
    await unload(page);
  }
};

CHECKS["a File, a Blob, a stream and the files of a folder are sources too"] = async ({ page }) => {
  const { info, message } = await load(page, TINY, { cache: false });
  assert.ok(info, message);
  const expected = await answer(page);
  await unload(page);
  for (const kind of ["file", "blob", "stream"]) {
    const found = await page.evaluate(
      async ([url, kind]) => {
        const { CreateEngine } = await import("/package/index.js");
        const blob = await (await fetch(url)).blob();
        const sources = { file: () => new File([blob], "own.gguf"), blob: () => blob, stream: () => blob.stream() };
        const source = sources[kind]();
        window.engine = await CreateEngine(source);
        const again = await window.engine.reload(source).then(() => "loaded", (error) => `${error.code}: ${error.param}`);
        return { model: window.engine.info.model, again };
      },
      [TINY, kind],
    );
    assert.equal(found.model, kind === "file" ? "own.gguf" : "model.gguf");
    // A stream can be read once.
    assert.equal(found.again, kind === "stream" ? "bad_option: source" : "loaded");
    if (kind === "stream") {
      await unload(page);
      continue;
    }
    assert.equal(await answer(page), expected, kind);
    await unload(page);
  }
  const shards = [1, 2, 3].map((part) => `/sharded/model-0000${part}-of-00003.safetensors`);
  const folder = { config: "/sharded/config.json", tokenizer: "/sharded/tokenizer.json", safetensors: shards };
  const refused = await load(page, folder, { cache: false, sha256: ["0".repeat(64), "", ""] });
  assert.equal(refused.code, "bad_digest", refused.message);
  const loaded = await load(page, folder, { cache: false });
  assert.ok(loaded.info, loaded.message);
  assert.equal(loaded.info.model, "model.safetensors");
  assert.deepEqual(loaded.parts, [1, 2, 3]);
  assert.equal(typeof (await answer(page)), "string");
  await unload(page);
};
