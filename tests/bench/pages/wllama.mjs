// llama.cpp built for the browser, through wllama: on the CPU in WASM with one thread, or on WebGPU. Its
// public interface has whole completions only, so that sampling and text are in its times.

import { adapter, between, mark } from "./times.mjs";

// Prompts must be text here: words that are a token each, in an order that differs by salt.
const WORDS = ["quick", "brown", "fox", "over", "lazy", "dog", "little", "star"];

function words(count, salt) {
  const word = (at) => WORDS[(at * 5 + salt + Math.floor(at / 8) * salt) % WORDS.length];
  return ["The", ...Array.from({ length: count - 1 }, (_, at) => word(at))].join(" ");
}

export async function open(device) {
  const webgpu = device === "webgpu";
  const found = webgpu ? await adapter() : null;
  if (webgpu && !found) return { about: { skip: "the browser gives no WebGPU adapter" } };
  // ggml's WebGPU backend has no shader without halves.
  if (webgpu && !found.f16) return { about: { skip: `${found.name} has no shader-f16, which wllama's WebGPU needs` } };
  const { Wllama } = await import("/package/index.js");
  const wllama = new Wllama({ default: "/package/wasm/wllama.wasm" }, { suppressNativeLog: true });
  const begin = performance.now();
  const file = await (await fetch("/model.gguf")).blob();
  await wllama.loadModel([file], { n_threads: 1, n_gpu_layers: webgpu ? 999 : 0, n_ctx: 5120, n_batch: 512 });
  const load_seconds = (performance.now() - begin) / 1000;
  const greedy = { temperature: 0, top_k: 1, ignore_eos: true };

  // Calls `first` at the first piece of text, and gives all of it, with the prompt's length by llama.cpp's count.
  async function stream(prompt, max_tokens, first, cache_prompt = true) {
    let text = "";
    let started;
    let counted;
    const onData = (chunk) => {
      started ??= first();
      text += chunk.choices[0]?.text ?? "";
      counted = chunk.timings?.prompt_n ?? counted;
    };
    await wllama.createCompletion({ prompt, max_tokens, stream: true, onData, cache_prompt, ...greedy });
    return { text, counted, before: await started };
  }

  return {
    about: {
      engine: `wllama, llama.cpp ${Wllama.getLibllamaVersion()}`,
      adapter: found ?? { name: "cpu (WASM)", backend: "wasm", software: true },
      threads: webgpu ? null : 1,
      load_seconds,
    },
    kinds: {
      async greedy({ text, tokens }) {
        return { text: (await stream(text, tokens, () => null)).text };
      },
      async prefill({ tokens, salt = 0 }) {
        const before = await mark();
        const { counted } = await stream(words(tokens, salt), 1, () => null, false);
        return { tokens: counted ?? tokens, ...between(before, await mark()) };
      },
      async decode({ tokens, depth = 0, sequences = 1, salt = 0 }) {
        if (sequences !== 1) throw new Error("one sequence is measured in a browser");
        const { before } = await stream(words(Math.max(depth, 1), salt), tokens + 1, mark);
        return { tokens, ...between(before, await mark()) };
      },
    },
  };
}
