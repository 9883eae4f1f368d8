/** The page's side of an engine, wherever it runs. */
import { FiresideError, toError, type ErrorObject } from "./errors.js";
import type { HostOptions, StepEvent } from "./host.js";
import type { Answer, Call, RequestKind } from "./protocol.js";
import type { AdapterSource, Counters, EngineInfo, InitProgress, ModelSource } from "./types.js";

/** What an engine's other side does. */
export interface Port {
  load(
    source: ModelSource,
    options: HostOptions,
    signal: AbortSignal | undefined,
    onProgress: (progress: InitProgress) => void,
  ): Promise<EngineInfo>;
  submit(kind: RequestKind, body: string): Promise<number>;
  cancel(request: number): void;
  cancelAll(): void;
  loadAdapter(name: string, source: AdapterSource): Promise<void>;
  unloadAdapter(name: string): Promise<void>;
  tokenize(text: string, special: boolean): Promise<number[]>;
  detokenize(tokens: number[]): Promise<string>;
  counters(): Promise<Counters>;
  clearCache(): Promise<void>;
  unload(): Promise<void>;
  /** Ends the other side for good. */
  close(): void;
}

/** Who hears of what happens. */
export interface Listener {
  events(events: StepEvent[]): void;
  /** Nothing is answered any more. */
  failure(error: FiresideError): void;
}

type Unnumbered<T> = T extends unknown ? Omit<T, "call"> : never;
type Numbered = Unnumbered<Extract<Call, { call: number }>>;

/** An engine in a dedicated worker. */
export class WorkerPort implements Port {
  readonly #worker: Worker;
  readonly #listener: Listener;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: FiresideError) => void }>();
  #next = 1;
  /** Why nothing is answered any more. */
  #closed: FiresideError | undefined;
  #onProgress: (progress: InitProgress) => void = () => {};

  /** `own` is whether nothing else runs in the worker. */
  constructor(worker: Worker, own: boolean, listener: Listener) {
    this.#worker = worker;
    this.#listener = listener;
    const failed = (why: string) => this.#end(new FiresideError("server_error", `the engine's worker failed: ${why}`));
    worker.addEventListener("message", (event: MessageEvent<Answer>) => this.#hear(event.data));
    worker.addEventListener("messageerror", () => failed("it said what cannot be read"));
    worker.addEventListener("error", (event) => {
      // A fault in other code of a page's own worker is the page's.
      if (event.message && !own) return;
      event.preventDefault();
      failed(event.message || "its script did not load");
    });
  }

  #hear(message: Answer): void {
    // A worker of the page's own may have other things to say.
    if (message?.fireside !== true) return;
    if ("progress" in message) return this.#onProgress(message.progress);
    if ("events" in message) return this.#listener.events(message.events);
    const waiting = this.#waiting.get(message.call);
    this.#waiting.delete(message.call);
    if ("error" in message) waiting?.reject(fromObject(message.error));
    else waiting?.resolve(message.value as never);
  }

  /** Nothing is answered any more. */
  #end(error: FiresideError): void {
    this.#closed = error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    this.#listener.failure(error);
  }

  #call<T>(message: Numbered, transfer: Transferable[] = []): { call: number; answer: Promise<T> } {
    const call = this.#next++;
    // A worker that has ended would never answer.
    if (this.#closed) return { call, answer: Promise.reject(this.#closed) };
    const answer = new Promise<T>((resolve, reject) => {
      this.#waiting.set(call, { resolve: resolve as (value: never) => void, reject });
    });
    this.#worker.postMessage({ call, ...message }, transfer);
    return { call, answer };
  }

  async load(
    source: ModelSource,
    options: HostOptions,
    signal: AbortSignal | undefined,
    onProgress: (progress: InitProgress) => void,
  ): Promise<EngineInfo> {
    this.#onProgress = onProgress;
    const transfer = source instanceof ReadableStream ? [source] : [];
    const { call, answer } = this.#call<EngineInfo>({ do: "load", source, options }, transfer);
    const abort = () => this.#worker.postMessage({ do: "abort", load: call } satisfies Call);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
    try {
      return await answer;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  submit(kind: RequestKind, body: string): Promise<number> {
    return this.#call<number>({ do: "submit", kind, body }).answer;
  }

  cancel(request: number): void {
    this.#worker.postMessage({ do: "cancel", request } satisfies Call);
  }

  cancelAll(): void {
    this.#worker.postMessage({ do: "cancelAll" } satisfies Call);
  }

  loadAdapter(name: string, source: AdapterSource): Promise<void> {
    return this.#call<void>({ do: "loadAdapter", name, source }).answer;
  }

  unloadAdapter(name: string): Promise<void> {
    return this.#call<void>({ do: "unloadAdapter", name }).answer;
  }

  tokenize(text: string, special: boolean): Promise<number[]> {
    return this.#call<number[]>({ do: "tokenize", text, special }).answer;
  }

  detokenize(tokens: number[]): Promise<string> {
    return this.#call<string>({ do: "detokenize", tokens }).answer;
  }

  counters(): Promise<Counters> {
    return this.#call<Counters>({ do: "counters" }).answer;
  }

  clearCache(): Promise<void> {
    return this.#call<void>({ do: "clearCache" }).answer;
  }

  unload(): Promise<void> {
    return this.#call<void>({ do: "unload" }).answer;
  }

  close(): void {
    this.#worker.terminate();
    this.#end(new FiresideError("unloaded", "the engine has been unloaded: make another one"));
  }
}

function fromObject({ code, message, param }: ErrorObject): FiresideError {
  return new FiresideError(code, message, param);
}

/** An engine on the page's own thread. */
export async function localPort(listener: Listener): Promise<Port> {
  const { Host } = await import("./host.js");
  const host = new Host((events) => listener.events(events));
  return {
    load: (source, options, signal, onProgress) => host.load(source, options, signal, onProgress),
    submit: (kind, body) => host.submit(kind, body),
    cancel: (request) => host.cancel(request),
    cancelAll: () => host.cancelAll(),
    loadAdapter: (name, source) => host.loadAdapter(name, source),
    unloadAdapter: (name) => host.unloadAdapter(name),
    tokenize: (text, special) => host.tokenize(text, special),
    detokenize: (tokens) => host.detokenize(tokens),
    counters: () => host.counters(),
    clearCache: async () => host.clearCache(),
    unload: async () => host.unload(),
    close: () => host.unload(),
  };
}

/** Rejects where a call fails, with this package's error. */
export async function typed<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (thrown) {
    throw toError(thrown);
  }
}
