/**
 * The side that owns the device: loads the module and the model, and steps while there is work.
 * Runs in a worker, or in the page.
 */
import init, { Sha256, WebEngine } from "./wasm/fireside_web.js";
import { download, drain, type DownloadOptions } from "./download.js";
import { FiresideError, throwIfAborted, toError, type ErrorObject } from "./errors.js";
import { findModel } from "./models.js";
import { blobReader } from "./reader.js";
import type { Counters, EngineInfo, EngineOptions, InitProgress, ModelSource, SafetensorsSource } from "./types.js";

/** Options that cross to a worker. */
export type HostOptions = Omit<EngineOptions, "initProgressCallback" | "signal" | "worker">;

/** What a step gives for a request. */
export type StepEvent =
  | { request: number; chunk: unknown }
  | { request: number; done: unknown }
  | { request: number; error: { message: string; type: string; param: string | null; code: string | null } };

let ready: Promise<void> | undefined;

function startModule(url: string | undefined): Promise<void> {
  ready ??= (async () => {
    const module = url === undefined ? undefined : { module_or_path: url };
    const raw = (await init(module)) as unknown as { __wasm_call_ctors?: () => void };
    // What Rust registers before main; the module exports it so that it runs once.
    raw.__wasm_call_ctors?.();
  })();
  ready.catch(() => (ready = undefined));
  return ready;
}

async function adapterName(): Promise<string> {
  if (!("gpu" in navigator) || !navigator.gpu) {
    throw new FiresideError(
      "no_adapter",
      "this browser has no WebGPU: use a current Chrome, Edge, Safari or Firefox, over https or on localhost",
    );
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    throw new FiresideError(
      "no_adapter",
      "no GPU adapter: switch on hardware acceleration in the browser's settings and update the GPU's driver",
    );
  }
  const { vendor, architecture, description } = adapter.info;
  return [vendor, architecture, description].filter(Boolean).join(" ");
}

/** Lets messages in that came while the module was busy: an abort among them. */
function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

function nameOf(source: string | Blob): string {
  const text = typeof source === "string" ? source : source instanceof File ? source.name : "model.gguf";
  return decodeURIComponent(text.split(/[?#]/)[0]?.split("/").pop() || "model.gguf");
}

/** An engine on this thread. */
export class Host {
  #engine: WebEngine | undefined;
  #stepping = false;
  readonly #onEvents: (events: StepEvent[]) => void;
  readonly #onFailure: (error: ErrorObject) => void;

  constructor(onEvents: (events: StepEvent[]) => void, onFailure: (error: ErrorObject) => void) {
    this.#onEvents = onEvents;
    this.#onFailure = onFailure;
  }

  /** Loads a model in place of the one before. */
  async load(
    source: ModelSource,
    options: HostOptions,
    signal: AbortSignal | undefined,
    onProgress: (progress: InitProgress) => void,
  ): Promise<EngineInfo> {
    this.unload();
    const begin = performance.now();
    const report = (phase: InitProgress["phase"], loaded: number, total: number, text: string, file?: string) => {
      const progress = total > 0 ? Math.min(1, loaded / total) : 0;
      const timeElapsed = (performance.now() - begin) / 1000;
      onProgress({ phase, progress, loaded, total, timeElapsed, text, ...(file === undefined ? {} : { file }) });
    };
    await startModule(options.wasmUrl);
    const adapter = await adapterName();
    throwIfAborted(signal);
    const fetching = (file: string, sha256?: string): DownloadOptions => ({
      signal,
      headers: options.headers,
      sha256,
      cache: options.cache ?? true,
      newHasher: () => new Sha256(),
      onProgress: (loaded, total) => report("download", loaded, total, `fetching ${file}`, file),
    });
    const uploaded = (loaded: number, total: number) => {
      report("upload", loaded, total, "moving weights to the adapter");
    };
    const context = options.contextSize ?? 0;
    if (!Number.isInteger(context) || context < 0) {
      throw new FiresideError("bad_option", `contextSize is ${context}; expected a whole number of tokens`, "contextSize");
    }
    let engine: WebEngine;
    if (typeof source === "object" && "safetensors" in source) {
      engine = await this.#loadSafetensors(source, fetching, adapter, context, uploaded, signal);
    } else {
      const { blob, name } = await fetchGguf(source, options, fetching);
      throwIfAborted(signal);
      engine = await WebEngine.loadGguf(name, blobReader(blob), adapter, context, uploaded);
    }
    try {
      await turn();
      throwIfAborted(signal);
      report("compile", 0, 1, "compiling shaders");
      await this.#warmUp(engine, signal);
      report("compile", 1, 1, "ready");
    } catch (thrown) {
      engine.free();
      throw thrown;
    }
    this.#engine = engine;
    return JSON.parse(engine.info()) as EngineInfo;
  }

  async #loadSafetensors(
    source: SafetensorsSource,
    fetching: (file: string) => DownloadOptions,
    adapter: string,
    context: number,
    uploaded: (loaded: number, total: number) => void,
    signal: AbortSignal | undefined,
  ): Promise<WebEngine> {
    const text = async (url: string | undefined): Promise<string | undefined> =>
      url === undefined ? undefined : (await download(url, fetching(nameOf(url)))).text();
    const files = {
      "config.json": await text(source.config),
      "tokenizer.json": await text(source.tokenizer),
      "tokenizer_config.json": await text(source.tokenizerConfig),
      "generation_config.json": await text(source.generationConfig),
      "chat_template.jinja": await text(source.chatTemplate),
    };
    const urls = typeof source.safetensors === "string" ? [source.safetensors] : source.safetensors;
    const readers = [];
    for (const url of urls) readers.push(blobReader(await download(url, fetching(nameOf(url)))));
    throwIfAborted(signal);
    const names = urls.map(nameOf);
    return WebEngine.loadSafetensors(
      names[0] ?? "model",
      names,
      readers,
      JSON.stringify(files),
      adapter,
      context,
      uploaded,
    );
  }

  /** One short answer, so that shaders are compiled before the first request. */
  async #warmUp(engine: WebEngine, signal: AbortSignal | undefined): Promise<void> {
    const prompt = Array.from({ length: 8 }, () => 0);
    engine.submit(false, JSON.stringify({ prompt, max_tokens: 2, temperature: 0, ignore_eos: true }), "warm-up", 0);
    while (engine.hasWork()) {
      await engine.step();
      await turn();
      throwIfAborted(signal);
    }
  }

  #loaded(): WebEngine {
    if (!this.#engine) throw new FiresideError("unloaded", "no model is loaded: call reload first");
    return this.#engine;
  }

  /** Submits a body and gives the number of its request. */
  submit(chat: boolean, body: string): number {
    const id = `${chat ? "chatcmpl" : "cmpl"}-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`;
    const number = this.#loaded().submit(chat, body, id, Math.floor(Date.now() / 1000));
    void this.#run();
    return number;
  }

  cancel(request: number): void {
    this.#engine?.cancel(request);
    void this.#run();
  }

  async #run(): Promise<void> {
    if (this.#stepping) return;
    this.#stepping = true;
    try {
      while (this.#engine?.hasWork()) {
        const events = JSON.parse(await this.#engine.step()) as StepEvent[];
        if (events.length > 0) this.#onEvents(events);
      }
    } catch (thrown) {
      this.#onFailure(toError(thrown).toJSON());
    } finally {
      this.#stepping = false;
    }
  }

  tokenize(text: string, special: boolean): number[] {
    return Array.from(this.#loaded().tokenize(text, special));
  }

  detokenize(tokens: number[]): string {
    return this.#loaded().detokenize(new Uint32Array(tokens));
  }

  counters(): Counters {
    return JSON.parse(this.#loaded().counters()) as Counters;
  }

  /** Forgets what ended requests left in the KV cache. */
  clearCache(): void {
    this.#loaded().clearCache();
  }

  /** Gives the model's memory back. */
  unload(): void {
    const engine = this.#engine;
    this.#engine = undefined;
    engine?.free();
  }
}

async function fetchGguf(
  source: Exclude<ModelSource, SafetensorsSource>,
  options: HostOptions,
  fetching: (file: string, sha256?: string) => DownloadOptions,
): Promise<{ blob: Blob; name: string }> {
  if (typeof source === "string") {
    const known = findModel(source);
    const url = known?.url ?? source;
    if (!/^(https?|blob):|^[./]|\.gguf/i.test(url)) {
      throw new FiresideError("bad_option", `${JSON.stringify(source)} is neither a known model nor the URL of a GGUF file`, "source");
    }
    const name = known?.id ?? nameOf(url);
    const absolute = new URL(url, self.location.href).href;
    return { blob: await download(absolute, fetching(name, options.sha256 ?? known?.sha256)), name };
  }
  if (source instanceof Blob) {
    if (options.sha256) await drain(source.stream(), source.size, fetching(nameOf(source), options.sha256));
    return { blob: source, name: nameOf(source) };
  }
  return { blob: await drain(source, 0, fetching("model.gguf", options.sha256)), name: "model.gguf" };
}
