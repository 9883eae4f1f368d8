// Serves folders and files on 127.0.0.1 as a static host would: with ranges, tags and a strict
// content security policy. Faults can be put in the way.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

export const CSP =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' blob:; style-src 'self'; img-src 'self' data:";

const PAGE = '<!doctype html><html lang="en"><head><title>test</title><link rel="icon" href="data:," /></head></html>';

// The file behind an address, or null where there is none or it would lie outside its folder.
export function locate(routes, pathname) {
  for (const [prefix, target] of Object.entries(routes)) {
    if (pathname === prefix) {
      return prefix.endsWith("/") && prefix !== "/" ? null : target;
    }
    if (prefix !== "/" && prefix.endsWith("/") && pathname.startsWith(prefix)) {
      let relative;
      try {
        relative = decodeURIComponent(pathname.slice(prefix.length));
      } catch {
        return null;
      }
      const root = path.resolve(target);
      const file = path.resolve(root, relative);
      return file.startsWith(root + path.sep) ? file : null;
    }
  }
  return null;
}

/** Something to wait for, and the way to let those who wait on. */
function gate() {
  let open;
  const passed = new Promise((resolve) => (open = resolve));
  return { open, passed };
}

// `routes` maps a path to a file (`/` too; without it an empty page is there), or a path that ends
// in a slash to a folder. `faults` may be changed while it serves, by path: {status} instead of the
// file, {ranges: false}, {length: false} (the answer does not say how long it is), {cutAfter} bytes
// (the first {times} of its answers), {etag} and {modified} (null for none), {shift} the beginning of
// a range, {holdAt} so many bytes until `release(path)`; `held(path)` waits until it stands there.
export async function serveFiles(routes, faults = {}) {
  const seen = [];
  const holds = new Map();
  const holdOf = (path) => {
    if (!holds.has(path)) holds.set(path, { held: gate(), released: gate() });
    return holds.get(path);
  };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    seen.push({ path: pathname, method: request.method, range: request.headers.range ?? null });
    const fault = faults[pathname] ?? {};
    if (fault.status) {
      response.writeHead(fault.status).end();
      return;
    }
    if (pathname === "/" && !routes["/"]) {
      response.writeHead(200, { "content-type": TYPES[".html"], "content-security-policy": CSP }).end(PAGE);
      return;
    }
    const file = locate(routes, pathname);
    const found = file && (await stat(file).catch(() => null));
    if (!found?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    const headers = {
      "content-type": TYPES[path.extname(file)] ?? "application/octet-stream",
      "content-security-policy": CSP,
    };
    const { etag = `"${found.size}-${found.mtimeMs}"`, modified } = fault;
    if (etag) headers.etag = etag;
    if (modified) headers["last-modified"] = modified;
    const asked = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    let start = 0;
    let end = found.size - 1;
    let status = 200;
    if (asked && fault.ranges !== false && Number(asked[1]) > end) {
      response.writeHead(416, { "content-range": `bytes */${found.size}` }).end();
      return;
    }
    if (asked && fault.ranges !== false) {
      start = Number(asked[1]) - (fault.shift ?? 0);
      end = asked[2] ? Math.min(Number(asked[2]), end) : end;
      status = 206;
      headers["content-range"] = `bytes ${start}-${end}/${found.size}`;
      headers["accept-ranges"] = "bytes";
    }
    if (fault.length !== false) headers["content-length"] = end - start + 1;
    response.writeHead(status, headers);
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    const cuts = fault.cutAfter !== undefined && (fault.times === undefined || fault.times-- > 0);
    const stop = start + (cuts ? fault.cutAfter : (fault.holdAt ?? Infinity)) - 1;
    const part = createReadStream(file, { start, end: Math.min(stop, end) }).on("error", () => response.destroy());
    part.pipe(response, { end: stop >= end });
    if (stop >= end) return;
    part.on("end", async () => {
      if (cuts) return response.destroy();
      const { held, released } = holdOf(pathname);
      response.on("close", () => holds.delete(pathname));
      held.open();
      await released.passed;
      createReadStream(file, { start: stop + 1, end }).on("error", () => response.destroy()).pipe(response);
    });
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    seen,
    faults,
    held: (path) => holdOf(path).held.passed,
    release: (path) => {
      holdOf(path).released.open();
      holds.delete(path);
    },
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
