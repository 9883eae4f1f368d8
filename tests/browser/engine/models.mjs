// Models of other kinds than the default one, from their real files where these are there: embeddings, scores of
// texts, and a table larger than a binding.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";

import { keepDevices, load, onOtherPage, unload } from "./page.mjs";

export const CHECKS = {};

/** Where the real files are served, where they are there. */
export const MINILM = "/minilm/";
export const GEMMA = "/gemma.gguf";

const fixtures = path.join(import.meta.dirname, "../../fixtures");
const read = async (file) => JSON.parse(await readFile(path.join(fixtures, file), "utf8"));

/** An embedding model's folder as a source. */
const folder = (root) => ({
  config: `${root}config.json`,
  tokenizer: `${root}tokenizer.json`,
  safetensors: `${root}model.safetensors`,
  embedding: {
    modules: `${root}modules.json`,
    pooling: `${root}1_Pooling/config.json`,
    transformer: `${root}sentence_bert_config.json`,
  },
});

/** Embeddings in the page, or the code and message of the error. */
const embed = (page, body) =>
  page.evaluate(async (body) => {
    try {
      const { data, usage } = await window.engine.embeddings.create(body);
      return { vectors: data.map(({ embedding }) => embedding), usage };
    } catch ({ code, message, param }) {
      return { code, message, param };
    }
  }, body);

function assertClose(found, wanted, tolerance) {
  assert.equal(found.length, wanted.length);
  for (const [at, vector] of found.entries()) {
    assert.equal(vector.length, wanted[at].length);
    const off = Math.max(...vector.map((value, place) => Math.abs(value - wanted[at][place])));
    assert.ok(off < tolerance, `text ${at}: ${off}`);
  }
}

CHECKS["embeddings of encoders and decoders are those of transformers"] = async ({ page }) => {
  // A decoder's keys and values are halves.
  for (const [name, tolerance] of [["bert-mean", 1e-3], ["bert-cls", 1e-3], ["qwen3-last", 2e-2]]) {
    const { texts, tokens, embeddings } = await read(`embeddings/${name}/expected.json`);
    const { info, message } = await load(page, folder(`/embeddings/${name}/`), { cache: false });
    assert.ok(info, message);
    assert.equal(info.task, "feature-extraction");
    assert.equal(info.dimensions, 48);
    const { vectors, usage } = await embed(page, { input: texts });
    assertClose(vectors, embeddings, tolerance);
    assert.equal(usage.prompt_tokens, tokens.flat().length);
    await unload(page);
  }
};

CHECKS["a request for embeddings is refused by name, shared with others, and ended"] = async ({ page }) => {
  const { texts, embeddings } = await read("embeddings/bert-mean/expected.json");
  await load(page, folder("/embeddings/bert-mean/"), { cache: false });
  const long = await embed(page, { input: "fire ".repeat(100) });
  assert.equal(long.param, "input", long.message);
  assert.match(long.message, /has 102 tokens; expected at most 64, or truncate/);
  assert.equal((await embed(page, { input: "a", dimensions: 49 })).param, "dimensions");
  const coded = await embed(page, { input: "snow", encoding_format: "base64" });
  assert.equal(coded.vectors[0].length, 256);
  const all = await page.evaluate(async (texts) => {
    const { engine } = window;
    const before = (await engine.counters()).steps;
    const replies = await Promise.all(texts.map((input) => engine.embeddings.create({ input })));
    const steps = (await engine.counters()).steps - before;
    const controller = new AbortController();
    const many = engine.embeddings.create({ input: Array(300).fill("snow") }, { signal: controller.signal });
    controller.abort();
    const aborted = await many.catch(({ code }) => code);
    const chat = await engine.chat.completions
      .create({ messages: [{ role: "user", content: "Hi" }] })
      .catch(({ code, message }) => ({ code, message }));
    return { vectors: replies.map(({ data }) => data[0].embedding), steps, aborted, chat };
  }, texts);
  assertClose(all.vectors, embeddings, 1e-3);
  assert.ok(all.steps < texts.length, `${all.steps} steps for ${texts.length} requests`);
  assert.equal(all.aborted, "aborted");
  assert.equal(all.chat.code, "wrong_model");
  assert.match(all.chat.message, /makes embeddings/);
  await unload(page);
};

/** A tensor of floats or integers in a safetensors file. */
async function tensor(file, name) {
  const bytes = await readFile(path.join(fixtures, file));
  const header = Number(bytes.readBigUInt64LE(0));
  const { dtype, shape, data_offsets } = JSON.parse(bytes.subarray(8, 8 + header))[name];
  const data = bytes.buffer.slice(bytes.byteOffset + 8 + header + data_offsets[0], bytes.byteOffset + 8 + header + data_offsets[1]);
  return { shape, values: dtype === "F32" ? new Float32Array(data) : new Int32Array(data) };
}

/** What a reference's logits say of the tokens after the first one: their log-probabilities. */
async function scores(name) {
  const tokens = [...(await tensor(`lora/${name}/expected.safetensors`, "tokens")).values];
  const of = async (which) => {
    const { shape, values } = await tensor(`lora/${name}/expected.safetensors`, which);
    return tokens.slice(1).map((token, row) => {
      const logits = values.subarray(row * shape[1], (row + 1) * shape[1]);
      return logits[token] - Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    });
  };
  return { tokens, adapted: await of("logits"), plain: await of("plain") };
}

CHECKS["LoRA adapters answer beside the model as PEFT does, stay over a lost device, and go"] = (all) =>
  // On a page of its own and its own thread, where the test can reach the device.
  onOtherPage(all, keepDevices, withAdapters);

async function withAdapters(page) {
  const root = "/tiny-llama/head-dim/";
  const files = ["config.json", "tokenizer.json"].map((file) => `${root}${file}`);
  const source = { config: files[0], tokenizer: files[1], safetensors: `${root}model.safetensors` };
  const { info, message } = await load(page, source, { cache: false, worker: false });
  assert.ok(info, message);
  const adapter = (name) => ({ config: `/lora/${name}/adapter_config.json`, weights: `/lora/${name}/adapter_model.safetensors` });
  const all = { llama: await scores("llama"), "llama-attention": await scores("llama-attention") };
  const score = (bodies) =>
    page.evaluate(async (bodies) => {
      const one = async ([model, prompt]) => {
        const body = { model, prompt, max_tokens: 0, echo: true, logprobs: 0 };
        const { choices, model: name } = await window.engine.completions.create(body);
        return [name, choices[0].logprobs.token_logprobs.slice(1)];
      };
      return Promise.all(bodies.map(one));
    }, bodies);
  const refused = await page.evaluate(async (source) => {
    const said = ({ code, message }) => ({ code, message });
    const { engine } = window;
    const other = await engine.loadAdapter("other", source).catch(said);
    const none = await engine.unloadAdapter("none").catch(said);
    return { other, none };
  }, adapter("qwen2"));
  assert.equal(refused.other.code, "bad_adapter");
  assert.match(refused.other.message, /for this model it would be .*fireside\/families\/qwen2/);
  assert.match(refused.none.message, /there is no LoRA adapter "none"/);
  // The second one comes as files, while the model answers.
  await page.evaluate(
    async ([first, second]) => {
      await window.engine.loadAdapter("llama", first);
      const blob = async (url) => (await fetch(url)).blob();
      const busy = window.engine.completions.create({ prompt: [5, 6, 7], max_tokens: 40, ignore_eos: true });
      await window.engine.loadAdapter("llama-attention", { config: await blob(second.config), weights: await blob(second.weights) });
      await busy;
    },
    [adapter("llama"), adapter("llama-attention")],
  );
  const check = async () => {
    const names = Object.keys(all);
    const bodies = names.flatMap((name) => [name, info.model].map((model) => [model, all[name].tokens]));
    const found = await score(bodies);
    for (const [at, [name, own]] of found.entries()) {
      const { adapted, plain } = all[names[at >> 1]];
      assert.equal(name, at % 2 ? info.model : names[at >> 1]);
      // Keys and values are halves.
      assertClose([own], [at % 2 ? plain : adapted], 3e-2);
    }
  };
  await check();
  await page.evaluate(() => window.devices.at(-1).destroy());
  await check();
  const gone = await page.evaluate(async () => {
    await window.engine.unloadAdapter("llama");
    const body = { model: "llama", prompt: [5, 6], max_tokens: 1 };
    return window.engine.completions.create(body).catch(({ code, param }) => [code, param]);
  });
  assert.deepEqual(gone, ["model_not_found", "model"]);
  await unload(page);
}
CHECKS["documents are scored as transformers scores them, the best first"] = async ({ page }) => {
  for (const name of ["bert-sigmoid", "bert-identity"]) {
    const { cases } = await read(`rerankers/${name}/expected.json`);
    const root = `/rerankers/${name}/`;
    const files = { tokenizerConfig: `${root}tokenizer_config.json`, embedding: undefined };
    const { info, message } = await load(page, { ...folder(root), ...files }, { cache: false });
    assert.ok(info, message);
    assert.equal(info.task, "text-ranking");
    for (const { query, texts, tokens, scores } of cases) {
      const reply = await page.evaluate((body) => window.engine.rerank(body), {
        query,
        documents: texts.map((text) => ({ text })),
        truncate: true,
      });
      assert.match(reply.id, /^rerank-/);
      assert.equal(reply.usage.total_tokens, tokens.flat().length);
      assert.equal(reply.results.length, texts.length);
      for (const [place, { index, relevance_score, document }] of reply.results.entries()) {
        assert.ok(Math.abs(relevance_score - scores[index]) < 1e-3, `${query}: ${relevance_score}`);
        assert.ok(place === 0 || reply.results[place - 1].relevance_score >= relevance_score, query);
        assert.equal(document.text, texts[index]);
      }
    }
    const { best, refused, other } = await page.evaluate(async () => {
      const { engine } = window;
      const told = ({ code, message, param }) => ({ code, message, param });
      const documents = ["stone", "wolf", "river"];
      const best = await engine.rerank({ query: "wolf", documents, top_n: 1, return_documents: false });
      const refused = await engine.rerank({ query: "wolf", documents: ["fire ".repeat(100)] }).catch(told);
      const other = await engine.embeddings.create({ input: "wolf" }).catch(told);
      return { best, refused, other };
    });
    assert.equal(best.results.length, 1);
    assert.equal(best.results[0].document, undefined);
    assert.equal(refused.param, "documents");
    assert.match(refused.message, /documents\[0\] with the query has 104 tokens; expected at most (48|96), or truncate/);
    assert.equal(other.code, "wrong_model");
    assert.match(other.message, /makes scores of texts, no embeddings/);
    await unload(page);
  }
};

CHECKS["MiniLM's embeddings are those of transformers"] = async ({ page, minilm }) => {
  if (!minilm) return "there is no all-MiniLM-L6-v2";
  const { texts, embeddings } = await read("embeddings/minilm.json");
  const { info, times, message } = await load(page, folder(MINILM));
  assert.ok(info, message);
  const { vectors } = await embed(page, { input: texts });
  assertClose(vectors, embeddings, 1e-4);
  console.log(`minilm: ready after ${times.ready.toFixed(2)} s, ${texts.length} texts embedded`);
  await unload(page);
  return undefined;
};

CHECKS["Gemma's greedy tokens are those of transformers, its table in two bindings"] = async ({ page, gemma }) => {
  if (!gemma) return "there is no Gemma 3 270M";
  const { prompts } = await read("gemma3-greedy.json");
  const { info, message } = await load(page, GEMMA);
  assert.ok(info, message);
  for (const name of ["plain-text", "chinese"]) {
    const { prompt_token_ids, generated_token_ids, near_ties } = prompts.find((prompt) => prompt.name === name);
    assert.equal(near_ties, 0, name);
    const wanted = generated_token_ids.slice(0, 8);
    const { text, expected, usage } = await page.evaluate(
      async ([prompt, wanted]) => {
        const body = { prompt, max_tokens: wanted.length, temperature: 0, ignore_eos: true };
        const { choices, usage } = await window.engine.completions.create(body);
        return { text: choices[0].text, expected: await window.engine.detokenize(wanted), usage };
      },
      [prompt_token_ids, wanted],
    );
    assert.equal(text, expected, name);
    const { prefill_tokens_per_s, decode_tokens_per_s } = usage.extra;
    console.log(`gemma: prefill ${prefill_tokens_per_s.toFixed(1)}, decode ${decode_tokens_per_s.toFixed(2)} tokens/s`);
  }
  // The log-probabilities of a prompt in the tab, as its perplexity is made of them.
  const { windows } = await read("gemma3-perplexity.json");
  const [window] = windows;
  const { logprobs } = await page.evaluate(
    async (prompt) => {
      const body = { prompt, max_tokens: 0, echo: true, logprobs: 0, temperature: 0 };
      return (await window.engine.completions.create(body)).choices[0];
    },
    window.token_ids,
  );
  const scored = logprobs.token_logprobs.slice(window.token_ids.length / 2 + 1);
  const perplexity = Math.exp(-scored.reduce((sum, one) => sum + one, 0) / scored.length);
  console.log(`gemma: perplexity ${perplexity.toFixed(4)}, transformers ${window.perplexity}`);
  // Keys and values are halves here, and floats there.
  assert.ok(Math.abs(perplexity / window.perplexity - 1) < 5e-3, String(perplexity));
  await unload(page);
  return undefined;
};
