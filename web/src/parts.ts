/** Addresses of models, those in several GGUF files as `gguf-split` writes them among them. */
import type { ModelSource } from "./types.js";

/** More parts than any published model has. */
const MOST = 4096;

/** An address in full; relative ones are the page's, or those of a worker that makes its own engine. */
export function absoluteUrl(url: string): string {
  return new URL(url, typeof document === "undefined" ? self.location.href : document.baseURI).href;
}

/** Whether a source is a list of parts. */
export function isParts(source: ModelSource): source is readonly (string | Blob)[] {
  return Array.isArray(source);
}

/**
 * The addresses of all parts of the model that `url` is a part of, by its name: `m-00001-of-00003.gguf`
 * has two more beside it. One address for a model in one file.
 */
export function partsOf(url: string): string[] {
  const found = /^([^?#]*-)(\d{5})(-of-)(\d{5})(\.gguf)((?:[?#].*)?)$/s.exec(url);
  if (!found) return [url];
  const [, prefix, number, of, count, ending, rest] = found;
  const all = Number(count);
  if (Number(number) < 1 || Number(number) > all || all > MOST) return [url];
  const name = (part: number) => `${prefix}${String(part).padStart(5, "0")}${of}${count}${ending}${rest}`;
  return Array.from({ length: all }, (_, at) => name(at + 1));
}
