// The demo page in Chromium on its software adapter: what a person does with it, with axe's rules
// on accessibility, and without a network in the end.
//
//   node demo.mjs PAGE [--model MODEL.gguf] [--chromium PATH] [--shots FOLDER]
//
// PAGE is the built page's folder (web/demo/dist). Without a model, what needs one is skipped. Where
// FIRESIDE_BIN names a `fireside` binary, the page is tried from the real server too.

import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { withPage } from "./chromium.mjs";
import { accessible, answers, becomes, closePanel, openTab, PHONE, WIDE } from "./demo-page.mjs";
import { serveFiles } from "./files.mjs";
import { realServerCheck, remoteChecks } from "./remote.mjs";
import { conclude, exitWith, skipped } from "./report.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const MODEL = "/model.gguf";
const TABS = ["models", "settings", "gpu", "bench", "storage"];
/** Markdown that tries what a page must not let it do. */
const HOSTILE = [
  "<img src=x onerror=\"window.hurt = 'img'\"> <script>window.hurt = 'script'</script>",
  "[a link](javascript:window.hurt='link') [another](data:text/html,x) [fine](https://example.org/)",
  "<a href=\"javascript:window.hurt='a'\">raw</a> <iframe srcdoc=\"x\"></iframe> <svg onload=\"window.hurt = 'svg'\"></svg>",
  "<form action=\"https://example.org\"><input name=q></form> <b style=\"position:fixed\" class=\"composer\">bold</b>",
  "![picture](https://example.org/x.png)",
  "```js\nwindow.hurt = 1; // </code></pre><script>window.hurt = 'code'</script>\n```",
  "| a | b |\n| - | - |\n| 1 | 2 |",
].join("\n\n");

/** Loads a model by its address, as a person would. */
async function load(page, url) {
  await page.click("#model-chip");
  await page.fill("#model-url", url);
  await page.press("#model-url", "Enter");
  await closePanel(page);
}

async function keep(page, turns) {
  await page.evaluate((turns) => localStorage.setItem("fireside.conversation", JSON.stringify(turns)), turns);
  await page.reload();
}

/** Checks that need no model. */
const CHECKS = {
  async "the first visit offers a model"({ page, shot }) {
    await page.waitForSelector("#start");
    assert.match(await page.innerText("#welcome"), /98\.4 MB/);
    await accessible(page, "welcome");
    await shot("welcome");
  },

  async "a static host is not asked for what it does not have"({ page, server, said }) {
    const paths = server.seen.map((request) => request.path);
    assert.ok(paths.every((path) => path.startsWith("/demo/")), paths.join(" "));
    assert.equal(await page.isVisible("#places"), false);
    assert.deepEqual(said, []);
  },

  async "every tab of the panel is accessible and fits a phone"({ page, shot }) {
    for (const tab of TABS) {
      await openTab(page, tab);
      await accessible(page, `tab ${tab}`);
      await page.setViewportSize(PHONE);
      await shot(`tab-${tab}`);
      await page.setViewportSize(WIDE);
    }
    await closePanel(page);
  },

  async "the GPU tab says that the adapter is a software one, and what to do"({ page }) {
    await openTab(page, "gpu");
    const text = await page.locator(".findings").innerText();
    assert.match(text, /Software adapter/);
    assert.match(text, /hardware acceleration/);
    assert.match(text, /shader-f16/);
    await closePanel(page);
  },

  async "what an adapter lacks is no reason to hide the page"({ context, origin }) {
    const bare = await context.newPage();
    await bare.addInitScript(() => Object.defineProperty(Navigator.prototype, "gpu", { value: undefined }));
    await bare.goto(origin);
    await bare.waitForSelector(".start-card h2");
    assert.match(await bare.innerText("#welcome-body"), /no WebGPU/);
    await bare.close();
  },

  async "hostile Markdown is harmless"({ page, shot }) {
    await keep(page, [
      { role: "user", content: "<img src=x onerror=\"window.hurt = 'user'\">" },
      { role: "assistant", content: HOSTILE, stats: { tokens: 7, finish: "length" } },
    ]);
    await page.waitForSelector(".code");
    const found = await page.evaluate(() => ({
      hurt: window.hurt ?? null,
      forbidden: document.querySelectorAll(".prose :is(img, script, iframe, svg:not(.icon), form, input, [style], [onerror], [onload], .composer)").length,
      links: [...document.querySelectorAll(".prose a[href]")].map((link) => [link.href, link.rel]),
      code: document.querySelector(".code code").textContent,
      stats: document.querySelector(".stats").textContent,
      bubble: document.querySelector(".bubble").textContent,
    }));
    assert.equal(found.hurt, null);
    assert.equal(found.forbidden, 0);
    const rel = "noopener noreferrer nofollow";
    assert.deepEqual(found.links, [
      ["https://example.org/", rel],
      ["https://example.org/x.png", rel],
    ]);
    assert.match(found.code, /<script>/);
    assert.match(found.stats, /cut off/);
    assert.match(found.bubble, /^<img/);
    await accessible(page, "conversation");
    await shot("conversation");
    await page.click("#new-chat");
    await page.waitForSelector("#start");
  },

  async "an error says its code and what to do"({ page, origin, shot }) {
    await load(page, new URL("/nowhere.gguf", origin).href);
    await page.waitForSelector(".notice");
    const text = await page.innerText(".notice");
    assert.match(text, /http_error/);
    assert.match(text, /404/);
    assert.match(text, /Try again/);
    await accessible(page, "error");
    await shot("error");
    await page.click(".notice [aria-label=Dismiss]");
  },

  async "a new version is offered and takes over whole"({ page, folder }) {
    await page.evaluate(() => navigator.serviceWorker.ready);
    const names = () => page.evaluate(() => caches.keys().then((all) => all.filter((name) => name.startsWith("fireside-demo-"))));
    const [before] = await names();
    const file = path.join(folder, "sw.js");
    const worker = await readFile(file, "utf8");
    const version = before.slice("fireside-demo-".length);
    assert.ok(worker.includes(version));
    await writeFile(file, worker.replaceAll(version, "next"));
    await page.evaluate(() => navigator.serviceWorker.getRegistration().then((one) => one.update()));
    await page.waitForSelector(".toast >> text=new version");
    const loaded = page.waitForEvent("load");
    await page.click(".toast >> text=Reload");
    await loaded;
    await page.waitForSelector("#start");
    assert.deepEqual(await names(), ["fireside-demo-next"]);
  },

  async "settings and theme are remembered"({ page }) {
    await openTab(page, "settings");
    await page.fill("#set-temperature", "0");
    await page.fill("#set-max_tokens", "6");
    await page.fill("#set-seed", "7");
    await page.fill("#set-system", "Answer in few words.");
    await page.fill("#set-top_p", "9");
    await closePanel(page);
    await page.click("#theme");
    await page.click("#theme");
    await page.reload();
    assert.equal(await page.getAttribute("html", "data-theme"), "dark");
    await openTab(page, "settings");
    assert.equal(await page.inputValue("#set-temperature"), "0");
    assert.equal(await page.inputValue("#set-max_tokens"), "6");
    assert.equal(await page.inputValue("#set-seed"), "7");
    assert.equal(await page.inputValue("#set-system"), "Answer in few words.");
    assert.equal(await page.inputValue("#set-top_p"), "0.95");
    await page.fill("#set-system", "");
    await closePanel(page);
    await page.click("#theme");
  },
};

/** Checks that need the model. */
const MODEL_CHECKS = {
  async "a load can be cancelled, and goes on from there"({ page, server, origin, shot }) {
    const url = new URL(MODEL, origin).href;
    await load(page, url);
    await page.waitForFunction(() => /of 98\.4 MB/.test(document.querySelector(".load-detail")?.textContent ?? ""));
    await shot("loading");
    await page.click("#cancel-load");
    await becomes(page, "empty");
    server.seen.length = 0;
    await load(page, url);
    await becomes(page, "ready");
    const first = server.seen.find((request) => request.path === MODEL);
    assert.ok(first === undefined || /^bytes=\d+-$/.test(first.range), `asked for ${first?.range}`);
    await accessible(page, "ready");
    await shot("ready");
  },

  async "a message is answered, with figures under it"({ page, shot }) {
    await page.fill("#prompt", "What is the capital of France?");
    await page.press("#prompt", "Enter");
    await becomes(page, "answering");
    await becomes(page, "ready");
    const [text] = await answers(page);
    assert.match(text, /\w/);
    const stats = await page.innerText(".stats");
    for (const part of [/6 tokens/, /tok\/s/, /first token/, /\d+ prompt tokens/, /cut off/]) assert.match(stats, part);
    assert.ok((await page.innerText("#announcer")).includes(text.slice(0, 10)));
    assert.equal(await page.evaluate(() => document.activeElement?.id), "prompt");
    await accessible(page, "answer");
    await shot("answer");
  },

  async "Escape stops an answer, and it can be made anew"({ page }) {
    await openTab(page, "settings");
    await page.fill("#set-max_tokens", "200");
    await closePanel(page);
    await page.fill("#prompt", "Tell me a long story.");
    await page.press("#prompt", "Enter");
    await page.waitForFunction(() => (document.querySelectorAll(".answer .prose")[1]?.textContent.length ?? 0) > 2);
    await page.keyboard.press("Escape");
    await becomes(page, "ready");
    assert.match(await page.locator(".stats").last().innerText(), /stopped by you/);
    await openTab(page, "settings");
    await page.fill("#set-max_tokens", "2");
    await closePanel(page);
    await page.click("text=Regenerate");
    await becomes(page, "answering");
    await becomes(page, "ready");
    assert.match(await page.locator(".stats").last().innerText(), /2 tokens/);
    assert.equal((await answers(page)).length, 2);
  },

  async "the benchmark gives figures and JSON"({ page, shot }) {
    await openTab(page, "bench");
    await page.selectOption("#bench-plan", "quick");
    await page.click("#bench-run");
    await page.waitForSelector("#bench-json");
    const report = JSON.parse(await page.innerText("#bench-json"));
    assert.ok(report.median.decode_tokens_per_s > 0);
    assert.ok(report.median.prefill_tokens_per_s > 0);
    const { prefill_tokens_per_s, decode_tokens_per_s } = report.median;
    console.log(`benchmark: decode ${decode_tokens_per_s.toFixed(2)} tokens/s, prefill ${prefill_tokens_per_s.toFixed(2)}`);
    // What a token costs natively.
    const native = JSON.parse(await readFile(path.join(here, "../fixtures/smollm2-step.json"), "utf8"));
    const { dispatches, submits, readback_bytes } = report.per_token;
    assert.deepEqual({ what: native.what, dispatches, submits, readback_bytes }, native);
    assert.equal(report.adapter.software, true);
    await accessible(page, "benchmark");
    await shot("benchmark");
    await closePanel(page);
  },

  async "without a network, page and model come from this device"({ context, page, server, origin, shot }) {
    await page.evaluate(() => navigator.serviceWorker.ready);
    const before = await answers(page);
    await server.close();
    await context.setOffline(true);
    await page.goto(origin);
    await page.waitForSelector(".answer");
    assert.deepEqual(await answers(page), before);
    await page.fill("#prompt", "And of Italy?");
    await page.press("#prompt", "Enter");
    await becomes(page, "answering");
    await becomes(page, "ready");
    assert.equal((await answers(page)).length, before.length + 1);
    await shot("offline");
  },

  async "a model that is deleted is gone"({ page }) {
    await openTab(page, "storage");
    await page.click(".tab .model [aria-label^=Delete]");
    await page.waitForFunction(() => /None yet/.test(document.querySelector(".tab").textContent));
    await closePanel(page);
  },
};

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      chromium: { type: "string", default: "/usr/bin/chromium" },
      model: { type: "string" },
      shots: { type: "string" },
    },
  });
  if (positionals.length !== 1) {
    throw new Error("usage: node demo.mjs PAGE [--model MODEL.gguf] [--chromium PATH] [--shots FOLDER]");
  }
  // A copy, so that a new version can be put in its place.
  const folder = await mkdtemp(path.join(os.tmpdir(), "fireside-demo-"));
  await cp(positionals[0], folder, { recursive: true });
  const server = await serveFiles({
    "/demo/": folder,
    [MODEL]: values.model ?? path.join(here, "package.json"),
  });
  if (values.shots) await mkdir(values.shots, { recursive: true });
  try {
    return await withPage(values.chromium, async ({ context, page, said }) => {
      page.setDefaultTimeout(10 * 60 * 1000);
      const origin = `${server.origin}/demo/index.html`;
      const shot = async (name, of = page) => {
        if (values.shots) await of.screenshot({ path: path.join(values.shots, `demo-${name}.png`) });
      };
      const foreign = [];
      context.on("request", (request) => {
        const url = new URL(request.url());
        const from = request.serviceWorker()?.url() ?? request.frame().url();
        if (/^https?:/.test(url.protocol) && from.startsWith("http") && url.origin !== new URL(from).origin) foreign.push(url.href);
      });
      await page.setViewportSize(WIDE);
      await page.goto(origin);
      const checks = [];
      const run = async (name, check, of = page) => {
        try {
          await check({ context, page, server, folder, origin, shot, said });
          checks.push({ name, why: null });
        } catch (error) {
          await shot("failure", of);
          checks.push({ name, why: error.message.split("\n").slice(0, 8).join(" ") });
        }
      };
      for (const [name, check] of Object.entries(CHECKS)) await run(name, check);
      await remoteChecks({ context, folder: positionals[0], shot, run });
      const binary = process.env.FIRESIDE_BIN;
      const real = "the real server answers the page that it serves";
      if (!binary || !values.model) checks.push(skipped(real, binary ? "no model file" : "FIRESIDE_BIN names no binary"));
      else await run(real, () => realServerCheck({ context, binary, model: values.model, folder: positionals[0] }));
      for (const [name, check] of Object.entries(MODEL_CHECKS)) {
        if (values.model) await run(name, check);
        else checks.push(skipped(name, "no model file"));
      }
      const refused = said.filter((line) => /content security policy/i.test(line));
      checks.push({ name: "the content security policy refuses nothing", why: refused[0] ?? null });
      checks.push({ name: "nothing is asked of other hosts", why: foreign[0] ?? null });
      return conclude(checks, said);
    });
  } finally {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  }
}

exitWith(main);
