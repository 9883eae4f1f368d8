/**
 * The side that owns the device: loads the module and the model, and steps while there is work.
 * Runs in a worker, or in the page.
 */
import init, { Prepared, Sha256, WebEngine } from "./wasm/fireside_web.js";
import { adapterName, openAdapter, preferenceOf } from "./adapter.js";
import { checkRoomForAll, download, drain, type DownloadOptions } from "./download.js";
import { FiresideError, throwIfAborted, toError } from "./errors.js";
import { Head } from "./head.js";
import { findModel } from "./models.js";
import { absoluteUrl, isParts, partsOf } from "./parts.js";
import { generates, type RequestKind } from "./protocol.js";
import { blobReader } from "./reader.js";
import type {
  AdapterPreference,
  AdapterSource,
  Counters,
  EngineInfo,
  EngineOptions,
  InitProgress,
  KvCacheType,
  ModelSource,
  SafetensorsSource,
} from "./types.js";

/** Options that cross to a worker. */
export type HostOptions = Omit<EngineOptions, "initProgressCallback" | "signal" | "worker">;

/** What a step gives for a request. */
export type StepEvent =
  | { request: number; chunk: unknown }
  | { request: number; done: unknown }
  | { request: number; error: { message: string; type: string; param: string | null; code: string | null } };

let ready: { module: Promise<void>; url: string | undefined } | undefined;
/** Why nothing in this realm's module answers any more. */
let trapped: FiresideError | undefined;

async function startModule(url: string | undefined): Promise<void> {
  if (trapped) throw trapped;
  if (ready && url !== undefined && url !== ready.url) {
    throw new FiresideError("bad_option", `wasmUrl is ${url}; the module is loaded from another address`, "wasmUrl");
  }
  ready ??= { module: init(url === undefined ? undefined : { module_or_path: url }).then(() => {}), url };
  try {
    await ready.module;
  } catch (thrown) {
    ready = undefined;
    throw new FiresideError("module_failed", `the WASM module did not start: ${toError(thrown).message}`);
  }
}

/** Calls into the module. One that has trapped cannot be started again in its realm. */
async function within<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (!(thrown instanceof WebAssembly.RuntimeError)) throw thrown;
    const next = typeof document === "undefined" ? "make another engine" : "reload the page";
    trapped = new FiresideError("server_error", `the engine stopped on a fault of its own (${thrown.message}): ${next}`);
    throw trapped;
  }
}

/** Lets messages in that came while the module was busy: an abort among them. */
function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

function nameOf(source: string | Blob): string {
  if (typeof source !== "string") return (source instanceof File && source.name) || "model.gguf";
  const last = source.split(/[?#]/)[0]?.split("/").pop() || "model.gguf";
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/** Which of how many files, counted from 1. */
type Part = NonNullable<InitProgress["part"]>;

/** How a file of the model is fetched. */
type Fetching = (file: string, sha256?: string, part?: Part) => DownloadOptions;

/** What the module wants to know of a load, as JSON. */
type Settings = (name: string) => Promise<string>;

/** Puts the fetched model onto an adapter. */
type Build = (uploaded: (loaded: number, total: number) => void) => Promise<WebEngine>;

/** An adapter that was opened, and has a model's shaders compiled, while the model was fetched. */
class Preparation {
  /** Sees the model's first bytes. */
  readonly head: Head;
  #prepared: Promise<Prepared | undefined> = Promise.resolve(undefined);

  constructor(settings: Settings) {
    this.head = new Head(async (reader) => {
      // A file that began anew is prepared for anew.
      await this.#drop();
      this.#prepared = settings("").then((options) => within(() => Prepared.forGguf(options, reader)));
      // What cannot be prepared for is not looked at again: the load says why.
      return this.#prepared.then(Boolean, () => true);
    });
  }

  /** Gives it away, once. */
  async take(): Promise<Prepared | undefined> {
    this.head.end();
    const prepared = this.#prepared;
    this.#prepared = Promise.resolve(undefined);
    return prepared.catch(() => undefined);
  }

  async #drop(): Promise<void> {
    const prepared = this.#prepared;
    this.#prepared = Promise.resolve(undefined);
    const found = await prepared.catch(() => undefined);
    if (!trapped) found?.free();
  }

  /** Gives the adapter back, if nobody took it. */
  async end(): Promise<void> {
    this.head.end();
    await this.#drop();
  }
}

/** A request under way. */
interface Open {
  /** What the page calls it. */
  readonly number: number;
  readonly kind: RequestKind;
  readonly body: string;
  readonly id: string;
  readonly created: number;
  /** Chunks that the page has. */
  given: number;
  /** Chunks to come that it has already: after a lost device the request runs again from its start. */
  skip: number;
  cancelled: boolean;
}

/** A LoRA adapter's files. */
interface Adapter {
  readonly config: string;
  readonly weights: Blob;
}
/** What the ids of replies begin with. */
const PREFIXES: Record<RequestKind, string> = {
  chat: "chatcmpl",
  completion: "cmpl",
  embeddings: "embd",
  rerank: "rerank",
};

/** Devices lost in a row, without a step between them, after which there is no other try. */
const MOST_LOSSES = 3;

/** An engine on this thread. */
export class Host {
  #engine: WebEngine | undefined;
  #build: Build | undefined;
  /** The model's LoRA adapters, for the next device too. */
  readonly #adapters = new Map<string, Adapter>();
  /** Requests by the number that the module gave them. */
  #open = new Map<number, Open>();
  /** Requests on their way to the module. */
  readonly #coming = new Set<Open>();
  #next = 0;
  #losses = 0;
  /** While the engine is built again. */
  #recovery: Promise<void> | undefined;
  /** Why there is no engine, where one was lost for good. */
  #lost: FiresideError | undefined;
  /** The load under way: what ends it, and its end. */
  #loading: { controller: AbortController; ended: Promise<void> } | undefined;
  #stepping = false;
  /** What waits for the end of a step. */
  readonly #turns: (() => void)[] = [];
  /** The step that runs; the module does not let its engine go before. */
  #step: Promise<string> | undefined;
  readonly #onEvents: (events: StepEvent[]) => void;

  constructor(onEvents: (events: StepEvent[]) => void) {
    this.#onEvents = onEvents;
  }

  /** Loads a model in place of the one before; a load that is under way ends. */
  load(
    source: ModelSource,
    options: HostOptions,
    signal: AbortSignal | undefined,
    onProgress: (progress: InitProgress) => void,
  ): Promise<EngineInfo> {
    const controller = new AbortController();
    const abort = () => controller.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    const unloaded = this.#drop(new FiresideError("aborted", "another load took this one's place"));
    const loading = { controller, ended: unloaded };
    this.#loading = loading;
    const loaded = (async () => {
      await unloaded;
      try {
        return await this.#load(source, options, controller.signal, onProgress);
      } finally {
        signal?.removeEventListener("abort", abort);
        if (this.#loading === loading) this.#loading = undefined;
      }
    })();
    loading.ended = loaded.then(
      () => {},
      () => {},
    );
    return loaded;
  }

  async #load(
    source: ModelSource,
    options: HostOptions,
    signal: AbortSignal,
    onProgress: (progress: InitProgress) => void,
  ): Promise<EngineInfo> {
    throwIfAborted(signal);
    const begin = performance.now();
    type Place = Pick<InitProgress, "file" | "part">;
    const report = (phase: InitProgress["phase"], loaded: number, total: number, text: string, place: Place = {}) => {
      const progress = total > 0 ? Math.min(1, loaded / total) : 0;
      const timeElapsed = (performance.now() - begin) / 1000;
      onProgress({ phase, progress, loaded, total, timeElapsed, text, ...place });
    };
    const power = preferenceOf(options.adapter);
    const context = options.contextSize ?? 0;
    if (!Number.isInteger(context) || context < 0) {
      throw new FiresideError("bad_option", `contextSize is ${context}; expected a whole number of tokens`, "contextSize");
    }
    const kvCacheType = kvCacheTypeOf(options.kvCacheType);
    await startModule(options.wasmUrl);
    // Before a download that no adapter would have a use for.
    await openAdapter(power);
    throwIfAborted(signal);
    const settings = settingsOf(power, context, kvCacheType);
    const preparation = new Preparation(settings);
    const { head } = preparation;
    const safetensors = typeof source === "object" && "safetensors" in source;
    const fetching: Fetching = (file, sha256, part) => {
      const text = part ? `fetching ${file}, ${part.number} of ${part.count}` : `fetching ${file}`;
      // Of a model in several files each has its share.
      const place = part ? { file, part } : { file };
      return {
        file,
        signal,
        headers: options.headers,
        sha256,
        cache: options.cache ?? true,
        // A GGUF model in one file says at its beginning what there is to compile.
        newHasher: () => (part || safetensors ? new Sha256() : head.through(new Sha256())),
        onProgress: (loaded, total) => report("download", loaded, total, text, place),
        onWait: () => report("download", 0, 0, `waiting for another tab to fetch ${file}`, place),
      };
    };
    let moved = false;
    const uploaded = (loaded: number, total: number) => {
      if (moved) return;
      report("upload", loaded, total, "moving weights to the adapter");
      moved = loaded === total;
      // One that is aborted goes no further.
      if (moved && !signal.aborted) report("compile", 0, 1, "compiling shaders");
    };
    let build: Build;
    let engine: WebEngine;
    try {
      build =
        typeof source === "object" && "safetensors" in source
          ? await safetensorsBuild(source, options, fetching, settings)
          : await ggufBuild(source, options, fetching, settings, preparation);
      throwIfAborted(signal);
      engine = await within(() => build(uploaded));
    } finally {
      await preparation.end();
    }
    try {
      await turn();
      throwIfAborted(signal);
      await within(() => this.#warmUp(engine, signal));
      report("compile", 1, 1, "ready");
      throwIfAborted(signal);
    } catch (thrown) {
      if (!trapped) engine.free();
      throw thrown;
    }
    this.#engine = engine;
    this.#build = build;
    return JSON.parse(engine.info()) as EngineInfo;
  }

  /** One short answer, so that what it takes is there before the first request. */
  async #warmUp(engine: WebEngine, signal: AbortSignal): Promise<void> {
    const prompt = [0];
    const { task } = JSON.parse(engine.info()) as EngineInfo;
    const requests: Record<EngineInfo["task"], [RequestKind, object]> = {
      "text-generation": ["completion", { prompt, max_tokens: 2, temperature: 0, ignore_eos: true }],
      "feature-extraction": ["embeddings", { input: prompt }],
      "text-ranking": ["rerank", { query: "a", documents: ["a"] }],
    };
    const [kind, body] = requests[task];
    engine.submit(kind, JSON.stringify(body), "warm-up", 0);
    while (engine.hasWork()) {
      await engine.step();
      await turn();
      throwIfAborted(signal);
    }
  }

  /** Waits until a lost device is had again, or is not. */
  async #settled(): Promise<void> {
    await this.#recovery?.catch(() => {});
  }

  #loaded(): WebEngine {
    if (trapped) throw trapped;
    if (this.#lost) throw this.#lost;
    if (!this.#engine) throw new FiresideError("unloaded", "no model is loaded: call reload first");
    return this.#engine;
  }

  /** Submits a body and gives the number of its request. */
  async submit(kind: RequestKind, body: string): Promise<number> {
    const open: Open = {
      number: this.#next++,
      kind,
      body: generates(kind) ? withSeed(body) : body,
      id: `${PREFIXES[kind]}-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`,
      created: Math.floor(Date.now() / 1000),
      given: 0,
      skip: 0,
      cancelled: false,
    };
    this.#coming.add(open);
    try {
      await this.#recovery;
      this.#submit(this.#loaded(), open);
    } finally {
      this.#coming.delete(open);
    }
    void this.#run();
    return open.number;
  }

  #submit(engine: WebEngine, open: Open): void {
    const inner = engine.submit(open.kind, open.body, open.id, open.created);
    this.#open.set(inner, open);
    if (open.cancelled) engine.cancel(inner);
  }

  cancel(request: number): void {
    this.#cancel((open) => open.number === request);
  }

  /** Cancels every request, those among them whose numbers are not known yet. */
  cancelAll(): void {
    for (const open of this.#coming) open.cancelled = true;
    this.#cancel(() => true);
  }

  #cancel(which: (open: Open) => boolean): void {
    for (const [inner, open] of this.#open) {
      if (!which(open)) continue;
      open.cancelled = true;
      this.#engine?.cancel(inner);
    }
    void this.#run();
  }

  async #run(): Promise<void> {
    if (this.#stepping) return;
    this.#stepping = true;
    try {
      while (this.#engine?.hasWork()) {
        this.#takeTurns();
        const engine = this.#engine;
        try {
          this.#step = within(() => engine.step());
          const events = this.#known(JSON.parse(await this.#step) as StepEvent[]);
          // What is new to the page is progress; running over what it has is not.
          if (events.length > 0) {
            this.#losses = 0;
            this.#onEvents(events);
          } else {
            // A step of a long prompt reads nothing back, and so lets no message in by itself.
            await turn();
          }
        } catch (thrown) {
          const error = toError(thrown);
          const build = this.#build;
          if (this.#engine !== engine) break;
          if (error.code !== "device_lost" || !build) throw thrown;
          if (++this.#losses > MOST_LOSSES) throw this.#lose(error);
          this.#recovery = this.#recover(engine, build);
          await this.#recovery.finally(() => (this.#recovery = undefined));
        } finally {
          this.#step = undefined;
        }
      }
    } catch (thrown) {
      this.#failAll(toError(thrown));
    } finally {
      this.#stepping = false;
      this.#takeTurns();
    }
  }

  /** The events of requests that the page waits for, under its numbers, without what it has. */
  #known(events: StepEvent[]): StepEvent[] {
    const known: StepEvent[] = [];
    for (const event of events) {
      const open = this.#open.get(event.request);
      if (!open) continue;
      if (!("chunk" in event)) {
        this.#open.delete(event.request);
      } else if (open.skip > 0) {
        open.skip -= 1;
        continue;
      } else {
        open.given += 1;
      }
      known.push({ ...event, request: open.number });
    }
    return known;
  }

  /**
   * Puts the model onto a new device, and every request back to work: with its seed it gives the same
   * chunks as long as no tie is near, so those that the page has are passed over.
   */
  async #recover(lost: WebEngine, build: Build): Promise<void> {
    this.#engine = undefined;
    lost.free();
    let engine: WebEngine;
    try {
      engine = await within(() => build(() => {}));
      try {
        for (const [name, { config, weights }] of this.#adapters) {
          const bytes = new Uint8Array(await weights.arrayBuffer());
          await within(async () => engine.addLora(name, config, bytes));
        }
      } catch (thrown) {
        if (!trapped) engine.free();
        throw thrown;
      }
    } catch (thrown) {
      // Another model is being loaded, or none is wanted any more.
      if (this.#build !== build) return;
      throw this.#lose(toError(thrown));
    }
    if (this.#build !== build) return engine.free();
    this.#engine = engine;
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const each of open) {
      each.skip = each.given;
      try {
        this.#submit(engine, each);
      } catch (thrown) {
        this.#onEvents([failed(each, toError(thrown))]);
      }
    }
  }

  /** There is no engine any more, for a device's sake. */
  #lose({ message }: FiresideError): FiresideError {
    this.#engine = undefined;
    this.#lost = new FiresideError("device_lost", `the GPU device was lost and could not be had again (${message}): reload the page`);
    return this.#lost;
  }

  /** Ends every request under way, each with the error. */
  #failAll(error: FiresideError): void {
    const events = [...this.#open.values()].map((open) => failed(open, error));
    this.#open.clear();
    if (events.length > 0) this.#onEvents(events);
  }

  /** Gives the model a LoRA adapter under a name. */
  async loadAdapter(name: string, source: AdapterSource): Promise<void> {
    await this.#settled();
    this.#loaded();
    const build = this.#build;
    const blob = async (own: string | Blob) => {
      if (typeof own !== "string") return own;
      // Small, and not the model's: neither kept nor asked for with the headers of the model's host.
      const how = { file: nameOf(own), headers: source.headers, cache: false, newHasher: () => new Sha256() };
      return download(own, { ...how, onProgress: () => {}, onWait: () => {} });
    };
    const config = await (await blob(source.config)).text();
    const weights = await blob(source.weights);
    const bytes = new Uint8Array(await weights.arrayBuffer());
    await this.#betweenSteps((engine) => {
      if (this.#build !== build) throw new FiresideError("aborted", "another model was loaded meanwhile");
      engine.addLora(name, config, bytes);
      this.#adapters.set(name, { config, weights });
    });
  }

  /** Takes a LoRA adapter from the model. */
  unloadAdapter(name: string): Promise<void> {
    return this.#betweenSteps((engine) => {
      engine.removeLora(name);
      this.#adapters.delete(name);
    });
  }

  /** Calls the module while no step runs: at once, or after the one that does. */
  #betweenSteps(work: (engine: WebEngine) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const turn = () => void within(async () => work(this.#loaded())).then(resolve, reject);
      if (this.#stepping) this.#turns.push(turn);
      else turn();
    });
  }

  #takeTurns(): void {
    for (const turn of this.#turns.splice(0)) turn();
  }

  async tokenize(text: string, special: boolean): Promise<number[]> {
    await this.#settled();
    return Array.from(this.#loaded().tokenize(text, special));
  }

  async detokenize(tokens: number[]): Promise<string> {
    await this.#settled();
    return this.#loaded().detokenize(new Uint32Array(tokens));
  }

  async counters(): Promise<Counters> {
    await this.#settled();
    return JSON.parse(this.#loaded().counters()) as Counters;
  }

  /** Forgets what ended requests left in the KV cache; a new engine has nothing there. */
  clearCache(): void {
    this.#engine?.clearCache();
  }

  /** Lets the model go; requests under way fail, and so does a load. */
  unload(): Promise<void> {
    return this.#drop(new FiresideError("unloaded", "the model was unloaded while it was loaded"));
  }

  async #drop(why: FiresideError): Promise<void> {
    const engine = this.#engine;
    const loading = this.#loading;
    this.#engine = undefined;
    this.#build = undefined;
    this.#adapters.clear();
    this.#lost = undefined;
    loading?.controller.abort(why);
    this.#failAll(new FiresideError("unloaded", "the model was unloaded while it answered"));
    await this.#step?.catch(() => {});
    await this.#settled();
    if (!trapped) engine?.free();
    // Two models at once could be more than the adapter holds.
    await loading?.ended;
  }
}

/** The end of a request by an error. */
function failed({ number }: Open, { code, message }: FiresideError): StepEvent {
  return { request: number, error: { message, type: code, param: null, code } };
}

/** The body with a seed where it has none, so that running it again gives the same tokens. */
function withSeed(body: string): string {
  const parsed = JSON.parse(body) as { seed?: number | null };
  return JSON.stringify({ ...parsed, seed: parsed.seed ?? Math.floor(Math.random() * 2 ** 32) });
}

/** The element type of the KV cache: the one of an option, or the default. */
function kvCacheTypeOf(type: KvCacheType | undefined): KvCacheType {
  if (type === undefined) return "f16";
  if (type === "f16" || type === "q8") return type;
  throw new FiresideError("bad_option", `kvCacheType is ${JSON.stringify(type)}; expected "f16" or "q8"`, "kvCacheType");
}

function settingsOf(power: AdapterPreference, context: number, kvCacheType: KvCacheType): Settings {
  return async (name) => {
    const adapter = adapterName(await openAdapter(power));
    return JSON.stringify({ name, adapter, power, context, kvCacheType });
  };
}

/** A file of the model, under the name that errors call it by. */
interface Named {
  blob: Blob;
  name: string;
}

async function ggufBuild(
  source: Exclude<ModelSource, SafetensorsSource>,
  options: HostOptions,
  fetching: Fetching,
  settings: Settings,
  preparation: Preparation,
): Promise<Build> {
  const { name, files } = await fetchGguf(source, options, fetching);
  const names = files.map((file) => file.name);
  return async (uploaded) => {
    const own = await settings(name);
    const load = (prepared?: Prepared) => {
      const readers = files.map((file) => blobReader(file.blob));
      return WebEngine.loadGguf(own, names, readers, uploaded, prepared);
    };
    const prepared = await preparation.take();
    if (trapped) throw trapped;
    try {
      return await load(prepared);
    } catch (thrown) {
      // A device that was open for as long as the download took may be lost by now.
      if (!prepared || toError(thrown).code !== "device_lost") throw thrown;
      return load();
    }
  };
}

async function safetensorsBuild(
  source: SafetensorsSource,
  options: HostOptions,
  fetching: Fetching,
  settings: Settings,
): Promise<Build> {
  const text = async (url: string | undefined): Promise<string | undefined> =>
    url === undefined ? undefined : (await download(url, fetching(nameOf(url)))).text();
  const files = {
    "config.json": await text(source.config),
    "tokenizer.json": await text(source.tokenizer),
    "tokenizer_config.json": await text(source.tokenizerConfig),
    "generation_config.json": await text(source.generationConfig),
    "chat_template.jinja": await text(source.chatTemplate),
    "modules.json": await text(source.embedding?.modules),
    "1_Pooling/config.json": await text(source.embedding?.pooling),
    "sentence_bert_config.json": await text(source.embedding?.transformer),
    "config_sentence_transformers.json": await text(source.embedding?.prompts),
  };
  const urls = typeof source.safetensors === "string" ? [source.safetensors] : source.safetensors;
  const names = urls.map(nameOf);
  const digests = digestsOf(options.sha256, urls.length);
  const blobs: Blob[] = [];
  if (urls.length > 1) await checkRoomForAll(urls, fetching("model"));
  for (const [at, url] of urls.entries()) blobs.push(await download(url, fetching(nameOf(url), digests[at], partOf(at, urls))));
  return async (uploaded) =>
    WebEngine.loadSafetensors(
      await settings(modelName(names[0] ?? "model")),
      names,
      blobs.map((blob) => blobReader(blob)),
      JSON.stringify(files),
      uploaded,
    );
}

/** Which of the files one is, where there are several. */
function partOf(at: number, all: readonly unknown[]): Part | undefined {
  return all.length > 1 ? { number: at + 1, count: all.length } : undefined;
}

/** The digests that the parts must have: one for a model in one file, else one for each. */
function digestsOf(sha256: HostOptions["sha256"], parts: number): readonly string[] {
  if (sha256 === undefined) return [];
  const all = typeof sha256 === "string" ? [sha256] : sha256;
  if (all.length === parts) return all;
  const found = `${all.length} ${all.length === 1 ? "digest" : "digests"}`;
  throw new FiresideError("bad_option", `sha256 has ${found}; expected ${parts}, one for each file of the model`, "sha256");
}

async function fetchGguf(
  source: Exclude<ModelSource, SafetensorsSource>,
  options: HostOptions,
  fetching: Fetching,
): Promise<{ name: string; files: Named[] }> {
  if (source instanceof ReadableStream) {
    const [sha256] = digestsOf(options.sha256, 1);
    const name = "model.gguf";
    return { name, files: [{ blob: await drain(source, 0, fetching(name, sha256)), name }] };
  }
  const known = typeof source === "string" ? findModel(source) : undefined;
  const parts = known ? [known.url] : typeof source === "string" ? partsOf(source) : isParts(source) ? source : [source];
  if (parts.length === 0) throw new FiresideError("bad_option", "source has no parts; expected at least one address or file", "source");
  const digests = digestsOf(options.sha256 ?? known?.sha256, parts.length);
  for (const part of parts) {
    if (part instanceof Blob || /^(https?|blob):|^[./]|\.gguf/i.test(part)) continue;
    throw new FiresideError("bad_option", `${JSON.stringify(part)} is neither a known model nor the URL of a GGUF file`, "source");
  }
  const files: Named[] = [];
  const urls = parts.filter((part) => typeof part === "string").map(absoluteUrl);
  if (urls.length > 1) await checkRoomForAll(urls, fetching("model"));
  for (const [at, part] of parts.entries()) {
    const name = known?.id ?? nameOf(part);
    const how = fetching(name, digests[at], partOf(at, parts));
    if (typeof part === "string") {
      files.push({ blob: await download(absoluteUrl(part), how), name });
    } else {
      if (how.sha256) await drain(part.stream(), part.size, how);
      files.push({ blob: part, name });
    }
  }
  const [first] = files;
  return { name: modelName(first?.name ?? "model.gguf"), files };
}

/** The name of a model by that of its first file: without which part it is. */
function modelName(file: string): string {
  return file.replace(/-\d{5}-of-\d{5}(\.gguf|\.safetensors)$/, "$1");
}
