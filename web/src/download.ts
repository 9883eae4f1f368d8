/** Fetches files by range into the store, hashed as they arrive, and takes up broken downloads. */
import { FiresideError, throwIfAborted, toError } from "./errors.js";
import { listModels, openSlot, storageEstimate, withLock, type CachedModel, type Slot } from "./store.js";

/** An incremental SHA-256, as the WASM module has it. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  /** The digest; the hasher is used up. */
  hex(): string;
}

/** How a file is fetched. */
export interface DownloadOptions {
  /** What errors call it. */
  file: string;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string> | undefined;
  /** The digest it must have. */
  sha256?: string | undefined;
  /** Keep it on this device. */
  cache: boolean;
  newHasher: () => Hasher;
  onProgress: (loaded: number, total: number) => void;
  /** Another tab fetches it, and this one waits. */
  onWait: () => void;
}

/** Bytes between two notes of how far a download is. */
const NOTE_EVERY = 8 * 1024 * 1024;
/** How often a download that does not get on is taken up again. */
const ATTEMPTS = 4;
/** Milliseconds before the first of those; each waits twice as long as the one before. */
const PAUSE = 250;

async function request(url: string, options: DownloadOptions, from = 0): Promise<Response> {
  const range = from > 0 ? { range: `bytes=${from}-` } : {};
  let response: Response;
  try {
    response = await fetch(url, {
      headers: { ...options.headers, ...range },
      signal: options.signal ?? null,
      // What the store keeps is not kept a second time by the browser.
      cache: options.cache ? "no-store" : "default",
    });
  } catch (thrown) {
    throwIfAborted(options.signal);
    throw new FiresideError("network_error", `cannot reach ${url}: ${toError(thrown).message}`);
  }
  if (!response.ok && !(response.status === 416 && from > 0)) {
    const status = `${response.status} ${response.statusText}`.trim();
    throw new FiresideError("http_error", `the server answered ${status} for ${url}`);
  }
  return response;
}

/** The length of the whole file, by the headers of an answer that begins at `from`; 0 where they do not say. */
function totalOf(response: Response, from = 0): number {
  const range = /\/(\d+)\s*$/.exec(response.headers.get("content-range") ?? "");
  if (range) return Number(range[1]);
  // A compressed answer's length is not the file's.
  if (response.headers.get("content-encoding")) return 0;
  const length = Number(response.headers.get("content-length") ?? 0);
  // Another origin's server may show the length of the rest, and hide where it lies.
  return length > 0 ? from + length : 0;
}

/** What tells one version of a file from another. Weak tags do not name bytes. */
function versionOf(response: Response): Pick<CachedModel, "etag" | "modified"> {
  const etag = response.headers.get("etag");
  const modified = response.headers.get("last-modified");
  return {
    ...(etag && !etag.startsWith("W/") ? { etag } : {}),
    ...(modified ? { modified } : {}),
  };
}

/**
 * Whether an answer to a request for the rest goes on from what is here. It is compared after the
 * fact: a condition in the request would make other origins' servers a second question.
 */
function goesOn(response: Response, note: CachedModel): boolean {
  if (response.status !== 206) return false;
  const start = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
  if (start !== undefined && Number(start) !== note.received) return false;
  const total = totalOf(response, note.received);
  if (note.size > 0 && total > 0 && total !== note.size) return false;
  const { etag, modified } = versionOf(response);
  return note.etag === etag && note.modified === modified;
}

/** Whether two halves can be told to be of one version: by what the server says of it, or by the digest. */
function canGoOn(note: CachedModel, options: DownloadOptions): boolean {
  return Boolean(note.etag ?? note.modified ?? options.sha256);
}

/** Refuses what this origin has no room for. */
export async function checkRoom(needed: number): Promise<void> {
  const { usage, quota } = await storageEstimate();
  if (quota > 0 && needed > quota - usage) {
    const mb = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
    throw new FiresideError(
      "quota_exceeded",
      `the model needs ${mb(needed)} and this origin has ${mb(Math.max(0, quota - usage))} left: delete a cached model or free some space`,
    );
  }
}

/**
 * Refuses a model in several files before the first of them is fetched, where all that are missing
 * have no room. Servers that do not say how long a file is are asked again when it is fetched.
 */
export async function checkRoomForAll(urls: readonly string[], options: Omit<DownloadOptions, "file">): Promise<void> {
  if (!options.cache) return;
  const kept = await listModels();
  const missing = urls.map(async (url) => {
    const found = kept.find((model) => model.url === url);
    if (found?.complete) return 0;
    if (found && found.size > 0) return found.size - found.received;
    try {
      const response = await fetch(url, { method: "HEAD", headers: options.headers ?? {}, signal: options.signal ?? null });
      return response.ok ? totalOf(response) : 0;
    } catch {
      throwIfAborted(options.signal);
      return 0;
    }
  });
  const all = await Promise.all(missing);
  await checkRoom(all.reduce((sum, bytes) => sum + bytes, 0));
}

/** Resolves after some milliseconds, or when the signal is given. */
function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** Fetches a file, from the store where it is there. */
export async function download(url: string, options: DownloadOptions): Promise<Blob> {
  throwIfAborted(options.signal);
  if (!options.cache) return fetchWhole(url, options);
  // Two tabs may want one file: the second waits, and finds it here.
  return withLock(url, options.signal, options.onWait, async () => {
    const slot = await openSlot(url);
    return slot ? fetchThrough(url, slot, options) : fetchWhole(url, options);
  });
}

/** What a try at a download came to. */
interface Attempt {
  /** The server has answered, in this one or before. */
  answered: boolean;
  /** Where it took the download up. */
  from: number;
}

async function fetchThrough(url: string, slot: Slot, options: DownloadOptions): Promise<Blob> {
  const { note } = slot;
  try {
    if (note.complete && (!options.sha256 || note.sha256 === options.sha256.toLowerCase())) {
      options.onProgress(note.size, note.size);
      return await slot.file();
    }
    const attempt: Attempt = { answered: false, from: 0 };
    for (let failures = 0; ; ) {
      const before = note.received;
      try {
        await fetchInto(url, slot, options, attempt);
        break;
      } catch (thrown) {
        throwIfAborted(options.signal);
        const error = toError(thrown);
        // A server that has never answered is not there.
        if (!attempt.answered || error.code !== "network_error") throw error;
        // As long as it gets on, it may break off as often as it likes.
        const gotOn = attempt.from === before && note.received > before;
        failures = gotOn ? 1 : failures + 1;
        if (failures >= ATTEMPTS) throw error;
        await pause(PAUSE * 2 ** (failures - 1), options.signal);
        throwIfAborted(options.signal);
      }
    }
    return await slot.file();
  } finally {
    await slot.close();
  }
}

async function fetchInto(url: string, slot: Slot, options: DownloadOptions, attempt: Attempt): Promise<void> {
  const { note } = slot;
  if (note.received > 0 && !canGoOn(note, options)) await slot.rewind(0);
  // Before the request, whose connection would stand idle meanwhile.
  let hasher = options.newHasher();
  for await (const bytes of slot.existing()) {
    throwIfAborted(options.signal);
    hasher.update(bytes);
  }
  // All of it is here, and only its end was not noted.
  if (note.size > 0 && note.received === note.size) return finish(url, slot, options, hasher);

  let response = await request(url, options, note.received);
  attempt.answered = true;
  if (note.received > 0 && !goesOn(response, note)) {
    // Another version, or a server without ranges: from the beginning.
    await slot.rewind(0);
    hasher = options.newHasher();
    if (response.status !== 200) {
      await response.body?.cancel();
      response = await request(url, options);
    }
  }
  attempt.from = note.received;
  note.size = totalOf(response, note.received);
  delete note.etag;
  delete note.modified;
  Object.assign(note, versionOf(response));
  try {
    await append(url, response, slot, options, hasher);
  } catch (thrown) {
    await response.body?.cancel().catch(() => {});
    throw thrown;
  }
  await finish(url, slot, options, hasher);
}

/** Writes what an answer brings behind what is here. */
async function append(url: string, response: Response, slot: Slot, options: DownloadOptions, hasher: Hasher): Promise<void> {
  const { note } = slot;
  if (note.size > 0) await checkRoom(note.size - note.received);
  let noted = note.received;
  let arrived = note.received;
  if (!response.body) throw new FiresideError("network_error", `the answer for ${url} has no body`);
  options.onProgress(arrived, note.size);
  try {
    for await (const bytes of chunksOf(response.body, `the download of ${url}`, options.signal)) {
      hasher.update(bytes);
      await slot.append(bytes);
      arrived += bytes.length;
      options.onProgress(arrived, note.size);
      if (note.received - noted >= (slot.copies ? Math.max(NOTE_EVERY, noted) : NOTE_EVERY)) {
        noted = note.received;
        await slot.save();
      }
    }
  } catch (thrown) {
    const error = toError(thrown);
    // On a full disk what is not noted yet could not be found again: its room is given back.
    if (error.code === "quota_exceeded") await slot.rewind(noted);
    else await slot.save();
    throw error;
  }
  if (note.size > 0 && arrived < note.size) {
    await slot.save();
    throw brokeOff(url, arrived, note.size);
  }
  note.size = arrived;
}

/** Checks what is here, and calls it whole. */
async function finish(url: string, slot: Slot, options: DownloadOptions, hasher: Hasher): Promise<void> {
  const { note } = slot;
  const digest = hasher.hex();
  if (options.sha256 && options.sha256.toLowerCase() !== digest) {
    await slot.rewind(0);
    await slot.save();
    throw wrongDigest(url, digest, options.sha256);
  }
  note.sha256 = digest;
  await slot.save();
  note.complete = true;
  await slot.save();
}

/** Without the store: the file as one Blob, which the browser may keep on disk. */
async function fetchWhole(url: string, options: DownloadOptions): Promise<Blob> {
  const response = await request(url, options);
  const total = totalOf(response);
  const blob = await drain(response.body, total, options);
  if (total > 0 && blob.size !== total) throw brokeOff(url, blob.size, total);
  return blob;
}

function brokeOff(url: string, arrived: number, total: number): FiresideError {
  return new FiresideError("network_error", `the download of ${url} broke off after ${arrived} of ${total} bytes`);
}

function wrongDigest(file: string, found: string, expected: string): FiresideError {
  return new FiresideError("bad_digest", `${file} has SHA-256 ${found}, expected ${expected}: it is damaged, or another file`);
}

/** What a stream gives until its end or the signal, even where it gives nothing for long. */
async function* chunksOf(
  stream: ReadableStream<Uint8Array>,
  what: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  const cancel = () => void reader.cancel().catch(() => {});
  signal?.addEventListener("abort", cancel, { once: true });
  const read = async () => {
    try {
      return await reader.read();
    } catch (thrown) {
      throwIfAborted(signal);
      throw new FiresideError("network_error", `${what} broke off: ${toError(thrown).message}`);
    }
  };
  try {
    for (;;) {
      throwIfAborted(signal);
      const { done, value } = await read();
      throwIfAborted(signal);
      if (done) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener("abort", cancel);
    cancel();
  }
}

/** A stream as one Blob, hashed on the way. */
export async function drain(
  stream: ReadableStream<Uint8Array> | null,
  total: number,
  options: DownloadOptions,
): Promise<Blob> {
  const hasher = options.newHasher();
  const parts: Blob[] = [];
  let pending: Uint8Array[] = [];
  let loaded = 0;
  for await (const bytes of stream ? chunksOf(stream, `the stream of ${options.file}`, options.signal) : []) {
    hasher.update(bytes);
    pending.push(bytes);
    loaded += bytes.length;
    // Blobs may go to disk; arrays stay in memory.
    if (pending.length >= 64) {
      parts.push(new Blob(pending as Uint8Array<ArrayBuffer>[]));
      pending = [];
    }
    options.onProgress(loaded, total);
  }
  const digest = hasher.hex();
  if (options.sha256 && options.sha256.toLowerCase() !== digest) throw wrongDigest(options.file, digest, options.sha256);
  return new Blob([...parts, ...(pending as Uint8Array<ArrayBuffer>[])]);
}
