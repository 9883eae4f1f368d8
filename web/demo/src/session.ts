/** The one engine of the page: loads, answers, and tells who listens what it is about. */
import {
  CreateEngine,
  Engine,
  FiresideError,
  type ChatMessage,
  type EngineInfo,
  type FinishReason,
  type InitProgress,
  type ModelSource,
  type Usage,
} from "fireside-llm";

import { Server, type ChatEngine } from "./server.js";
import type { Place, Settings } from "./store.js";

/** A model that a person has chosen. */
export interface Choice {
  /** A known name, a URL, a file of this device, or the model of a server. */
  source: string | File | Server;
  label: string;
}

export type Status = "empty" | "loading" | "ready" | "answering";

/** A piece of an answer, as it is told to the page. */
export interface Piece {
  text: string;
  finish: FinishReason | null;
  usage: Usage | undefined;
}

type Events = "status" | "progress";

/** Any thrown thing as an error of the package. */
export function asError(thrown: unknown): FiresideError {
  if (thrown instanceof FiresideError) return thrown;
  return new FiresideError("server_error", thrown instanceof Error ? thrown.message : String(thrown));
}

export class Session {
  #engine: ChatEngine | undefined;
  #status: Status = "empty";
  #loading: AbortController | undefined;
  #stop: (() => void) | undefined;
  readonly #listeners: Record<Events, (() => void)[]> = { status: [], progress: [] };
  /** The model that is loaded, or being loaded. */
  choice: Choice | undefined;
  progress: InitProgress | undefined;
  /** This page's server, where it is one. */
  server: Server | undefined;
  /** Where the model is that is loaded, or was last. */
  place: Place = "tab";

  on(event: Events, listener: () => void): void {
    this.#listeners[event].push(listener);
  }

  #tell(event: Events): void {
    for (const listener of this.#listeners[event]) listener();
  }

  #become(status: Status): void {
    this.#status = status;
    this.#tell("status");
  }

  get status(): Status {
    return this.#status;
  }

  get info(): EngineInfo | undefined {
    return this.engine?.info;
  }

  /** The engine, if it is in this tab. */
  get engine(): Engine | undefined {
    return this.#engine instanceof Engine ? this.#engine : undefined;
  }

  /** Loads a model in place of the one before. Throws the package's error. */
  async load(choice: Choice, settings: Settings): Promise<void> {
    await this.unload();
    const controller = new AbortController();
    this.#loading = controller;
    this.choice = choice;
    this.place = choice.source instanceof Server ? "server" : "tab";
    this.progress = undefined;
    this.#become("loading");
    try {
      const engine = await this.#open(choice.source, settings, controller);
      if (this.#loading !== controller) {
        await engine.unload();
        throw new FiresideError("aborted", "another model was chosen");
      }
      this.#loading = undefined;
      this.#engine = engine;
      this.#become("ready");
    } catch (thrown) {
      // A later load goes on.
      if (this.#loading === controller) {
        this.#loading = undefined;
        this.choice = undefined;
        this.#become("empty");
      }
      throw asError(thrown);
    }
  }

  #open(source: Choice["source"], settings: Settings, controller: AbortController): Promise<ChatEngine> {
    const { signal } = controller;
    if (source instanceof Server) return source.connect(signal);
    // So that the browser does not clear it away under pressure. A person may be asked: not waited for.
    void navigator.storage?.persist?.().catch(() => false);
    return CreateEngine(source satisfies ModelSource, {
      signal,
      initProgressCallback: (progress) => {
        if (this.#loading !== controller) return;
        this.progress = progress;
        this.#tell("progress");
      },
      ...(settings.contextSize > 0 ? { contextSize: settings.contextSize } : {}),
    });
  }

  /** Ends a load; what has arrived of a download is kept. */
  cancelLoad(): void {
    this.#loading?.abort();
  }

  /** Gives the model's memory back. */
  async unload(): Promise<void> {
    const engine = this.#engine;
    if (!engine && !this.#loading) return;
    this.cancelLoad();
    this.#loading = undefined;
    this.#engine = undefined;
    this.choice = undefined;
    this.#become("empty");
    await engine?.unload();
  }

  /** Streams an answer. Throws the package's error; a stop ends it with the reason `abort`. */
  async answer(messages: ChatMessage[], settings: Settings, onPiece: (piece: Piece) => void): Promise<void> {
    const engine = this.#engine;
    if (!engine) throw new FiresideError("unloaded", "no model is loaded");
    this.#become("answering");
    let stopped = false;
    this.#stop = () => (stopped = true);
    try {
      const system = settings.system.trim();
      const stream = await engine.chat.completions.create({
        messages: system === "" ? messages : [{ role: "system", content: system }, ...messages],
        stream: true,
        stream_options: { include_usage: true },
        temperature: settings.temperature,
        top_p: settings.top_p,
        top_k: settings.top_k,
        min_p: settings.min_p,
        repetition_penalty: settings.repetition_penalty,
        max_tokens: settings.max_tokens,
        seed: settings.seed,
      });
      this.#stop = () => stream.cancel();
      if (stopped) stream.cancel();
      for await (const chunk of stream) {
        const choice = chunk.choices[0];
        onPiece({
          text: choice?.delta.content ?? "",
          finish: choice?.finish_reason ?? null,
          usage: chunk.usage ?? undefined,
        });
      }
    } catch (thrown) {
      const error = asError(thrown);
      // A lost device takes the model with it.
      if (error.code === "device_lost") await this.unload();
      throw error;
    } finally {
      this.#stop = undefined;
      if (this.#engine === engine) this.#become("ready");
    }
  }

  /** Ends the answer; what is there of it stays. */
  stop(): void {
    this.#stop?.();
  }
}
