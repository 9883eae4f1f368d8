/** Fetches files by range into the store, hashed as they arrive, and takes up broken downloads. */
import { FiresideError, throwIfAborted, toError } from "./errors.js";
import { openSlot, storageEstimate, type Slot } from "./store.js";

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
}

/** Bytes between two notes of how far a download is. */
const NOTE_EVERY = 8 * 1024 * 1024;
/** How often a download that does not get on is taken up again. */
const ATTEMPTS = 4;

async function request(
  url: string,
  options: DownloadOptions,
  extra: Record<string, string>,
): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, {
      headers: { ...options.headers, ...extra },
      signal: options.signal ?? null,
    });
  } catch (thrown) {
    throwIfAborted(options.signal);
    throw new FiresideError("network_error", `cannot reach ${url}: ${toError(thrown).message}`);
  }
  if (!response.ok && response.status !== 416) {
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

async function checkRoom(needed: number): Promise<void> {
  const { usage, quota } = await storageEstimate();
  if (quota > 0 && needed > quota - usage) {
    const mb = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
    throw new FiresideError(
      "quota_exceeded",
      `the model needs ${mb(needed)} and this origin has ${mb(Math.max(0, quota - usage))} left: delete a cached model or free some space`,
    );
  }
}

/** Fetches a file, from the store where it is there. */
export async function download(url: string, options: DownloadOptions): Promise<Blob> {
  throwIfAborted(options.signal);
  const slot = options.cache ? await openSlot(url) : null;
  if (!slot) return fetchWhole(url, options);
  try {
    if (slot.note.complete && (!options.sha256 || slot.note.sha256 === options.sha256)) {
      options.onProgress(slot.note.size, slot.note.size);
      return await slot.file();
    }
    for (let attempt = 1; ; attempt++) {
      const before = slot.note.received;
      try {
        await fetchInto(url, slot, options);
        break;
      } catch (thrown) {
        const error = toError(thrown);
        if (error.code !== "network_error" || slot.note.received === 0 || attempt >= ATTEMPTS) throw error;
        // As long as it gets on, it may break off as often as it likes.
        if (slot.note.received > before) attempt = 0;
      }
    }
    return await slot.file();
  } finally {
    await slot.close();
  }
}

async function fetchInto(url: string, slot: Slot, options: DownloadOptions): Promise<void> {
  const { note } = slot;
  const headers: Record<string, string> = {};
  if (note.received > 0) {
    headers["range"] = `bytes=${note.received}-`;
    if (note.etag) headers["if-range"] = note.etag;
  }
  const response = await request(url, options, headers);
  const resumes = response.status === 206 && note.received > 0;
  if (!resumes && note.received > 0) {
    // Another version, or a server without ranges: from the beginning.
    await slot.rewind(0);
    if (response.status === 416) return fetchInto(url, slot, options);
  }
  const hasher = options.newHasher();
  if (resumes) {
    for await (const bytes of slot.existing()) hasher.update(bytes);
  }
  note.size = totalOf(response, resumes ? note.received : 0);
  // Weak tags do not name bytes.
  const etag = response.headers.get("etag");
  if (etag && !etag.startsWith("W/")) note.etag = etag;
  else delete note.etag;
  if (note.size > 0) await checkRoom(note.size - note.received);

  let noted = note.received;
  let arrived = note.received;
  const reader = response.body?.getReader();
  if (!reader) throw new FiresideError("network_error", `the answer for ${url} has no body`);
  options.onProgress(arrived, note.size);
  try {
    for (;;) {
      throwIfAborted(options.signal);
      const { done, value } = await reader.read();
      if (done) break;
      hasher.update(value);
      await slot.append(value);
      arrived += value.length;
      options.onProgress(arrived, note.size);
      if (note.received - noted >= NOTE_EVERY) {
        noted = note.received;
        await slot.save();
      }
    }
  } catch (thrown) {
    await reader.cancel().catch(() => {});
    const error = toError(thrown);
    // On a full disk what is not noted yet could not be found again: its room is given back.
    if (error.code === "quota_exceeded") await slot.rewind(noted);
    else await slot.save();
    throwIfAborted(options.signal);
    if (error.code === "quota_exceeded" || error.code === "aborted") throw error;
    throw new FiresideError("network_error", `the download of ${url} broke off: ${error.message}`);
  }
  if (note.size > 0 && arrived < note.size) {
    await slot.save();
    throw new FiresideError(
      "network_error",
      `the download of ${url} broke off after ${arrived} of ${note.size} bytes`,
    );
  }
  note.size = arrived;
  const digest = hasher.hex();
  if (options.sha256 && options.sha256.toLowerCase() !== digest) {
    await slot.rewind(0);
    await slot.save();
    throw new FiresideError(
      "bad_digest",
      `${url} has SHA-256 ${digest}, expected ${options.sha256}: it is damaged, or another file`,
    );
  }
  note.sha256 = digest;
  await slot.save();
  note.complete = true;
  await slot.save();
}

/** Without the store: the file as one Blob, which the browser may keep on disk. */
async function fetchWhole(url: string, options: DownloadOptions): Promise<Blob> {
  const response = await request(url, options, {});
  const total = totalOf(response);
  const blob = await drain(response.body, total, options);
  if (total > 0 && blob.size !== total) {
    throw new FiresideError("network_error", `the download of ${url} broke off after ${blob.size} of ${total} bytes`);
  }
  return blob;
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
  const reader = stream?.getReader();
  for (;;) {
    throwIfAborted(options.signal);
    const step = await reader?.read();
    if (!step || step.done) break;
    hasher.update(step.value);
    pending.push(step.value);
    loaded += step.value.length;
    // Blobs may go to disk; arrays stay in memory.
    if (pending.length >= 64) {
      parts.push(new Blob(pending as Uint8Array<ArrayBuffer>[]));
      pending = [];
    }
    options.onProgress(loaded, total);
  }
  const digest = hasher.hex();
  if (options.sha256 && options.sha256.toLowerCase() !== digest) {
    throw new FiresideError(
      "bad_digest",
      `${options.file} has SHA-256 ${digest}, expected ${options.sha256}: it is damaged, or another file`,
    );
  }
  return new Blob([...parts, ...(pending as Uint8Array<ArrayBuffer>[])]);
}
