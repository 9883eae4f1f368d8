// A stand-in for `fireside serve`: the built page for browsers at /, and behind the same addresses
// OpenAI's API as the real server speaks it, chunk for chunk.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";

import { locate } from "./files.mjs";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
export const WORDS = ["The", " fire", " is", " **warm**", "."];
const MODEL = "stand-in-135M";

const errorBody = (message, type, code = null, param = null) => ({ error: { message, type, param, code } });

async function bodyOf(request) {
  let text = "";
  for await (const part of request) text += part;
  return JSON.parse(text);
}

/** The chunks of an answer in the server's order: role, text, finish reason, usage. */
function chunksOf({ max_tokens: most = WORDS.length, stream_options }) {
  const envelope = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_700_000_000, model: MODEL };
  const choice = (delta, finish_reason = null) => ({ ...envelope, choices: [{ index: 0, delta, logprobs: null, finish_reason }] });
  const words = WORDS.slice(0, most);
  const chunks = [choice({ role: "assistant", content: "" }), ...words.map((content) => choice({ content }))];
  chunks.push(choice({}, words.length < WORDS.length ? "length" : "stop"));
  if (stream_options?.include_usage) {
    const prompt_tokens_details = { cached_tokens: 32 };
    const usage = { prompt_tokens: 40, completion_tokens: words.length, total_tokens: 40 + words.length, prompt_tokens_details };
    chunks.push({ ...envelope, choices: [], usage });
  }
  return chunks;
}

/**
 * Serves; what it gives may be changed meanwhile: `key` (what clients must give), `refusal` ({status,
 * body, headers} instead of an answer), `after` ({hold: true} keeps the stream open after its first
 * words, {error} ends it with one, {cut: true} breaks it off). `asked` are the bodies that came, `left`
 * counts streams whose reader went away.
 */
export async function serveApi(folder) {
  const state = { key: "", refusal: null, after: null, asked: [], seen: [], left: 0 };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    state.seen.push(`${request.method} ${pathname}`);
    const json = (status, body, headers = {}) =>
      response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
    if (request.method === "GET" && pathname === "/" && !/text\/html/.test(request.headers.accept ?? "")) {
      response.writeHead(200).end();
      return;
    }
    const api = pathname.startsWith("/v1/") || pathname === "/info";
    if (!api) {
      const file = locate({ "/page/": folder }, `/page${pathname === "/" ? "/index.html" : pathname}`);
      const bytes = file && (await readFile(file).catch(() => null));
      if (!bytes) return response.writeHead(404).end();
      const type = TYPES[path.extname(file)] ?? "application/octet-stream";
      response.writeHead(200, { "content-type": type, vary: "accept" }).end(bytes);
      return;
    }
    if (state.key !== "" && request.headers.authorization !== `Bearer ${state.key}`) {
      const said = request.headers.authorization ? "the api key is wrong" : "no api key: expected the header authorization with Bearer and the key";
      return json(401, errorBody(said, "authentication_error", "invalid_api_key"), { "www-authenticate": "Bearer" });
    }
    if (pathname === "/v1/models") {
      const card = { id: MODEL, object: "model", created: 1_700_000_000, owned_by: "fireside", max_model_len: 2048 };
      return json(200, { object: "list", data: [card] });
    }
    if (pathname !== "/v1/chat/completions" || request.method !== "POST") {
      return json(404, errorBody(`there is nothing at ${pathname}`, "not_found_error", "not_found"));
    }
    const body = await bodyOf(request);
    state.asked.push(body);
    if (state.refusal) return json(state.refusal.status, state.refusal.body, state.refusal.headers);
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    let ended = false;
    response.on("close", () => (state.left += ended ? 0 : 1));
    const send = (data) => response.write(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
    const chunks = chunksOf(body);
    const { after } = state;
    for (const [at, chunk] of chunks.entries()) {
      if (after && at === 3) {
        response.write(":\n\n");
        if (after.hold) return;
        ended = true;
        if (after.error) send(after.error);
        if (after.cut) return response.destroy();
        return response.end();
      }
      // Cut in the middle, as networks do.
      const frame = `data: ${JSON.stringify(chunk)}\n\n`;
      response.write(frame.slice(0, 25));
      await new Promise((done) => setImmediate(done));
      response.write(frame.slice(25));
    }
    send("[DONE]");
    ended = true;
    response.end();
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address();
  return Object.assign(state, {
    origin: `http://127.0.0.1:${port}`,
    error: errorBody,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  });
}
