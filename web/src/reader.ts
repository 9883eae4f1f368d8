/** Synchronous reads of a Blob, which is what the WASM module takes weights from. */

/** Random access to bytes; see the module's `ByteReader`. */
export interface ByteReader {
  readonly size: number;
  read(start: number, end: number): Uint8Array;
}

/** A reader of a Blob or a File: nothing but the range asked for comes into memory. */
export function blobReader(blob: Blob): ByteReader {
  if (typeof FileReaderSync === "function") {
    const reader = new FileReaderSync();
    return {
      size: blob.size,
      read: (start, end) => new Uint8Array(reader.readAsArrayBuffer(blob.slice(start, end))),
    };
  }
  return { size: blob.size, read: (start, end) => readInPage(blob.slice(start, end)) };
}

/** Pages have one synchronous way to the bytes of a Blob: a request for its address, as text. */
function readInPage(blob: Blob): Uint8Array {
  // A byte before it, as what begins like a byte order mark would be read in that mark's encoding.
  const url = URL.createObjectURL(new Blob([" ", blob]));
  try {
    const request = new XMLHttpRequest();
    request.open("GET", url, false);
    request.overrideMimeType("text/plain; charset=x-user-defined");
    request.send();
    const text = request.responseText;
    const bytes = new Uint8Array(text.length - 1);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i + 1) & 0xff;
    return bytes;
  } finally {
    URL.revokeObjectURL(url);
  }
}
