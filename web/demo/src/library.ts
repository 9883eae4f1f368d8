/** The models that can be chosen: those the package knows, and those that are kept here. */
import { knownModels, listModels, partsOf, type KnownModel } from "fireside-llm";

import { bytes } from "./format.js";

/** A model that is kept here, whole or in part. */
export interface KeptModel {
  /** Its address; that of its first part, where it has several. */
  url: string;
  /** Bytes of it, as far as that is known. */
  size: number;
  received: number;
  complete: boolean;
  /** Files it has, and how many of them are here. */
  parts: number;
  present: number;
}

/** A known model, and how much of it is on this device. */
export interface Shelf {
  model: KnownModel;
  kept: KeptModel | undefined;
}

/** The last part of an address, for people. */
export function nameOfUrl(url: string): string {
  const last = url.split(/[?#]/)[0]?.split("/").filter(Boolean).pop() ?? url;
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/** The name of a kept model: the known one, or its file's without which part it is. */
export function nameOfKept({ url }: KeptModel): string {
  const known = knownModels.find((model) => model.url === url);
  return known?.label ?? nameOfUrl(url).replace(/-\d{5}-of-\d{5}(\.gguf)$/, "$1");
}

/** All that is kept; nothing where the browser keeps nothing. */
export async function kept(): Promise<KeptModel[]> {
  const models = new Map<string, KeptModel>();
  for (const file of await listModels().catch(() => [])) {
    const parts = partsOf(file.url);
    const url = parts[0] ?? file.url;
    const model = models.get(url) ?? { url, size: 0, received: 0, complete: true, parts: parts.length, present: 0 };
    model.size += file.size;
    model.received += file.received;
    model.present += 1;
    model.complete &&= file.complete;
    models.set(url, model);
  }
  const all = [...models.values()];
  return all.map((model) => ({ ...model, complete: model.complete && model.present === model.parts }));
}

/** How much of a kept model is here, for people. */
export function extentOf({ size, received, complete, parts, present }: KeptModel): string {
  if (complete) return bytes(size);
  if (present < parts) return `${bytes(received)}, ${present} of ${parts} parts, the rest comes with the next load`;
  return `${bytes(received)} of ${bytes(size)}, the rest comes with the next load`;
}

export async function shelves(): Promise<Shelf[]> {
  const all = await kept();
  return knownModels.map((model) => ({ model, kept: all.find((one) => one.url === model.url) }));
}
