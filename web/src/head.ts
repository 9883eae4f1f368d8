/** The first bytes of a file on their way here: what can be known of it before the rest has come. */
import type { Hasher } from "./download.js";
import type { ByteReader } from "./reader.js";

/** Bytes at which a header is looked for first; then each time at the double, as it is read from its beginning. */
const FIRST_LOOK = 1024 * 1024;
/** Most bytes that are kept: a header that is longer is not waited for. */
const LAST_LOOK = 32 * 1024 * 1024;

/** Looks at a file's first bytes; says whether it has seen enough. If not, it is asked again with more of them. */
export type Look = (head: ByteReader) => Promise<boolean>;

/** Keeps what passes a hasher, from a file's beginning, until somebody has found a header in it. */
export class Head {
  #bytes = new Uint8Array(0);
  #length = 0;
  #next = FIRST_LOOK;
  #looking = false;
  #ended = false;
  #file = 0;
  readonly #look: Look;

  constructor(look: Look) {
    this.#look = look;
  }

  /** The same hasher, seen through. With each one the file begins anew. */
  through(hasher: Hasher): Hasher {
    this.#file++;
    this.#bytes = new Uint8Array(FIRST_LOOK);
    this.#length = 0;
    this.#next = FIRST_LOOK;
    return {
      update: (bytes) => {
        hasher.update(bytes);
        this.#keep(bytes);
      },
      hex: () => hasher.hex(),
    };
  }

  #keep(bytes: Uint8Array): void {
    if (this.#ended) return;
    const own = bytes.subarray(0, LAST_LOOK - this.#length);
    const end = this.#length + own.length;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.min(LAST_LOOK, Math.max(2 * this.#bytes.length, end)));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(own, this.#length);
    this.#length = end;
    if (!this.#looking) void this.#lookAt();
  }

  async #lookAt(): Promise<void> {
    this.#looking = true;
    while (!this.#ended && this.#length >= this.#next) {
      this.#next = Math.min(LAST_LOOK, 2 * this.#length);
      const file = this.#file;
      const bytes = this.#bytes.subarray(0, this.#length);
      const read = (start: number, end: number) => {
        if (end > bytes.length) throw new Error(`${end} of ${bytes.length} bytes are not here yet`);
        return bytes.subarray(start, end);
      };
      // How long the file is may not be known, and a header does not depend on it.
      const found = await this.#look({ size: Number.MAX_SAFE_INTEGER, read });
      // A file that began anew meanwhile may be another one.
      if (file === this.#file && (found || bytes.length === LAST_LOOK)) this.end();
    }
    this.#looking = false;
  }

  /** Lets go of what it keeps. */
  end(): void {
    this.#ended = true;
    this.#bytes = new Uint8Array(0);
  }
}
