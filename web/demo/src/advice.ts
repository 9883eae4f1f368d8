/** What an error means to a person, and what to do about it. */
import type { FiresideError } from "fireside-llm";

/** Something the page can do about an error. */
export type Remedy = "retry" | "models" | "storage" | "settings" | "new-chat" | "reload-model" | "gpu" | "key" | "tab";

export interface Advice {
  title: string;
  /** What to do next. */
  next: string;
  remedies: Remedy[];
}

const ADVICE: Record<string, Advice> = {
  no_adapter: {
    title: "No GPU to run on",
    next: "Use a current Chrome, Edge, Safari or Firefox over https, and switch hardware acceleration on in its settings. On Linux, Chrome may need WebGPU enabled by hand.",
    remedies: ["gpu", "retry"],
  },
  adapter_refused: {
    title: "The GPU refused",
    next: "Close other tabs that use the GPU, or choose a smaller context in the settings; then try again.",
    remedies: ["retry", "settings", "gpu"],
  },
  adapter_wrong: {
    title: "The GPU computes wrong results",
    next: "Update the driver of the GPU, or use another browser: answers would be gibberish.",
    remedies: ["gpu"],
  },
  device_lost: {
    title: "The GPU went away",
    next: "It was reset, or ran out of memory. Your conversation is safe: load the model again and go on.",
    remedies: ["reload-model"],
  },
  step_failed: {
    title: "A step on the GPU failed",
    next: "Ask again. If it comes back, load the model again or choose a smaller context.",
    remedies: ["retry", "reload-model"],
  },
  bad_model: {
    title: "This is not a model Fireside can run",
    next: "Choose a GGUF file of a supported model. If it was a download, delete it under Storage and fetch it again.",
    remedies: ["models", "storage"],
  },
  bad_option: {
    title: "An option does not fit",
    next: "Change what the message names and try again.",
    remedies: ["settings", "models"],
  },
  bad_digest: {
    title: "The download is damaged",
    next: "The bytes that came are not those of the model. Nothing of it was kept: try again.",
    remedies: ["retry"],
  },
  http_error: {
    title: "The server did not give the model",
    next: "Check the address. The file may have moved, or need permission.",
    remedies: ["retry", "models"],
  },
  network_error: {
    title: "The server cannot be reached",
    next: "Check the connection. What has arrived is kept, and the download goes on from there. A host must also allow other origins (CORS).",
    remedies: ["retry", "models"],
  },
  quota_exceeded: {
    title: "No room for the model",
    next: "Delete a model that is kept here, or free space on the device. Private windows have little.",
    remedies: ["storage", "retry"],
  },
  module_failed: {
    title: "The engine's module did not start",
    next: "Check the connection and load the page again. A content security policy must allow wasm-unsafe-eval.",
    remedies: ["retry"],
  },
  in_use: {
    title: "The model is being fetched",
    next: "Here or in another tab. Let that end, or close the tab, and try again.",
    remedies: ["retry"],
  },
  invalid_request_error: {
    title: "The request does not fit",
    next: "Change the setting that the message names.",
    remedies: ["settings"],
  },
  context_length_exceeded: {
    title: "The conversation is too long",
    next: "Begin a new chat, or load the model with a larger context.",
    remedies: ["new-chat", "settings"],
  },
  unloaded: {
    title: "The model is no longer loaded",
    next: "Load it again; your conversation is kept.",
    remedies: ["reload-model"],
  },
};

/** What a server says when it has no place for a request, or no engine. */
const BUSY: Advice = {
  title: "The server is busy",
  next: "As many answers are under way as it takes. Try again in a moment.",
  remedies: ["retry", "tab"],
};
const NOT_READY: Advice = {
  title: "The server is not ready",
  next: "It loads its model, or is about to end. Try again in a moment.",
  remedies: ["retry", "tab"],
};

const OF_SERVERS: Record<string, Advice> = {
  invalid_api_key: {
    title: "This server wants a key",
    next: "Enter the API key that its owner has given you. It is kept until this tab is closed.",
    remedies: ["key", "tab"],
  },
  server_unreachable: {
    title: "This server does not answer",
    next: "It may have been stopped, or the connection is gone. Your conversation is safe: try again, or run a model in this tab.",
    remedies: ["retry", "tab"],
  },
  bad_answer: {
    title: "The server gave an answer that means nothing here",
    next: "Something between this page and the server may have answered in its place. Try again, or run a model in this tab.",
    remedies: ["retry", "tab"],
  },
  overloaded: BUSY,
  queue_full: BUSY,
  overloaded_error: BUSY,
  engine_dead: NOT_READY,
  unavailable_error: NOT_READY,
  timeout: {
    title: "The server took too long",
    next: "The answer was longer than it may take there. Ask for fewer tokens, or try again when it is less busy.",
    remedies: ["settings", "retry"],
  },
};

const OTHER: Advice = {
  title: "Something went wrong",
  next: "Load the model again. If it comes back, copy the details and report them.",
  remedies: ["reload-model"],
};

/** The advice for an error. */
export function adviceFor(error: FiresideError): Advice {
  return ADVICE[error.code] ?? OF_SERVERS[error.code] ?? OTHER;
}
