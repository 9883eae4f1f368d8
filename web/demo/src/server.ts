/**
 * The server that this page came from, where it has OpenAI's API: answers as an engine in the tab
 * gives them.
 */
import { FiresideError, type ChatCompletionChunk, type ChatRequest, type Stream, type Usage } from "fireside-llm";

import { events } from "./sse.js";

/** What the page needs of an engine, wherever it runs. */
export interface ChatEngine {
  chat: { completions: { create(body: ChatRequest & { stream: true }): Promise<Stream<ChatCompletionChunk>> } };
  unload(): Promise<void>;
}

/** OpenAI's error object. */
interface Failure {
  error: { message?: string; type?: string; param?: string | null; code?: string | null };
}

const isFailure = (body: unknown): body is Failure =>
  typeof body === "object" && body !== null && typeof (body as Record<string, unknown>)["error"] === "object";

function failed({ error }: Failure, otherwise: string): FiresideError {
  const code = error.code ?? error.type ?? otherwise;
  return new FiresideError(code, error.message ?? "the server says no more", error.param ?? undefined);
}

async function refused(response: Response): Promise<FiresideError> {
  const code = response.status === 401 ? "invalid_api_key" : "bad_answer";
  const body: unknown = await response.json().catch(() => null);
  if (isFailure(body)) return failed(body, code);
  return new FiresideError(code, `the server answered ${`${response.status} ${response.statusText}`.trim()}`);
}

/** What the page can measure of an answer: the server tells counts only. */
class Clock {
  readonly #begin = performance.now();
  #first = 0;
  #last = 0;

  token(): void {
    this.#last = performance.now();
    this.#first ||= this.#last;
  }

  extra(tokens: number): Usage["extra"] {
    const spent = (this.#last - this.#first) / 1000;
    return {
      prefill_tokens_per_s: 0,
      decode_tokens_per_s: tokens > 1 && spent > 0 ? (tokens - 1) / spent : 0,
      time_to_first_token_s: this.#first > 0 ? (this.#first - this.#begin) / 1000 : 0,
      time_per_output_token_s: tokens > 1 ? spent / (tokens - 1) : 0,
      e2e_latency_s: (performance.now() - this.#begin) / 1000,
    };
  }
}

/** A server with OpenAI's API at an address. */
export class Server implements ChatEngine {
  readonly #base: URL;
  /** The key that it is given, if any. */
  key = "";
  /** Whether it has asked for a key. */
  wantsKey = false;
  /** The name of its model, once connected. */
  model = "";
  /** Tokens of a prompt and its answer together, where it says so. */
  context: number | undefined;
  readonly chat = { completions: { create: async (body: ChatRequest & { stream: true }) => this.#stream(body) } };

  constructor(base: URL, key: string) {
    this.#base = base;
    this.key = key;
  }

  get address(): string {
    return this.#base.host + this.#base.pathname.replace(/\/$/, "");
  }

  /** Asks which model it has. Throws the package's error. */
  async connect(signal: AbortSignal): Promise<this> {
    const response = await this.#ask("v1/models", { signal });
    const list: unknown = await response.json().catch(() => null);
    const [first] = (list as { data?: { id?: unknown; max_model_len?: unknown }[] } | null)?.data ?? [];
    if (typeof first?.id !== "string") {
      throw new FiresideError("bad_answer", "the server's /v1/models names no model");
    }
    this.model = first.id;
    this.context = typeof first.max_model_len === "number" ? first.max_model_len : undefined;
    return this;
  }

  /** There is nothing here to give back. */
  async unload(): Promise<void> {}

  async #ask(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.key !== "") headers.set("authorization", `Bearer ${this.key}`);
    let response: Response;
    try {
      response = await fetch(new URL(path, this.#base), { ...init, headers, cache: "no-store" });
    } catch (thrown) {
      if (init.signal?.aborted) throw new FiresideError("aborted", "aborted by the caller");
      throw new FiresideError("server_unreachable", `cannot reach ${this.address}: ${String((thrown as Error).message)}`);
    }
    if (response.status === 401) this.wantsKey = true;
    if (!response.ok) throw await refused(response);
    return response;
  }

  #stream(body: ChatRequest & { stream: true }): Stream<ChatCompletionChunk> {
    const controller = new AbortController();
    const chunks = this.#chunks(body, controller);
    return { cancel: () => controller.abort(), [Symbol.asyncIterator]: () => chunks };
  }

  async *#chunks(body: ChatRequest, controller: AbortController): AsyncGenerator<ChatCompletionChunk, void> {
    const { signal } = controller;
    const clock = new Clock();
    let last: ChatCompletionChunk | undefined;
    try {
      const response = await this.#ask("v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...body, model: this.model }),
        signal,
      });
      for await (const data of events(response.body)) {
        if (data === "[DONE]") return;
        const chunk: unknown = JSON.parse(data);
        if (isFailure(chunk)) throw failed(chunk, "server_error");
        last = chunk as ChatCompletionChunk;
        if (last.choices[0]?.delta.content) clock.token();
        if (last.usage) last.usage = { ...last.usage, extra: clock.extra(last.usage.completion_tokens) };
        yield last;
      }
      throw new FiresideError("server_unreachable", "the answer broke off before its end");
    } catch (thrown) {
      if (!signal.aborted) {
        if (thrown instanceof FiresideError) throw thrown;
        throw new FiresideError("server_unreachable", `the answer broke off: ${String((thrown as Error).message)}`);
      }
      // As an engine in the tab ends an answer that is stopped.
      const choices = [{ index: 0, delta: {}, logprobs: null, finish_reason: "abort" as const }];
      const { id, created } = last ?? { id: "", created: 0 };
      yield { id, object: "chat.completion.chunk", created, model: this.model, choices };
    } finally {
      // A reader that leaves early ends the request.
      controller.abort();
    }
  }
}

/**
 * The API on this page's own origin, if there is one. A static host answers the page's address with the
 * page whatever is asked for, so nothing is looked for there that it would have to refuse.
 */
export async function findServer(key: string): Promise<Server | null> {
  if (!location.protocol.startsWith("http")) return null;
  const page = new URL(location.href);
  page.hash = page.search = "";
  const headers = { accept: "application/json, */*;q=0.1" };
  try {
    const response = await fetch(page, { headers, cache: "no-store" });
    await response.body?.cancel();
    const isPage = response.headers.get("content-type")?.includes("html") === true;
    if (isPage || response.status === 404) return null;
  } catch {
    return null;
  }
  return new Server(new URL("./", page), key);
}
