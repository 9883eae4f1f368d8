// llama.cpp through node-llama-cpp: on the CPU, or on a Vulkan adapter.
//
//   node peers/llama.mjs MODEL.gguf cpu|vulkan THREADS

import { serve, Skip, timed } from "../peer.mjs";
import { token, tokens as synthetic } from "../workload.mjs";

const [model, device, threads] = process.argv.slice(2);
const GREEDY = { temperature: 0, yieldEogToken: true };
// llama-bench's default.
const BATCH = 512;

async function open() {
  const library = await import("node-llama-cpp").catch((error) => {
    throw new Skip(`no node-llama-cpp: ${error.message}`);
  });
  const gpu = device === "vulkan" ? "vulkan" : false;
  const options = { gpu, build: "never", skipDownload: true, progressLogs: false, logLevel: "error", maxThreads: Number(threads) };
  const llama = await library.getLlama(options).catch((error) => {
    throw new Skip(`llama.cpp does not start: ${error.message}`);
  });
  const names = gpu ? await llama.getGpuDeviceNames() : [];
  if (gpu && names.length === 0) {
    throw new Skip("llama.cpp finds no Vulkan adapter (it passes over software ones unless GGML_VK_VISIBLE_DEVICES names one)");
  }
  const begin = performance.now();
  const loaded = await llama.loadModel({ modelPath: model, gpuLayers: gpu ? "max" : 0, ignoreMemorySafetyChecks: true });
  const vocab = loaded.fileInfo.metadata.tokenizer.ggml.tokens.length;
  const bench = new Bench(loaded, vocab);
  return {
    about: {
      engine: `llama.cpp ${llama.llamaCppRelease.release}, node-llama-cpp ${library.getModuleVersion ? await library.getModuleVersion() : ""}`.trim(),
      adapter: gpu
        ? { name: names.join(", "), backend: "vulkan", software: /llvmpipe|swiftshader/i.test(names.join()) }
        : { name: "cpu", backend: "ggml-cpu", software: true },
      threads: gpu ? null : Number(threads),
      context: loaded.trainContextSize,
      load_seconds: (performance.now() - begin) / 1e3,
    },
    kinds: {
      greedy: (request) => bench.greedy(request),
      prefill: (request) => bench.prefill(request),
      decode: (request) => bench.decode(request),
    },
  };
}

class Bench {
  #model;
  #vocab;
  #rooms = new Map();

  constructor(model, vocab) {
    this.#model = model;
    this.#vocab = vocab;
  }

  // A context for so many sequences, kept for later requests that fit.
  async #room(name, sequences, positions) {
    const size = Math.ceil((positions + 8) / 256) * 256;
    const key = `${name} ${sequences}`;
    const seen = this.#rooms.get(key);
    if (seen && seen.size >= size) return seen.list;
    await seen?.context.dispose();
    const context = await this.#model.createContext({
      contextSize: size,
      sequences,
      threads: Number(threads),
      batchSize: BATCH,
      ignoreMemorySafetyChecks: true,
    });
    const list = Array.from({ length: sequences }, () => context.getSequence());
    this.#rooms.set(key, { context, size, list });
    return list;
  }

  async greedy({ prompt, tokens }) {
    const [sequence] = await this.#room("prefill", 1, prompt.length + tokens);
    await sequence.clearHistory();
    const ids = [];
    for await (const id of sequence.evaluate(prompt, GREEDY)) {
      ids.push(id);
      if (ids.length === tokens) break;
    }
    return { ids };
  }

  async prefill({ tokens }) {
    const [sequence] = await this.#room("prefill", 1, tokens);
    await sequence.clearHistory();
    const run = sequence.evaluate(synthetic(0, tokens, this.#vocab), GREEDY);
    const times = await timed(() => run.next());
    await run.return();
    return { tokens, ...times };
  }

  async decode({ tokens, depth = 0, sequences = 1 }) {
    const list = await this.#room("decode", sequences, depth + tokens);
    const of = (at, position) => token(position * sequences + at, this.#vocab);
    for (const [at, sequence] of list.entries()) {
      const filled = sequence.nextTokenIndex;
      if (filled > depth) await sequence.eraseContextTokenRanges([{ start: depth, end: filled }]);
      if (filled < depth) {
        const rest = Array.from({ length: depth - filled }, (_, index) => of(at, filled + index));
        await sequence.evaluateWithoutGeneratingNewTokens(rest);
      }
    }
    const runs = list.map((sequence, at) => sequence.evaluate([of(at, depth)], GREEDY));
    const times = await timed(async () => {
      await Promise.all(runs.map((run) => run.next()));
      // The token that was chosen is not the one that is fed, as in llama-bench.
      for (let position = depth + 1; position < depth + tokens; position++) {
        await Promise.all(runs.map((run, at) => run.next(of(at, position))));
      }
    });
    await Promise.all(runs.map((run) => run.return()));
    return { tokens: tokens * sequences, ...times };
  }
}

await serve(open);
