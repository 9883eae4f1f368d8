// The demo page where a server serves it: answers from that server, the switch to the tab, keys,
// errors, and what stays when the server is gone.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { serveApi, WORDS } from "./api.mjs";
import { accessible, answers, becomes, closePanel, inEveryLook, openTab } from "./demo-page.mjs";
import { until } from "./engine/page.mjs";

const place = (page) => page.evaluate(() => document.querySelector("#places input:checked")?.value ?? null);
const isSwitchShown = (page) => page.isVisible("#places");
const lastStats = (page) => page.locator(".stats").last().innerText();

/** Asks, and waits until the answer has come to its end. */
async function ask(page, text) {
  const before = await page.locator(".answer .turn-actions").count();
  await page.fill("#prompt", text);
  await page.press("#prompt", "Enter");
  await page.waitForFunction((before) => document.querySelectorAll(".answer").length > before, before);
  await becomes(page, "ready");
}

async function noticeOf(page) {
  await page.waitForSelector(".notice");
  return page.innerText(".notice");
}

const CHECKS = {
  async "a page from a server answers through it, with figures"({ page, api, shot }) {
    await becomes(page, "ready");
    assert.ok(await isSwitchShown(page));
    assert.equal(await place(page), "server");
    assert.equal(await page.innerText("#model-name"), "stand-in-135M");
    assert.match(await page.innerText("#welcome-text"), /on this server/);
    assert.match(await page.innerText("#hint"), new RegExp(`What you write goes to ${new URL(api.origin).host}`));
    await accessible(page, "server, ready");
    await inEveryLook(page, (look) => shot(`server-ready-${look.replace(" ", "-")}`));
    await openTab(page, "settings");
    await page.fill("#set-temperature", "0.3");
    await page.fill("#set-system", "Be warm.");
    await closePanel(page);
    await ask(page, "How is the fire?");
    assert.deepEqual(await answers(page), [WORDS.join("").replaceAll("*", "")]);
    const stats = await lastStats(page);
    for (const part of [/5 tokens/, /tok\/s/, /first token/, /40 prompt tokens, 32 from cache/]) assert.match(stats, part);
    const [body] = api.asked;
    assert.equal(body.stream, true);
    assert.equal(body.temperature, 0.3);
    assert.equal(body.model, "stand-in-135M");
    assert.deepEqual(body.messages, [
      { role: "system", content: "Be warm." },
      { role: "user", content: "How is the fire?" },
    ]);
    await accessible(page, "server, answer");
    await inEveryLook(page, (look) => shot(`server-answer-${look.replace(" ", "-")}`));
  },

  async "a stop ends the server's work too"({ page, api }) {
    api.after = { hold: true };
    await page.fill("#prompt", "Tell me a long story.");
    await page.press("#prompt", "Enter");
    await page.waitForFunction(() => document.querySelectorAll(".answer .prose")[1]?.textContent.includes("fire"));
    assert.ok(await page.isDisabled("#places input >> nth=0"));
    await page.keyboard.press("Escape");
    await becomes(page, "ready");
    assert.match(await lastStats(page), /stopped by you/);
    await until("the server is left", () => api.left === 1);
    api.after = null;
    await page.click("text=Regenerate");
    await page.waitForFunction(() => /5 tokens/.test([...document.querySelectorAll(".stats")].at(-1)?.textContent ?? ""));
    assert.equal((await answers(page)).length, 2);
  },

  async "what a server refuses is told with what to do"({ page, api, shot }) {
    const tooLong = api.error("max_tokens is 9; expected at most 1", "invalid_request_error", "context_length_exceeded", "max_tokens");
    const cases = [
      [{ refusal: { status: 429, body: api.error("Model is overloaded", "overloaded_error", "overloaded") } }, /overloaded[^]*busy|busy[^]*overloaded/],
      [{ refusal: { status: 400, body: tooLong } }, /too long[^]*context_length_exceeded[^]*max_tokens is 9/],
      [{ refusal: { status: 503, body: api.error("the model is still loading", "unavailable_error") } }, /not ready[^]*still loading/],
      [{ refusal: { status: 502, body: "<html>" } }, /bad_answer[^]*502/],
      [{ after: { error: api.error("the model failed", "server_error") } }, /server_error[^]*the model failed/],
      [{ after: { cut: true } }, /does not answer[^]*server_unreachable[^]*broke off/],
    ];
    for (const [fault, says] of cases) {
      Object.assign(api, fault);
      await page.fill("#prompt", "And now?");
      await page.press("#prompt", "Enter");
      assert.match(await noticeOf(page), says);
      Object.assign(api, { refusal: null, after: null });
      await page.click(".notice [aria-label=Dismiss]");
      await page.click("#new-chat");
      await becomes(page, "ready");
    }
    api.refusal = { status: 429, body: api.error("Model is overloaded", "overloaded_error", "overloaded") };
    await page.fill("#prompt", "Once more?");
    await page.press("#prompt", "Enter");
    await noticeOf(page);
    await accessible(page, "server, refusal");
    await shot("server-refusal");
    api.refusal = null;
    await page.click(".notice button:has-text(\"Try again\")");
    await page.waitForFunction(() => /5 tokens/.test(document.querySelector(".stats")?.textContent ?? ""));

    // A broken answer is made anew, not gone on with.
    api.after = { cut: true };
    await page.fill("#prompt", "And then?");
    await page.press("#prompt", "Enter");
    await noticeOf(page);
    api.after = null;
    await page.click(".notice button:has-text(\"Try again\")");
    await page.waitForFunction(() => {
      const stats = [...document.querySelectorAll(".stats")];
      return stats.length === 2 && /5 tokens/.test(stats[1].textContent);
    });
    assert.equal((await answers(page)).length, 2);
    await page.click("#new-chat");
  },

  async "a server that wants a key is given one, for this visit"({ page, api, shot }) {
    api.key = "secret";
    await page.reload();
    assert.match(await noticeOf(page), /wants a key[^]*invalid_api_key/);
    assert.match(await page.innerText("#welcome-body"), /wants an API key/);
    await accessible(page, "server, without a key");
    await shot("server-no-key");
    await page.click(".notice button:has-text(\"Enter the key\")");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "server-key");
    await accessible(page, "server, key field");
    await inEveryLook(page, (look) => shot(`server-key-${look.replace(" ", "-")}`));
    await page.fill("#server-key", "wrong");
    await page.press("#server-key", "Enter");
    assert.match(await noticeOf(page), /the api key is wrong/);
    await page.fill("#server-key", "secret");
    await page.press("#server-key", "Enter");
    await becomes(page, "ready");
    await closePanel(page);
    await page.reload();
    await becomes(page, "ready");
    assert.deepEqual(await page.evaluate(() => Object.values(localStorage).filter((value) => value.includes("secret"))), []);
    await ask(page, "With the key?");
    assert.equal((await answers(page)).length, 1);
    await page.click("#new-chat");
    api.key = "";
  },

  async "the switch goes to the tab and back, by keyboard too, and is remembered"({ page, shot }) {
    await page.focus("#places input[value=server]");
    await page.keyboard.press("ArrowRight");
    await becomes(page, "empty");
    assert.equal(await place(page), "tab");
    assert.equal(await page.evaluate(() => document.activeElement?.value), "tab");
    await page.waitForSelector("#start");
    assert.match(await page.innerText("#welcome"), /98\.4 MB/);
    assert.match(await page.innerText("#hint"), /stays on this device/);
    await accessible(page, "server, in the tab");
    await shot("server-tab");
    await page.reload();
    await page.waitForSelector("#places:not([hidden])");
    assert.equal(await place(page), "tab");
    await becomes(page, "empty");
    await page.check("#places input[value=server]");
    await becomes(page, "ready");
    assert.equal(await place(page), "server");
  },

  async "nothing that a server answers is kept, and the page's own cache does not stand before it"({ page, api }) {
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.reload();
    await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
    await becomes(page, "ready");
    api.seen.length = 0;
    await ask(page, "Anything kept?");
    assert.deepEqual(api.seen, ["POST /v1/chat/completions"]);
    const paths = await page.evaluate(async () => {
      const names = await caches.keys();
      const all = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
      return all.flat().map(({ url }) => new URL(url).pathname);
    });
    assert.ok(paths.includes("/index.html"), paths.join(" "));
    assert.deepEqual(paths.filter((path) => path === "/" || /^\/(v1|info)/.test(path)), []);
  },

  async "with the server gone the page comes from this device, for the tab"({ page, api }) {
    await api.close();
    await page.fill("#prompt", "Are you there?");
    await page.press("#prompt", "Enter");
    assert.match(await noticeOf(page), /does not answer[^]*server_unreachable/);
    await page.click(".notice button:has-text(\"Use this tab\")");
    await becomes(page, "empty");
    await page.click("#new-chat");
    await page.reload();
    await page.waitForSelector("#start");
    assert.equal(await isSwitchShown(page), false);
  },
};

/** Runs the checks against a stand-in, in a page of its own. */
export async function remoteChecks({ context, folder, shot, run }) {
  const api = await serveApi(folder);
  const page = await context.newPage();
  try {
    await page.goto(`${api.origin}/`);
    const shotHere = (name) => shot(name, page);
    for (const [name, check] of Object.entries(CHECKS)) {
      await run(name, () => check({ page, api, shot: shotHere }), page);
    }
  } finally {
    await page.close();
    await api.close();
  }
}

/** Starts the real server with the page; gives its address and a way to end it. */
async function startFireside(binary, model, folder) {
  const args = ["serve", "--model", model, "--port", "0", "--web-root", folder];
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stderr.on("data", (text) => (said += text));
  const exit = new Promise((done) => child.once("exit", done));
  const lines = createInterface({ input: child.stdout });
  const origin = await Promise.race([
    new Promise((done) => lines.once("line", (line) => done(line.replace(/^listening on /, "")))),
    exit.then((code) => Promise.reject(new Error(`fireside serve ended with ${code}: ${said.trim()}`))),
  ]);
  const end = () => {
    child.kill("SIGTERM");
    return exit;
  };
  return { origin, end };
}

/** The real server, from the page that it serves. */
export async function realServerCheck({ context, binary, model, folder }) {
  const fireside = await startFireside(binary, model, folder);
  const page = await context.newPage();
  try {
    await page.goto(`${fireside.origin}/`);
    await becomes(page, "ready");
    await openTab(page, "settings");
    await page.fill("#set-temperature", "0");
    await page.fill("#set-max_tokens", "8");
    await closePanel(page);
    // The model may still be loading.
    for (;;) {
      const ready = await fetch(`${fireside.origin}/health/ready`);
      await ready.arrayBuffer();
      if (ready.ok) break;
    }
    await ask(page, "What is the capital of France?");
    assert.match((await answers(page))[0], /Paris/);
    const stats = await lastStats(page);
    for (const part of [/\d tokens?/, /first token/, /prompt tokens/]) assert.match(stats, part);
    await openTab(page, "settings");
    await page.fill("#set-max_tokens", "400");
    await closePanel(page);
    await page.fill("#prompt", "Tell me a long story.");
    await page.press("#prompt", "Enter");
    await page.waitForFunction(() => (document.querySelectorAll(".answer .prose")[1]?.textContent.length ?? 0) > 2);
    await page.keyboard.press("Escape");
    await becomes(page, "ready");
    assert.match(await lastStats(page), /stopped by you/);
    for (;;) {
      const metrics = await (await fetch(`${fireside.origin}/metrics`)).text();
      if (/^vllm:num_requests_running\S* 0(\.0)?$/m.test(metrics)) break;
    }
  } finally {
    await page.close();
    await fireside.end();
  }
}
