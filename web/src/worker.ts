/** The worker's side. Importing this in a worker of one's own makes that an engine's worker. */
import { toError } from "./errors.js";
import { Host } from "./host.js";
import type { Answer, Call } from "./protocol.js";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const answer = (message: Answer) => scope.postMessage(message);
const host = new Host((events) => answer({ fireside: true, events }));
const loads = new Map<number, AbortController>();

async function perform(call: Extract<Call, { call: number }>): Promise<unknown> {
  switch (call.do) {
    case "load": {
      const controller = new AbortController();
      loads.set(call.call, controller);
      try {
        return await host.load(call.source, call.options, controller.signal, (progress) =>
          answer({ fireside: true, progress }),
        );
      } finally {
        loads.delete(call.call);
      }
    }
    case "submit":
      return host.submit(call.kind, call.body);
    case "loadAdapter":
      return host.loadAdapter(call.name, call.source);
    case "unloadAdapter":
      return host.unloadAdapter(call.name);
    case "tokenize":
      return host.tokenize(call.text, call.special);
    case "detokenize":
      return host.detokenize(call.tokens);
    case "counters":
      return host.counters();
    case "clearCache":
      return host.clearCache();
    case "unload":
      return host.unload();
  }
}

scope.addEventListener("message", (event: MessageEvent<Call>) => {
  const message = event.data;
  if (message.do === "abort") {
    loads.get(message.load)?.abort();
  } else if (message.do === "cancel") {
    host.cancel(message.request);
  } else if (message.do === "cancelAll") {
    host.cancelAll();
  } else {
    perform(message).then(
      (value) => answer({ fireside: true, call: message.call, value }),
      (thrown: unknown) => answer({ fireside: true, call: message.call, error: toError(thrown).toJSON() }),
    );
  }
});
