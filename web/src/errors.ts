/** What went wrong, for programs. */
export type ErrorCode =
  /** The browser has no WebGPU, or no adapter. */
  | "no_adapter"
  /** The adapter is too small, or refuses a device. */
  | "adapter_refused"
  /** The adapter computes wrong results. */
  | "adapter_wrong"
  /** The device was lost and could not be had again. */
  | "device_lost"
  /** A step failed; every request of that moment is over. */
  | "step_failed"
  /** The model file is broken, or of an unknown kind. */
  | "bad_model"
  /** The LoRA adapter's files are broken, or it is for another model. */
  | "bad_adapter"
  /** An option means nothing. */
  | "bad_option"
  /** The bytes that arrived are not those that were expected. */
  | "bad_digest"
  /** The WASM module could not be fetched or compiled. */
  | "module_failed"
  /** The server answered with an error. */
  | "http_error"
  /** The server could not be reached. */
  | "network_error"
  /** There is no room for the model on this device. */
  | "quota_exceeded"
  /** Another tab is fetching the model's file. */
  | "in_use"
  /** The request means nothing; `param` names the field. */
  | "invalid_request_error"
  /** The prompt is longer than the context. */
  | "context_length_exceeded"
  /** The caller's signal, or `interruptGenerate`. */
  | "aborted"
  /** The engine has been unloaded. */
  | "unloaded"
  /** Anything else: a fault of this package. */
  | "server_error"
  | (string & {});

/** Every error of this package. */
export class FiresideError extends Error {
  /** What went wrong, for programs. */
  readonly code: ErrorCode;
  /** The field of the request or the option that is wrong. */
  readonly param: string | undefined;

  constructor(code: ErrorCode, message: string, param?: string) {
    super(message);
    this.name = code === "aborted" ? "AbortError" : "FiresideError";
    this.code = code;
    this.param = param;
  }

  /** An error as it crosses from a worker. */
  toJSON(): ErrorObject {
    const { code, message, param } = this;
    return param === undefined ? { code, message } : { code, message, param };
  }
}

/** An error as plain data. */
export interface ErrorObject {
  code: ErrorCode;
  message: string;
  param?: string;
}

/** What a browser without room says in words of its own. */
const NO_ROOM = "there is no room left for the model: delete a cached model or free some space";

/** Any thrown thing as a {@link FiresideError}. */
export function toError(thrown: unknown): FiresideError {
  if (thrown instanceof FiresideError) return thrown;
  if (typeof thrown === "object" && thrown !== null) {
    const { name, code, message, param } = thrown as Record<string, unknown>;
    const text = typeof message === "string" ? message : String(thrown);
    if (name === "AbortError") return new FiresideError("aborted", text);
    if (name === "QuotaExceededError") return new FiresideError("quota_exceeded", NO_ROOM);
    if (typeof code === "string") {
      return new FiresideError(code, text, typeof param === "string" ? param : undefined);
    }
    return new FiresideError("server_error", text);
  }
  return new FiresideError("server_error", String(thrown));
}

/** Throws where a signal has been given. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  // What took the place of a load says so.
  if (signal.reason instanceof FiresideError) throw signal.reason;
  throw new FiresideError("aborted", "aborted by the caller");
}
