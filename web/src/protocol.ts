/** What crosses between the page and the worker. */
import type { ErrorObject } from "./errors.js";
import type { HostOptions, StepEvent } from "./host.js";
import type { AdapterSource, InitProgress, ModelSource } from "./types.js";

/** What a request asks for. */
export type RequestKind = "chat" | "completion" | "embeddings" | "rerank";

/** Whether a request generates text, which may come in a stream and depends on a seed. */
export const generates = (kind: RequestKind): boolean => kind === "chat" || kind === "completion";

/** From the page; each call has a number, and its answer the same. */
export type Call =
  | { call: number; do: "load"; source: ModelSource; options: HostOptions }
  | { call: number; do: "submit"; kind: RequestKind; body: string }
  | { call: number; do: "loadAdapter"; name: string; source: AdapterSource }
  | { call: number; do: "unloadAdapter"; name: string }
  | { call: number; do: "tokenize"; text: string; special: boolean }
  | { call: number; do: "detokenize"; tokens: number[] }
  | { call: number; do: "counters" }
  | { call: number; do: "clearCache" }
  | { call: number; do: "unload" }
  | { do: "abort"; load: number }
  | { do: "cancel"; request: number }
  | { do: "cancelAll" };

/** From the worker. */
export type Answer =
  | { fireside: true; call: number; value: unknown }
  | { fireside: true; call: number; error: ErrorObject }
  | { fireside: true; progress: InitProgress }
  | { fireside: true; events: StepEvent[] };
