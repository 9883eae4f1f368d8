// Serves the test page and one folder on 127.0.0.1, at a port that the system picks.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

const here = path.dirname(fileURLToPath(import.meta.url));

// The file behind an address, or null where it would lie outside.
export function locate(pathname, folder) {
  if (pathname === "/") {
    return path.join(here, "page.html");
  }
  const prefix = "/module/";
  if (!pathname.startsWith(prefix)) {
    return null;
  }
  let relative;
  try {
    relative = decodeURIComponent(pathname.slice(prefix.length));
  } catch {
    return null;
  }
  const root = path.resolve(folder);
  const file = path.resolve(root, relative);
  return file.startsWith(root + path.sep) ? file : null;
}

// Resolves to the address of the server and a function that ends it.
export async function serve(folder) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const file = locate(pathname, folder);
    const known = file && (await stat(file).catch(() => null))?.isFile();
    if (!known) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "content-type": TYPES[path.extname(file)] ?? "application/octet-stream",
      "cache-control": "no-store",
    });
    createReadStream(file)
      .on("error", () => response.destroy())
      .pipe(response);
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
