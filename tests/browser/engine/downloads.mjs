// How files are fetched and kept: broken, changed, shared between tabs, on a full disk.

import assert from "node:assert/strict";

import { answer, forgetAll, kept, load, MODEL, onOtherPage, PARTS, TINY, unload } from "./page.mjs";

export const CHECKS = {};

CHECKS["a wrong digest is a bad_digest, and a deleted model is gone"] = async ({ page }) => {
  const { code, message } = await load(page, MODEL, { sha256: "0".repeat(64) });
  assert.equal(code, "bad_digest", message);
  const left = await page.evaluate(async () => {
    const { deleteModel, listModels } = await import("/package/index.js");
    await deleteModel();
    return listModels();
  });
  assert.deepEqual(left, []);
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
  const gets = server.seen.filter(({ method }) => method === "GET");
  const asked = gets.map(({ path }) => path).filter((path) => PARTS.includes(path));
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

CHECKS["a download that breaks off at its beginning is taken up again, one that never begins is not"] = async ({ page, server }) => {
  await forgetAll(page);
  server.faults[TINY] = { cutAfter: 1000, times: 3 };
  server.seen.length = 0;
  const { info, message } = await load(page, TINY);
  assert.ok(info, message);
  assert.equal(server.seen.filter(({ path }) => path === TINY).length, 4);
  await unload(page);
  delete server.faults[TINY];

  const nobody = await load(page, "http://127.0.0.1:9/model.gguf");
  assert.equal(nobody.code, "network_error", nobody.message);
  assert.match(nobody.message, /cannot reach/);
};

CHECKS["halves of two versions are never joined, nor those that nothing tells apart"] = async ({ page, server, digest }) => {
  const changed = { etag: '"another"' };
  const changedDate = { etag: null, modified: "Tue, 03 Nov 2026 10:00:00 GMT" };
  const dated = { etag: null, modified: "Mon, 02 Nov 2026 10:00:00 GMT" };
  const unnamed = { etag: null };
  const weak = { etag: 'W/"1"' };
  for (const [before, after, goesOn] of [
    [{}, {}, true],
    [dated, dated, true],
    [{}, changed, false],
    [dated, changedDate, false],
    [unnamed, unnamed, false],
    [weak, weak, false],
    [{}, { shift: 5 }, false],
  ]) {
    await forgetAll(page);
    server.faults[MODEL] = before;
    const half = await load(page, MODEL, { abortAt: 40_000_000 });
    assert.equal(half.code, "aborted", half.message);
    const [{ received }] = await kept(page);
    assert.ok(received >= 8e6 && received < 9e7, `${received} bytes`);
    server.faults[MODEL] = after;
    server.seen.length = 0;
    const { code, message } = await load(page, MODEL, { abortIn: "upload" });
    assert.equal(code, "aborted", message);
    const [model] = await kept(page);
    assert.equal(model.sha256, digest, JSON.stringify(after));
    const ranges = server.seen.filter(({ path }) => path === MODEL).map(({ range }) => range);
    assert.equal(ranges.at(-1), goesOn ? `bytes=${received}-` : null, JSON.stringify(after));
  }
  delete server.faults[MODEL];
};

CHECKS["two tabs that want one model fetch it once, and it is not deleted under them"] = async (all) => {
  const { page, server } = all;
  await forgetAll(page);
  server.seen.length = 0;
  await onOtherPage(all, () => {}, async (other) => {
    // It stands still in the middle until it is let on.
    server.faults[MODEL] = { holdAt: 50_000_000 };
    const first = load(page, MODEL, { abortIn: "upload" });
    await server.held(MODEL);
    const second = load(other, MODEL, { abortIn: "upload" });
    const deleting = await other.evaluate(async (url) => {
      const { deleteModel } = await import("/package/index.js");
      return deleteModel(url).then(() => "deleted", (error) => error.code);
    }, MODEL);
    assert.equal(deleting, "in_use");
    const waits = await load(other, MODEL, { abortIn: "download" });
    assert.equal(waits.code, "aborted", waits.message);
    server.release(MODEL);
    for (const { code, message } of await Promise.all([first, second])) assert.equal(code, "aborted", message);
  });
  delete server.faults[MODEL];
  assert.deepEqual(server.seen.filter(({ path }) => path === MODEL).map(({ range }) => range), [null]);
};

CHECKS["a file's beginning is looked at in doubles, anew with a new file, and never kept whole"] = async ({ page }) => {
  const looks = await page.evaluate(async () => {
    const { Head } = await import("/package/head.js");
    const MB = 1024 * 1024;
    const run = async (sizes, found) => {
      const looks = [];
      const head = new Head(async ({ read }) => {
        const has = (end) => {
          try {
            return read(end - 1, end).length === 1;
          } catch {
            return false;
          }
        };
        let mb = 1;
        while (has((mb + 1) * MB)) mb++;
        looks.push(mb);
        return mb >= found;
      });
      for (const size of sizes) {
        const through = head.through({ update: () => {}, hex: () => "" });
        for (let at = 0; at < size; at++) {
          through.update(new Uint8Array(MB));
          await new Promise((done) => setTimeout(done));
        }
      }
      return looks;
    };
    return {
      found: await run([20], 4),
      never: await run([80], Infinity),
      anew: await run([3, 5], Infinity),
      small: await run([0], 1),
    };
  });
  assert.deepEqual(looks, { found: [1, 2, 4], never: [1, 2, 4, 8, 16, 32], anew: [1, 2, 1, 2, 4], small: [] });
};

CHECKS["a source that gives nothing can be aborted: a server's, and a stream"] = async ({ page, server }) => {
  await forgetAll(page);
  for (const cache of [true, false]) {
    server.faults[MODEL] = { holdAt: 1000 };
    const { code, message } = await load(page, MODEL, { cache, abortAt: 1 });
    assert.equal(code, "aborted", message);
  }
  delete server.faults[MODEL];
  const { code, cancelled } = await page.evaluate(async () => {
    const { CreateEngine } = await import("/package/index.js");
    const controller = new AbortController();
    let cancelled = false;
    const source = {
      pull: (to) => {
        to.enqueue(new Uint8Array(10));
        return new Promise(() => controller.abort());
      },
      cancel: () => void (cancelled = true),
    };
    // Nothing of it is asked for before it is read.
    const stream = new ReadableStream(source, { highWaterMark: 0 });
    const code = await CreateEngine(stream, { worker: false, signal: controller.signal }).then(
      () => "loaded",
      (error) => error.code,
    );
    return { code, cancelled };
  });
  assert.equal(code, "aborted");
  assert.ok(cancelled);
};

CHECKS["without the cache a download that breaks off is a network_error too"] = async ({ page, server }) => {
  server.faults[TINY] = { cutAfter: 1000 };
  const { code, message } = await load(page, TINY, { cache: false });
  delete server.faults[TINY];
  assert.equal(code, "network_error", message);
  assert.match(message, /broke off/);
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
    assert.match(ranges.at(-1), /^bytes=\d{7,}-$/);
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
    await forgetAll(page);
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
  await forgetAll(page);
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
  assert.ok(half?.received >= 8e6, `${half?.received} bytes are kept`);
  // What is noted of it is there, and a load with more room goes on from it.
  server.faults[MODEL] = {};
  server.seen.length = 0;
  const more = await load(page, MODEL, { abortIn: "upload" });
  assert.equal(more.code, "aborted", more.message);
  const [asked] = server.seen.filter((request) => request.path === MODEL);
  assert.equal(asked.range, `bytes=${half.received}-`);
  await forgetAll(page);
};

CHECKS["too little room by the browser's estimate is a quota_exceeded, before anything is kept"] = async (all) => {
  const { page, server } = all;
  await forgetAll(page);
  // Chromium tells every origin of the same quota, whatever it grants.
  const override = () => (navigator.storage.estimate = async () => ({ usage: 10e6, quota: 105e6 }));
  await onOtherPage(all, override, async (other) => {
    const refused = (source) => load(other, source, { worker: false });
    const { code, message } = await refused(MODEL);
    assert.equal(code, "quota_exceeded", message);
    assert.match(message, /needs 99 MB and this origin has 95 MB left: delete a cached model or free some space/);
    // All parts of a model are one need, known before the first is fetched.
    server.seen.length = 0;
    const split = await refused([TINY, MODEL]);
    assert.equal(split.code, "quota_exceeded", split.message);
    assert.match(split.message, /needs 99 MB/);
    assert.deepEqual(server.seen.map(({ method }) => method).filter((method) => method !== "GET"), ["HEAD", "HEAD"]);
    assert.ok(!server.seen.some(({ path, method }) => method === "GET" && [TINY, MODEL].includes(path)));
  });
  assert.deepEqual(await kept(page), []);
};

CHECKS["a server without ranges serves a whole download, and a broken one from its start"] = async ({ page, server, digest }) => {
  server.faults[MODEL] = { ranges: false, cutAfter: 60_000_000 };
  server.seen.length = 0;
  const broken = await load(page, MODEL);
  assert.equal(broken.code, "network_error", broken.message);
  const asked = server.seen.filter(({ path }) => path === MODEL).map(({ range }) => range);
  // Each of its tries asks for the rest, and gets the whole.
  assert.equal(asked.length, 4);
  assert.equal(asked[0], null);
  for (const range of asked.slice(1)) assert.match(range, /^bytes=\d{7,}-$/);
  server.faults[MODEL] = { ranges: false };
  const { code, message } = await load(page, MODEL, { abortIn: "upload" });
  assert.equal(code, "aborted", message);
  delete server.faults[MODEL];
  const [model] = await kept(page);
  assert.ok(model.complete);
  assert.equal(model.sha256, digest);
};
