/** The models that can be chosen: those the package knows, and those that are kept here. */
import { knownModels, listModels, type CachedModel, type KnownModel } from "fireside-llm";

/** A known model, and how much of it is on this device. */
export interface Shelf {
  model: KnownModel;
  kept: CachedModel | undefined;
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

/** The name of a kept file: its model's where it is known. */
export function nameOfKept({ url }: CachedModel): string {
  return knownModels.find((model) => model.url === url)?.label ?? nameOfUrl(url);
}

/** All that is kept; nothing where the browser keeps nothing. */
export async function kept(): Promise<CachedModel[]> {
  return listModels().catch(() => []);
}

export async function shelves(): Promise<Shelf[]> {
  const all = await kept();
  return knownModels.map((model) => ({ model, kept: all.find((one) => one.url === model.url) }));
}
