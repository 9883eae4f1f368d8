// Tests of the harness itself: `node --test`.

import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";

import { LAUNCH_US, format, judge, skipped, wrappers } from "./report.mjs";
import { locate, serveFiles } from "./files.mjs";

const good = {
  adapter: "a",
  results: [{ name: "rms_norm", ok: true, max_error: 1e-6, tolerance: 1e-5 }],
  launch_us: 12,
};

const failures = (report) => judge(report).filter((check) => check.why !== null);

test("a good report holds and is counted", () => {
  assert.deepEqual(failures(good), []);
  const { text, ok } = format(judge(good));
  assert.ok(ok);
  assert.match(text, /^test rms_norm \.\.\. ok$/m);
  assert.match(text, /^test result: ok\. 2 passed; 0 failed; 0 ignored;/m);
});

test("what cannot run is counted apart, with its reason", () => {
  const { text, ok } = format([...judge(good), skipped("chat", "no model")]);
  assert.ok(ok);
  assert.match(text, /^test chat \.\.\. ignored, no model$/m);
  assert.match(text, /^test result: ok\. 2 passed; 0 failed; 1 ignored;/m);
});

test("a kernel that is off fails", () => {
  const results = [{ name: "glu", ok: false, max_error: 3, tolerance: 1 }];
  const [failure] = failures({ ...good, results });
  assert.equal(failure.name, "glu");
  const { text, ok } = format(judge({ ...good, results }));
  assert.ok(!ok);
  assert.match(text, /^test glu \.\.\. FAILED$/m);
});

test("an error that is no number is not small", () => {
  for (const max_error of [NaN, undefined]) {
    const results = [{ name: "glu", ok: true, max_error, tolerance: 1 }];
    assert.equal(failures({ ...good, results }).length, 1);
  }
});

test("slow or absent launch times fail", () => {
  for (const launch_us of [LAUNCH_US, 5000, -1, NaN, null, undefined]) {
    assert.equal(failures({ ...good, launch_us })[0]?.name, "launch_time", String(launch_us));
  }
});

test("an empty or shapeless report fails", () => {
  assert.equal(failures({ ...good, results: [] }).length, 1);
  assert.equal(failures(null).length, 1);
  assert.equal(failures({}).length, 1);
});

test("wrappers of exports are found by their name", () => {
  assert.equal(wrappers(Buffer.from("\0asm smoke.command_export")).why === null, false);
  assert.equal(wrappers(Buffer.from("\0asm smoke")).why, null);
});

test("no address leads out of the folder", () => {
  const folder = path.resolve("some");
  const routes = { "/": "page.html", "/module/": folder };
  assert.equal(locate(routes, "/module/a.js"), path.join(folder, "a.js"));
  for (const outside of ["/module/../b", "/module/%2e%2e/b", "/module/%zz", "/module/", "/b"]) {
    assert.equal(locate(routes, outside), null, outside);
  }
});

test("the page is served, and nothing for an unknown address", async () => {
  const server = await serveFiles({ "/": "page.html", "/page.js": "page.js", "/module/": "." });
  try {
    const page = await fetch(`${server.origin}/`);
    assert.match(page.headers.get("content-type"), /html/);
    assert.match(await page.text(), /page\.js/);
    assert.match(await (await fetch(`${server.origin}/page.js`)).text(), /runSmoke/);
    assert.equal((await fetch(`${server.origin}/module/absent.wasm`)).status, 404);
  } finally {
    await server.close();
  }
});
