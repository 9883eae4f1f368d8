// ONNX Runtime Web's WebGPU provider in the page: its loop feeds what a step gives into the next one, keys and
// values stay on the adapter, and the logits of the last position are read, as is usual there.

import { token, tokens as synthetic } from "/workload.mjs";

import { adapter, between, mark } from "./times.mjs";

const LAYERS = 30;
const KV_HEADS = 3;
const HEAD = 64;
const VOCAB = 49152;

export async function open() {
  const found = await adapter();
  if (!found) return { about: { skip: "the browser gives no WebGPU adapter" } };
  const ort = await import("/package/ort.webgpu.bundle.min.mjs");
  ort.env.wasm.wasmPaths = "/package/";
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const begin = performance.now();
  const names = Array.from({ length: LAYERS }, (_, at) => [`${at}.key`, `${at}.value`]).flat();
  const places = Object.fromEntries(names.map((name) => [`present.${name}`, "gpu-buffer"]));
  const session = await ort.InferenceSession.create("/model.onnx", {
    executionProviders: ["webgpu"],
    preferredOutputLocation: places,
    graphOptimizationLevel: "all",
  });
  const load_seconds = (performance.now() - begin) / 1000;

  const empty = () => ({
    length: 0,
    past: Object.fromEntries(
      names.map((name) => [
        `past_key_values.${name}`,
        new ort.Tensor("float32", new Float32Array(0), [1, KV_HEADS, 0, HEAD]),
      ]),
    ),
  });

  // Runs tokens after what the state has, and gives the next token.
  async function step(state, ids) {
    const total = state.length + ids.length;
    const outputs = await session.run({
      input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
      attention_mask: new ort.Tensor("int64", new BigInt64Array(total).fill(1n), [1, total]),
      ...state.past,
    });
    for (const tensor of Object.values(state.past)) tensor.dispose();
    state.past = Object.fromEntries(names.map((name) => [`past_key_values.${name}`, outputs[`present.${name}`]]));
    state.length = total;
    const logits = await outputs.logits.getData();
    let best = 0;
    for (let at = 1; at < logits.length; at++) if (logits[at] > logits[best]) best = at;
    outputs.logits.dispose();
    return best;
  }

  const end = (state) => Object.values(state.past).forEach((tensor) => tensor.dispose());

  return {
    about: {
      engine: `onnxruntime-web ${ort.env.versions.web}, WebGPU provider, f32`,
      adapter: found,
      load_seconds,
    },
    kinds: {
      async greedy({ prompt, tokens }) {
        const state = empty();
        const ids = [await step(state, prompt)];
        while (ids.length < tokens) ids.push(await step(state, [ids.at(-1)]));
        end(state);
        return { ids };
      },
      async prefill({ tokens }) {
        const state = empty();
        const before = await mark();
        await step(state, synthetic(0, tokens, VOCAB));
        const times = between(before, await mark());
        end(state);
        return { tokens, ...times };
      },
      async decode({ tokens, depth = 0, sequences = 1 }) {
        if (sequences !== 1) throw new Error("one sequence is measured in a browser");
        const state = empty();
        if (depth) await step(state, synthetic(0, depth, VOCAB));
        const before = await mark();
        for (let at = 0; at < tokens; at++) await step(state, [token(depth + at, VOCAB)]);
        const times = between(before, await mark());
        end(state);
        return { tokens, ...times };
      },
    },
  };
}
