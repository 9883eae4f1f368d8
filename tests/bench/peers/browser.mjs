// An engine in Chromium: one of the scripts of pages/, with the times of the browser's processes.
//
//   node peers/browser.mjs PAGE CHROMIUM MODEL.gguf [PACKAGE | MODEL.onnx]
//
// PAGE is fireside, onnx, wllama or wllama-webgpu. It runs as the browser tests do: headless, on the software adapter.

import { createServer } from "node:http";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { oneLine, serve, Skip } from "../peer.mjs";
import { treeTicks } from "../processes.mjs";

const here = path.join(path.dirname(fileURLToPath(import.meta.url)), "..");
const [name, chromium, model, extra] = process.argv.slice(2);
const [page, device] = name.split("-");
const own = (name) => path.join(here, "node_modules", name);
const ROUTES = {
  "/pages/": path.join(here, "pages"),
  "/workload.mjs": path.join(here, "workload.mjs"),
  "/model.gguf": model,
  ...(page === "fireside" && { "/package/": extra }),
  ...(page === "wllama" && { "/package/": own("@wllama/wllama/esm") }),
  ...(page === "onnx" && { "/package/": own("onnxruntime-web/dist"), "/model.onnx": extra }),
};
const TYPES = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

// A page that may have threads and shared memory, and the files.
async function files(locate) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    response.setHeader("cross-origin-opener-policy", "same-origin");
    response.setHeader("cross-origin-embedder-policy", "require-corp");
    if (pathname === "/") {
      response.setHeader("content-type", "text/html");
      response.end('<!doctype html><title>bench</title><link rel="icon" href="data:," />');
      return;
    }
    const file = locate(ROUTES, pathname);
    const found = file && (await stat(file).catch(() => null));
    if (!found?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    const asked = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = asked ? Number(asked[1]) : 0;
    const end = asked?.[2] ? Math.min(Number(asked[2]), found.size - 1) : found.size - 1;
    response.writeHead(asked ? 206 : 200, {
      "content-type": TYPES[path.extname(file)] ?? "application/octet-stream",
      "content-length": end - start + 1,
      ...(asked && { "content-range": `bytes ${start}-${end}/${found.size}` }),
    });
    if (request.method === "HEAD") response.end();
    else createReadStream(file, { start, end }).pipe(response);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

async function open() {
  const tests = path.join(here, "../browser");
  const { withPage } = await import(path.join(tests, "chromium.mjs")).catch((error) => {
    throw new Skip(`no playwright in tests/browser: ${error.message}`);
  });
  const { locate } = await import(path.join(tests, "files.mjs"));
  const server = await files(locate);
  let ended;
  const until = new Promise((done) => (ended = done));
  const opened = new Promise((resolve, reject) => {
    withPage(chromium, async ({ page: tab, said }) => {
      tab.setDefaultTimeout(0);
      await tab.exposeFunction("cpuNow", () => ({
        all: treeTicks(process.pid),
        // Pages and their workers: WebAssembly and JavaScript. The adapter has a process of its own.
        page: treeTicks(process.pid, "--type=renderer"),
      }));
      await tab.goto(`${server.origin}/`);
      resolve({ tab, said });
      await until;
    }).catch(reject);
  });
  const { tab, said } = await opened;
  const ask = (kind, request) =>
    tab.evaluate(async ([kind, request]) => window.peer.kinds[kind](request), [kind, request]);
  const about = await tab
    .evaluate(async ([page, device]) => {
      const { open } = await import(`/pages/${page}.mjs`);
      window.peer = await open(device);
      return window.peer.about;
    }, [page, device])
    .catch((error) => {
      const errors = said.filter((line) => line.startsWith("error")).slice(-2);
      throw new Error([oneLine(error), ...errors].join(" | "));
    });
  if (about.skip) throw new Skip(about.skip);
  return {
    about,
    kinds: Object.fromEntries(["greedy", "prefill", "decode"].map((kind) => [kind, (request) => ask(kind, request)])),
    close: async () => {
      ended();
      server.close();
    },
  };
}

await serve(open);
