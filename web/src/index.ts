/**
 * Language models in a browser tab, on WebGPU.
 *
 * ```ts
 * import { CreateEngine } from "fireside-llm";
 *
 * const engine = await CreateEngine("SmolLM2-135M-Instruct");
 * const messages = [{ role: "user", content: "What is the capital of France?" }];
 * for await (const chunk of await engine.chat.completions.create({ messages, stream: true })) {
 *   document.body.append(chunk.choices[0]?.delta.content ?? "");
 * }
 * ```
 *
 * @module
 */
import { Engine } from "./engine.js";
import type { EngineOptions, ModelSource } from "./types.js";

/**
 * Loads a model and gives an engine.
 *
 * `source` is a known name, the URL of a GGUF file or a list of its parts' URLs, a File, Blob or
 * stream of one, or the URLs of a model in safetensors. Throws a {@link FiresideError}.
 */
export function CreateEngine(source: ModelSource, options: EngineOptions = {}): Promise<Engine> {
  return Engine.start(source, options);
}

export { adapterReport, type AdapterReport } from "./adapter.js";
export { Engine, type RequestOptions, type Stream } from "./engine.js";
export { FiresideError, type ErrorCode } from "./errors.js";
export { knownModels, type KnownModel } from "./models.js";
export { partsOf } from "./parts.js";
export { deleteModel, hasModel, listModels, storageEstimate, type CachedModel } from "./store.js";
export type * from "./types.js";
