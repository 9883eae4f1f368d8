/** The first bytes of a file on their way here: what can be known of it before the rest has come. */
import type { Hasher } from "./download.js";
import type { ByteReader } from "./reader.js";

/** Bytes at which a header is looked for; each time the double of before, as it is read whole. */
const FIRST_LOOK = 1024 * 1024;
/** A header that is longer is not waited for. */
const LAST_LOOK = 32 * 1024 * 1024;

/** Keeps what passes a hasher, in order from a file's beginning, until somebody has found a header in it. */
export class Head {
  #bytes = new Uint8Array(FIRST_LOOK);
  #length = 0;
  #next = FIRST_LOOK;
  #size = 0;
  #looking = false;
  #ended = false;
  readonly #look: (head: ByteReader) => Promise<boolean>;

  /** `look` says whether it is done with the file; it is asked again with more of it if not. */
  constructor(look: (head: ByteReader) => Promise<boolean>) {
    this.#look = look;
  }

  /** The length of the whole file, once it is known. */
  set size(size: number) {
    this.#size = size;
  }

  /** The same hasher, seen through. A second one begins anew. */
  through(hasher: Hasher): Hasher {
    this.#length = 0;
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
    const end = this.#length + bytes.length;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.#bytes.length, end));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = end;
    if (this.#length >= this.#next && this.#size > this.#length && !this.#looking) void this.#lookAt();
  }

  async #lookAt(): Promise<void> {
    this.#looking = true;
    this.#next = 2 * this.#length;
    const bytes = this.#bytes.subarray(0, this.#length);
    const read = (start: number, end: number) => {
      if (end > bytes.length) throw new Error(`${end} of ${bytes.length} bytes are not here yet`);
      return bytes.subarray(start, end);
    };
    const found = await this.#look({ size: this.#size, read });
    this.#looking = false;
    if (found || this.#length > LAST_LOOK) this.end();
  }

  /** Lets go of what it keeps. */
  end(): void {
    this.#ended = true;
    this.#bytes = new Uint8Array(0);
    this.#length = 0;
  }
}
