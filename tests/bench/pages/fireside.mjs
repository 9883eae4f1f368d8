// Fireside's npm package in the page, through its public interface: sampling and text are in its times.

import { tokens as synthetic } from "/workload.mjs";

import { adapter, between, mark } from "./times.mjs";

export async function open() {
  const found = await adapter();
  if (!found) return { about: { skip: "the browser gives no WebGPU adapter" } };
  const { CreateEngine } = await import("/package/index.js");
  const begin = performance.now();
  const engine = await CreateEngine(`${location.origin}/model.gguf`, { cache: false });
  const load_seconds = (performance.now() - begin) / 1000;
  const vocab = 49152;
  const stream = (prompt, max_tokens) =>
    engine.completions.create({ prompt, max_tokens, temperature: 0, ignore_eos: true, stream: true });

  async function decode({ tokens, depth = 0, sequences = 1, salt = 0 }) {
    if (sequences !== 1) throw new Error("one sequence is measured in a browser");
    let before;
    let counters;
    let count = 0;
    for await (const chunk of await stream(synthetic(0, Math.max(depth, 1), vocab, salt), tokens + 1)) {
      if (!chunk.choices.length) continue;
      if (count++ === 0) {
        [before, counters] = await Promise.all([mark(), engine.counters()]);
      }
    }
    const times = between(before, await mark());
    const after = await engine.counters();
    const since = (name) => after[name] - counters[name];
    return {
      tokens,
      ...times,
      counters: {
        // The engine runs ahead of what a page has seen: a step is a submission.
        steps: since("submits"),
        dispatches: since("dispatches"),
        submits: since("submits"),
        bytes_read: since("readBytes"),
        bytes_uploaded: since("uploadedBytes"),
        pipelines_late: since("pipelines"),
        host_ms: times.page_ms,
      },
    };
  }

  return {
    about: { engine: "fireside-llm (npm package)", adapter: found, context: engine.info.contextSize, load_seconds },
    kinds: {
      async greedy({ prompt, tokens }) {
        const body = { prompt, max_tokens: tokens, temperature: 0, ignore_eos: true };
        return { text: (await engine.completions.create(body)).choices[0].text };
      },
      async prefill({ tokens, salt = 0 }) {
        const before = await mark();
        for await (const _ of await stream(synthetic(0, tokens, vocab, salt), 1));
        return { tokens, ...between(before, await mark()) };
      },
      decode,
    },
  };
}
