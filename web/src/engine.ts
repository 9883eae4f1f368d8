/** The engine as pages use it: OpenAI's names over a port. */
import { FiresideError, throwIfAborted, toError } from "./errors.js";
import type { StepEvent } from "./host.js";
import { generates, type RequestKind } from "./protocol.js";
import { absoluteUrl, isParts } from "./parts.js";
import { localPort, typed, WorkerPort, type Listener, type Port } from "./port.js";
import type {
  AdapterSource,
  ChatCompletion,
  ChatCompletionChunk,
  ChatRequest,
  Completion,
  CompletionRequest,
  Counters,
  Embeddings,
  EmbeddingsRequest,
  EngineInfo,
  EngineOptions,
  ModelSource,
  RerankRequest,
  Reranked,
} from "./types.js";

/** Second argument of `create`. */
export interface RequestOptions {
  /** Ends the request. */
  signal?: AbortSignal;
}

/** Chunks of a reply, and a way to stop them. */
export interface Stream<Chunk> extends AsyncIterable<Chunk> {
  /** Ends the request; the loop over the chunks ends too. */
  cancel(): void;
}

interface Pending {
  chunk(chunk: unknown): void;
  done(whole: unknown): void;
  fail(error: FiresideError): void;
}

/** The requests under way, and what is said of them. */
class Requests implements Listener {
  readonly #waiting = new Map<number, Pending>();
  /** What was said of a request before its number came back. */
  readonly #early = new Map<number, StepEvent[]>();
  /** Why nothing more will be said. */
  #ended: FiresideError | undefined;

  wait(number: number, pending: Pending): void {
    if (this.#ended) return pending.fail(this.#ended);
    this.#waiting.set(number, pending);
    const early = this.#early.get(number) ?? [];
    this.#early.delete(number);
    this.events(early);
  }

  events(events: StepEvent[]): void {
    for (const event of events) {
      const to = this.#waiting.get(event.request);
      if (to) this.#deliver(to, event);
      else this.#early.set(event.request, [...(this.#early.get(event.request) ?? []), event]);
    }
  }

  #deliver(to: Pending, event: StepEvent): void {
    if ("chunk" in event) return to.chunk(event.chunk);
    this.#waiting.delete(event.request);
    if ("done" in event) return to.done(event.done);
    const { message, type, param, code } = event.error;
    to.fail(new FiresideError(code ?? type, message, param ?? undefined));
  }

  failure(error: FiresideError): void {
    this.#ended = error;
    for (const waiting of this.#waiting.values()) waiting.fail(error);
    this.#waiting.clear();
    this.#early.clear();
  }
}

/** A model in this browser. */
export class Engine {
  readonly #port: Port;
  readonly #requests: Requests;
  #info: EngineInfo;
  #source: ModelSource;
  #options: EngineOptions;

  /** `create` as in OpenAI's library. */
  readonly chat: {
    completions: {
      create(body: ChatRequest & { stream: true }, options?: RequestOptions): Promise<Stream<ChatCompletionChunk>>;
      create(body: ChatRequest & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion>;
      create(body: ChatRequest, options?: RequestOptions): Promise<ChatCompletion | Stream<ChatCompletionChunk>>;
    };
  };
  /** `create` as in OpenAI's library. */
  readonly completions: {
    create(body: CompletionRequest & { stream: true }, options?: RequestOptions): Promise<Stream<Completion>>;
    create(body: CompletionRequest & { stream?: false | null }, options?: RequestOptions): Promise<Completion>;
    create(body: CompletionRequest, options?: RequestOptions): Promise<Completion | Stream<Completion>>;
  };
  /** `create` as in OpenAI's library, for models that make embeddings. */
  readonly embeddings: {
    create(body: EmbeddingsRequest & { encoding_format: "base64" }, options?: RequestOptions): Promise<Embeddings<string>>;
    create(body: EmbeddingsRequest, options?: RequestOptions): Promise<Embeddings>;
  };
  /** How well documents answer a query, the best first, for models that score texts. */
  readonly rerank: (body: RerankRequest, options?: RequestOptions) => Promise<Reranked>;

  private constructor(
    port: Port,
    requests: Requests,
    info: EngineInfo,
    source: ModelSource,
    options: EngineOptions,
  ) {
    this.#port = port;
    this.#requests = requests;
    this.#info = info;
    this.#source = source;
    this.#options = options;
    const create = (kind: RequestKind) => (body: object, options?: RequestOptions) =>
      this.#create(kind, body as { stream?: boolean | null }, options) as never;
    this.chat = { completions: { create: create("chat") } };
    this.completions = { create: create("completion") };
    this.embeddings = { create: create("embeddings") };
    this.rerank = create("rerank");
  }

  /** @internal */
  static async start(source: ModelSource, options: EngineOptions): Promise<Engine> {
    throwIfAborted(options.signal);
    const requests = new Requests();
    let port: Port | undefined;
    try {
      port = await openPort(options, requests);
      const info = await loadInto(port, source, options);
      return new Engine(port, requests, info, source, options);
    } catch (thrown) {
      port?.close();
      throw toError(thrown);
    }
  }

  async #create(kind: RequestKind, body: { stream?: boolean | null }, options?: RequestOptions): Promise<unknown> {
    const signal = options?.signal;
    throwIfAborted(signal);
    const number = await typed(this.#port.submit(kind, textOf(body)));
    const cancel = () => this.#port.cancel(number);
    signal?.addEventListener("abort", cancel, { once: true });
    const release = () => signal?.removeEventListener("abort", cancel);
    if (signal?.aborted) cancel();
    if (body.stream && generates(kind)) {
      const { pending, stream } = streamOf(cancel, signal, release);
      this.#requests.wait(number, pending);
      return stream;
    }
    return new Promise((resolve, reject) => {
      this.#requests.wait(number, {
        chunk() {},
        done(whole) {
          release();
          if (signal?.aborted) reject(new FiresideError("aborted", "aborted by the caller"));
          else resolve(whole);
        },
        fail(error) {
          release();
          reject(error);
        },
      });
    });
  }

  /**
   * Ends every request; what they have so far is their answer, with the reason `abort`. Requests for
   * embeddings and scores fail with the code `aborted`.
   */
  interruptGenerate(): void {
    this.#port.cancelAll();
  }

  /**
   * Ends every request and forgets what ended ones left in the KV cache. Conversations are the
   * caller's messages; the engine keeps none.
   */
  async resetChat(): Promise<void> {
    this.interruptGenerate();
    await typed(this.#port.clearCache());
  }

  /** Loads another model, or the same one anew, in place of this one. */
  async reload(source: ModelSource = this.#source, options: EngineOptions = {}): Promise<void> {
    const { signal: _, ...kept } = this.#options;
    // What was said of the first model's files is not for another's, a key for its host least of all.
    const { headers: _h, sha256: _s, ...general } = kept;
    const all = { ...(source === this.#source ? kept : general), ...options };
    this.#info = await typed(loadInto(this.#port, source, all));
    this.#source = source;
    this.#options = all;
  }

  /**
   * Gives the model a LoRA adapter; requests with its name as their `model` are answered with it, beside those
   * without. Loading another model forgets it.
   */
  loadAdapter(name: string, source: AdapterSource): Promise<void> {
    const file = (own: string | Blob) => (typeof own === "string" ? absoluteUrl(own) : own);
    return typed(this.#port.loadAdapter(name, { ...source, config: file(source.config), weights: file(source.weights) }));
  }

  /** Takes a LoRA adapter from the model; fails while a request has it. */
  unloadAdapter(name: string): Promise<void> {
    return typed(this.#port.unloadAdapter(name));
  }

  /** Gives the adapter's memory back and ends the worker. */
  async unload(): Promise<void> {
    await this.#port.unload().catch(() => {});
    this.#port.close();
  }

  /** What is loaded, and where. */
  get info(): EngineInfo {
    return this.#info;
  }

  /** The tokens of a text; special tokens in it are taken as such with `special`. */
  tokenize(text: string, special = false): Promise<number[]> {
    return typed(this.#port.tokenize(text, special));
  }

  /** The text of tokens. */
  detokenize(tokens: number[]): Promise<string> {
    return typed(this.#port.detokenize(tokens));
  }

  /** Counters since the module started: memory, dispatches, bytes read back. */
  counters(): Promise<Counters> {
    return typed(this.#port.counters());
  }
}

function openPort(options: EngineOptions, listener: Listener): Promise<Port> | Port {
  if (options.worker === false) return localPort(listener);
  const worker =
    options.worker instanceof Worker
      ? options.worker
      : new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "fireside" });
  return new WorkerPort(worker, worker !== options.worker, listener);
}

function loadInto(port: Port, source: ModelSource, options: EngineOptions): Promise<EngineInfo> {
  const { initProgressCallback, signal, worker: _, ...host } = options;
  return port.load(absolute(source), host, signal, (progress) => initProgressCallback?.(progress));
}

/** Streams that a load has taken: nothing is left in them. */
const spent = new WeakSet<ReadableStream>();

/** A request's body as JSON. */
function textOf(body: object): string {
  try {
    return JSON.stringify(body);
  } catch (thrown) {
    throw new FiresideError("invalid_request_error", `the request is no JSON: ${toError(thrown).message}`);
  }
}

/** Addresses are relative to the page, not to the worker's script. */
function absolute(source: ModelSource): ModelSource {
  const file = (url: string) => (/^[./]|\.gguf([?#]|$)/i.test(url) ? absoluteUrl(url) : url);
  if (typeof source === "string") return file(source);
  if (source instanceof ReadableStream) {
    if (source.locked || spent.has(source)) {
      throw new FiresideError("bad_option", "source is a stream that has been read: give another one", "source");
    }
    spent.add(source);
  }
  if (source instanceof Blob || source instanceof ReadableStream) return source;
  if (isParts(source)) return source.map((part) => (typeof part === "string" ? file(part) : part));
  return absoluteUrls(source);
}

/** Addresses in full, wherever they are in an object. */
function absoluteUrls<T>(urls: T): T {
  if (typeof urls === "string") return absoluteUrl(urls) as T;
  if (Array.isArray(urls)) return urls.map(absoluteUrls) as T;
  if (typeof urls !== "object" || urls === null) return urls;
  return Object.fromEntries(Object.entries(urls).map(([name, url]) => [name, absoluteUrls(url)])) as T;
}

/** A stream of what a request gives, and the way to feed it. */
function streamOf(cancel: () => void, signal: AbortSignal | undefined, release: () => void) {
  const queue: unknown[] = [];
  let ended = false;
  let failure: FiresideError | undefined;
  let waiting: (() => void)[] = [];
  const wake = () => {
    for (const next of waiting) next();
    waiting = [];
  };
  const end = () => {
    ended = true;
    release();
    wake();
  };
  const pending: Pending = {
    chunk(chunk) {
      queue.push(chunk);
      wake();
    },
    done() {
      if (signal?.aborted) failure = new FiresideError("aborted", "aborted by the caller");
      end();
    },
    fail(error) {
      failure = error;
      end();
    },
  };
  const stream: Stream<unknown> = {
    cancel,
    [Symbol.asyncIterator]() {
      return {
        async next() {
          for (;;) {
            const chunk = queue.shift();
            if (chunk !== undefined) return { value: chunk, done: false };
            if (failure) {
              // Said once; then the stream is at its end.
              const error = failure;
              failure = undefined;
              throw error;
            }
            if (ended) return { value: undefined, done: true };
            await new Promise<void>((resolve) => waiting.push(resolve));
          }
        },
        async return() {
          cancel();
          return { value: undefined, done: true };
        },
      };
    },
  };
  return { pending, stream };
}
