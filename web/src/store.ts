/**
 * Model files on this device: in the origin's private file system, else in the Cache API.
 *
 * A file is kept under the digest of its address, with a note beside it that says how much of it is
 * there. What is written is never taken for whole before its length (and digest, where one is
 * known) has been checked.
 */
import { FiresideError, throwIfAborted } from "./errors.js";
import { findModel } from "./models.js";
import { absoluteUrl, partsOf } from "./parts.js";

/** A file that is kept. */
export interface CachedModel {
  /** Where it came from. */
  url: string;
  /** Its length in bytes. */
  size: number;
  /** How much of it is here. */
  received: number;
  /** Whether all of it is here and checked. */
  complete: boolean;
  /** Its SHA-256, once it is complete. */
  sha256?: string;
  /** The server's tag of this version. */
  etag?: string;
  /** When the server says that it was changed last. */
  modified?: string;
  /** Where the pieces begin that the Cache API holds it in. */
  pieces?: number[];
}

/** A file that is being written. */
export interface Slot {
  note: CachedModel;
  /** Whether each {@link save} copies all that is there, as pages' writers do. */
  readonly copies: boolean;
  /** Bytes of it that are here, in order, to be hashed again after a break. */
  existing(): AsyncIterable<Uint8Array>;
  append(bytes: Uint8Array): Promise<void>;
  /** Goes back to its first `length` bytes, which are there; to none of them starts over. */
  rewind(length: number): Promise<void>;
  /** Writes the note, and what is buffered before it. */
  save(): Promise<void>;
  /** The whole file. */
  file(): Promise<Blob>;
  close(): Promise<void>;
}

const FOLDER = "fireside";
const PIECE = 16 * 1024 * 1024;

async function keyOf(url: string): Promise<string> {
  const bytes = new TextEncoder().encode(url);
  if (!globalThis.crypto?.subtle) {
    throw new FiresideError("bad_option", "models are kept in secure contexts only: use https or localhost, or cache: false");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest.subarray(0, 16), (b) => b.toString(16).padStart(2, "0")).join("");
}

async function folder(): Promise<FileSystemDirectoryHandle | null> {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return null;
  }
}

async function readNote(dir: FileSystemDirectoryHandle, key: string): Promise<CachedModel | null> {
  try {
    const handle = await dir.getFileHandle(`${key}.json`);
    const note = JSON.parse(await (await handle.getFile()).text()) as CachedModel;
    return typeof note.url === "string" ? note : null;
  } catch {
    return null;
  }
}

class OpfsSlot implements Slot {
  note: CachedModel;
  readonly copies: boolean;
  readonly #dir: FileSystemDirectoryHandle;
  readonly #key: string;
  readonly #handle: FileSystemFileHandle;
  #writer: FileSystemWritableFileStream | null = null;
  #sync: FileSystemSyncAccessHandle | null = null;

  constructor(dir: FileSystemDirectoryHandle, key: string, handle: FileSystemFileHandle, note: CachedModel) {
    this.#dir = dir;
    this.#key = key;
    this.#handle = handle;
    this.note = note;
    this.copies = typeof handle.createSyncAccessHandle !== "function";
  }

  static async open(dir: FileSystemDirectoryHandle, url: string): Promise<OpfsSlot> {
    const key = await keyOf(url);
    const handle = await dir.getFileHandle(`${key}.bin`, { create: true });
    const found = await readNote(dir, key);
    const length = (await handle.getFile()).size;
    const note = found ?? { url, size: 0, received: 0, complete: false };
    // The note is written after the bytes, so more bytes than it says are of no use, and fewer
    // mean that the browser threw some away.
    if (length < note.received) {
      note.received = 0;
      note.complete = false;
    }
    return new OpfsSlot(dir, key, handle, note);
  }

  async *existing(): AsyncIterable<Uint8Array> {
    const file = await this.#handle.getFile();
    for (let at = 0; at < this.note.received; at += PIECE) {
      const end = Math.min(at + PIECE, this.note.received);
      yield new Uint8Array(await file.slice(at, end).arrayBuffer());
    }
  }

  async #open(): Promise<void> {
    if (this.#sync || this.#writer) return;
    try {
      if (this.copies) {
        this.#writer = await this.#handle.createWritable({ keepExistingData: true });
      } else {
        this.#sync = await this.#handle.createSyncAccessHandle();
      }
    } catch (thrown) {
      throw heldElsewhere(thrown) ?? thrown;
    }
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.#open();
    try {
      if (this.#sync) {
        const written = this.#sync.write(bytes as Uint8Array<ArrayBuffer>, { at: this.note.received });
        if (written !== bytes.length) {
          throw new DOMException("short write", "QuotaExceededError");
        }
      } else {
        await this.#writer?.write({ type: "write", position: this.note.received, data: bytes as Uint8Array<ArrayBuffer> });
      }
    } catch (thrown) {
      // A stream that failed takes nothing more; the file is as it was when it was closed last.
      this.#writer = null;
      throw thrown;
    }
    this.note.received += bytes.length;
  }

  async rewind(length: number): Promise<void> {
    this.note.received = length;
    this.note.complete = false;
    if (!this.#sync && !this.#writer && (await this.#handle.getFile()).size <= length) return;
    await this.#open();
    this.#sync?.truncate(length);
    await this.#writer?.truncate(length);
  }

  async save(): Promise<void> {
    this.#sync?.flush();
    const writer = this.#writer;
    this.#writer = null;
    await writer?.close();
    const handle = await this.#dir.getFileHandle(`${this.#key}.json`, { create: true });
    const note = await handle.createWritable();
    await note.write(JSON.stringify(this.note));
    await note.close();
  }

  async close(): Promise<void> {
    this.#sync?.close();
    this.#sync = null;
    await this.#writer?.close();
    this.#writer = null;
    // Nothing came: nothing is listed, and nothing stays.
    if (this.note.received > 0) return;
    for (const ending of ["bin", "json"]) await this.#dir.removeEntry(`${this.#key}.${ending}`).catch(() => {});
  }

  async file(): Promise<Blob> {
    const file = await this.#handle.getFile();
    // What a broken download of a longer version left behind it is none of it.
    return file.size > this.note.received ? file.slice(0, this.note.received) : file;
  }
}

/** Pieces of up to 16 MiB in the Cache API, for browsers without a private file system. */
class CacheSlot implements Slot {
  note: CachedModel;
  readonly copies = false;
  readonly #cache: Cache;
  readonly #base: string;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;

  constructor(cache: Cache, base: string, note: CachedModel) {
    this.#cache = cache;
    this.#base = base;
    this.note = note;
  }

  static async open(url: string): Promise<CacheSlot> {
    const cache = await caches.open(FOLDER);
    const base = `https://fireside.invalid/${await keyOf(url)}`;
    const found = await cache.match(`${base}/note`);
    const note = found
      ? ((await found.json()) as CachedModel)
      : { url, size: 0, received: 0, complete: false };
    const slot = new CacheSlot(cache, base, note);
    // The browser may have thrown a piece away: what comes before it is of use.
    const there = new Set((await cache.keys()).map((request) => request.url));
    const gone = note.pieces?.find((start) => !there.has(slot.#piece(start)));
    if (gone !== undefined) await slot.rewind(gone);
    return slot;
  }

  #piece(start: number): string {
    return `${this.#base}/${start}`;
  }

  async *existing(): AsyncIterable<Uint8Array> {
    for (const start of this.note.pieces ?? []) {
      const piece = await this.#cache.match(this.#piece(start));
      if (piece) yield new Uint8Array(await piece.arrayBuffer());
    }
  }

  async #write(): Promise<void> {
    if (this.#pendingBytes === 0) return;
    const start = this.note.received;
    const blob = new Blob(this.#pending as Uint8Array<ArrayBuffer>[]);
    await this.#cache.put(this.#piece(start), new Response(blob));
    this.note.pieces = [...(this.note.pieces ?? []), start];
    this.note.received += this.#pendingBytes;
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    if (this.#pendingBytes >= PIECE) await this.#write();
  }

  async rewind(length: number): Promise<void> {
    this.#pending = [];
    this.#pendingBytes = 0;
    const pieces = this.note.pieces ?? [];
    const beyond = pieces.filter((start) => start >= length);
    for (const start of beyond) await this.#cache.delete(this.#piece(start));
    // A note is written where a piece ends, so `length` lies between two.
    this.note.pieces = pieces.filter((start) => start < length);
    this.note.received = length;
    this.note.complete = false;
  }

  async save(): Promise<void> {
    await this.#write();
    await this.#cache.put(`${this.#base}/note`, new Response(JSON.stringify(this.note)));
  }

  async close(): Promise<void> {
    this.#pending = [];
    this.#pendingBytes = 0;
    if (this.note.received === 0) await this.#cache.delete(`${this.#base}/note`);
  }

  async file(): Promise<Blob> {
    const pieces: Blob[] = [];
    for (const start of this.note.pieces ?? []) {
      const piece = await this.#cache.match(this.#piece(start));
      if (!piece) throw new FiresideError("bad_model", "a part of the cached model is gone: delete it and load it again");
      pieces.push(await piece.blob());
    }
    return new Blob(pieces);
  }
}

/** The error for a file that another tab writes; nothing for any other fault. */
function heldElsewhere(thrown: unknown): FiresideError | undefined {
  if ((thrown as DOMException | null)?.name !== "NoModificationAllowedError") return undefined;
  return inUse();
}

function inUse(): FiresideError {
  return new FiresideError("in_use", "the model is being fetched, here or in another tab: let that end first");
}

function lockOf(url: string): string {
  return `fireside ${url}`;
}

/**
 * Runs `work` while no other tab or engine of this origin writes the file of an address; `onWait` is
 * called where one does.
 */
export async function withLock<T>(
  url: string,
  signal: AbortSignal | undefined,
  onWait: () => void,
  work: () => Promise<T>,
): Promise<T> {
  const { locks } = navigator;
  // Not in insecure contexts, where nothing is kept either.
  if (!locks) return work();
  const name = lockOf(url);
  const atOnce = await locks.request(name, { ifAvailable: true }, async (lock) => lock && { value: await work() });
  if (atOnce) return atOnce.value;
  onWait();
  let began = false;
  const begin = async () => {
    began = true;
    return work();
  };
  try {
    return await locks.request(name, signal ? { signal } : {}, begin);
  } catch (thrown) {
    if (!began) throwIfAborted(signal);
    throw thrown;
  }
}

/** The place of an address in the store; `null` where this browser keeps nothing. */
export async function openSlot(url: string): Promise<Slot | null> {
  const dir = await folder();
  if (dir) return OpfsSlot.open(dir, url);
  return "caches" in globalThis ? CacheSlot.open(url) : null;
}

/** Every model that is kept, whole or in part. */
export async function listModels(): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  const dir = await folder();
  if (dir) {
    for await (const name of dir.keys()) {
      if (!name.endsWith(".json")) continue;
      const note = await readNote(dir, name.slice(0, -5));
      if (note) models.push(note);
    }
    return models;
  }
  if (!("caches" in globalThis)) return models;
  const cache = await caches.open(FOLDER);
  for (const request of await cache.keys()) {
    if (!request.url.endsWith("/note")) continue;
    const note = await cache.match(request);
    if (note) models.push((await note.json()) as CachedModel);
  }
  return models;
}

/** The addresses that files of a model are kept under, by its known name or its address. */
function addressesOf(model: string): string[] {
  const known = findModel(model);
  return known ? [known.url] : partsOf(model).map(absoluteUrl);
}

/** Whether a model is kept and whole: all of its parts, where it has several. */
export async function hasModel(model: string): Promise<boolean> {
  const all = await listModels();
  return addressesOf(model).every((url) => all.some((one) => one.url === url && one.complete));
}

/**
 * Forgets a model, by its known name or its address; without one, all of them. Throws `in_use` for
 * one that is being fetched.
 */
export async function deleteModel(model?: string): Promise<void> {
  const urls = model === undefined ? (await listModels()).map(({ url }) => url) : addressesOf(model);
  for (const url of urls) await forgetUnused(url);
  if (model === undefined) await forget();
}

async function forgetUnused(url: string): Promise<void> {
  const { locks } = navigator;
  if (!locks) return forget(url);
  await locks.request(lockOf(url), { ifAvailable: true }, (lock) => {
    if (!lock) throw inUse();
    return forget(url);
  });
}

async function forget(url?: string): Promise<void> {
  const dir = await folder();
  if (dir) {
    const keys = url === undefined ? null : await keyOf(url);
    const names: string[] = [];
    for await (const name of dir.keys()) {
      if (keys === null || name.startsWith(keys)) names.push(name);
    }
    // The bytes before their note (".bin", ".json"): a note without bytes is found again.
    for (const name of names.sort()) {
      await dir.removeEntry(name).catch((thrown: unknown) => {
        throw heldElsewhere(thrown) ?? thrown;
      });
    }
    return;
  }
  if (!("caches" in globalThis)) return;
  const cache = await caches.open(FOLDER);
  const base = url === undefined ? "https://fireside.invalid/" : `https://fireside.invalid/${await keyOf(url)}/`;
  for (const request of await cache.keys()) {
    if (request.url.startsWith(base)) await cache.delete(request);
  }
}

/** Bytes used and available for this origin, as the browser estimates them. */
export async function storageEstimate(): Promise<{ usage: number; quota: number }> {
  const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  return { usage, quota };
}
