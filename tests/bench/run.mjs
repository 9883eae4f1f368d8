// Measures Fireside and its peers in one session, in turns: each round asks every engine for one short
// measurement, so that what else the machine does meets all of them. Writes bench.json, bench.md and
// bench.svg.
//
//   node run.mjs --model FILE --fireside BINARY --out FOLDER [OPTION...]
//
// `cargo xtask bench` calls it with everything that it needs.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { chart } from "./chart.mjs";
import { Child } from "./child.mjs";
import { choose, rows } from "./rows.mjs";
import { sized, summarize } from "./stats.mjs";
import { markdown } from "./table.mjs";
import { agreement, PROMPT } from "./workload.mjs";

// How long an engine may take to load and for one answer.
const LOAD = 300;
const ANSWER = 900;
// Seconds that a decode and a prefill should take at most, and after which an engine gets no more of a kind. A
// prefill has more: its cost hangs on its length.
const ONE = 10;
const ONE_PREFILL = 30;
const ALL = 60;
// Seconds of the processor that filling a context may take, as estimated from prefill.
const FILL = 90;
// Milliseconds of a token above which an engine is measured without more ado, and its tokens of a prefill.
const SLOW = 5000;
const SLOW_PROMPT = 8;

export function options(args) {
  const text = { type: "string" };
  const { values } = parseArgs({
    args,
    options: {
      model: text, fireside: text, chromium: text, package: text, onnx: text, python: text, out: text,
      lack: { type: "string", multiple: true, default: [] },
      only: { type: "string", multiple: true, default: [] },
      rounds: { type: "string", default: "3" },
      prompt: { type: "string", default: "128" },
      generate: { type: "string", default: "16" },
      depths: { type: "string", default: "100,1000,4000" },
      concurrency: { type: "string", default: "1,2,4,8,16" },
      quick: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
    },
  });
  const number = (name, least) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < least) {
      throw new Error(`--${name} is \`${values[name]}\`; expected a whole number from ${least}`);
    }
    return value;
  };
  const list = (name, least) =>
    values[name].split(",").filter(Boolean).map((part) => {
      const value = Number(part);
      if (!Number.isInteger(value) || value < least) {
        throw new Error(`--${name} has \`${part}\`; expected whole numbers from ${least}, as in 1,4,16`);
      }
      return value;
    });
  const given = (name, quick, read) => (values.quick && !args.some((a) => a.startsWith(`--${name}`)) ? quick : read);
  return {
    ...values,
    // `--only a b` of the command comes as `--only a --only b`, `a,b` as it is.
    only: values.only.flatMap((part) => part.split(",")).filter(Boolean),
    lack: Object.fromEntries(values.lack.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)])),
    rounds: given("rounds", 1, number("rounds", 1)),
    prompt: given("prompt", 32, number("prompt", 1)),
    generate: given("generate", 4, number("generate", 1)),
    depths: given("depths", [100], list("depths", 0)),
    concurrency: given("concurrency", [1, 4], list("concurrency", 1)),
  };
}

// One engine: its process, and what was measured of it so far.
class Engine {
  constructor(row) {
    this.row = row;
    this.samples = new Map();
    this.spent = new Map();
    this.left = [];
    this.skip = null;
  }

  async open(lack, settings) {
    const missing = this.row.needs.find((need) => lack[need]);
    if (missing) throw new Error(lack[missing]);
    this.child = new Child(this.row.command, this.row.env);
    this.about = await this.child.ready(LOAD);
    // The first one compiles shaders; the second tells how much there is time for.
    await this.child.ask({ kind: "decode", tokens: 1 }, ANSWER);
    const { wall_ms } = await this.child.ask({ kind: "decode", tokens: 1, salt: 1 }, ANSWER);
    this.generate = sized(wall_ms, ONE, settings.generate);
    const tokens = sized(wall_ms, ALL, PROMPT.answer.ids.length);
    this.answer = await this.child.ask({ kind: "greedy", prompt: PROMPT.ids, text: PROMPT.text, tokens }, ANSWER);
    this.agreement = agreement(this.answer, tokens);
    if (wall_ms > SLOW) {
      // The prompt has compiled what a prefill needs.
      this.prompt = Math.min(settings.prompt, SLOW_PROMPT);
      this.prefillMs = wall_ms;
      return;
    }
    const few = Math.min(settings.prompt, this.generate);
    await this.child.ask({ kind: "prefill", tokens: few, salt: 2 }, ANSWER);
    const probe = await this.child.ask({ kind: "prefill", tokens: few, salt: 3 }, ANSWER);
    this.prefillMs = (probe.cpu_ms ?? probe.wall_ms) / probe.tokens;
    this.prompt = sized(probe.wall_ms / probe.tokens, ONE_PREFILL, settings.prompt);
    if (this.prompt > few) await this.child.ask({ kind: "prefill", tokens: this.prompt, salt: 4 }, ANSWER);
  }

  // One measurement of a kind, unless this engine has had its time.
  async measure(key, request) {
    if (this.skip || (this.spent.get(key) ?? 0) > ALL * 1000) return;
    try {
      const sample = await this.child.ask(request, ANSWER);
      this.samples.set(key, [...(this.samples.get(key) ?? []), sample]);
      this.spent.set(key, (this.spent.get(key) ?? 0) + sample.wall_ms);
      if (key === "prefill") this.prefillMs = Math.min(this.prefillMs, (sample.cpu_ms ?? sample.wall_ms) / sample.tokens);
    } catch (error) {
      this.left.push(`${key}: ${error.message}`);
      this.spent.set(key, Infinity);
    }
  }

  result() {
    const { row, about, answer } = this;
    const of = (key) => summarize(this.samples.get(key) ?? []);
    const series = (name) =>
      [...this.samples.keys()]
        .filter((key) => key.startsWith(`${name} `))
        .map((key) => ({ [name]: Number(key.slice(name.length + 1)), ...of(key) }));
    const base = { name: row.name, label: row.label, where: row.where, ours: Boolean(row.ours) };
    if (this.skip) return { ...base, skip: this.skip };
    return {
      ...base,
      ...about,
      greedy: { ...answer, agreement: this.agreement },
      decode: of("decode"),
      prefill: of("prefill"),
      depths: series("depth"),
      concurrency: series("sequences"),
      left_out: this.left,
    };
  }
}

const load = async () => {
  const text = await readFile("/proc/loadavg", "utf8").catch(() => "");
  return text ? text.split(" ").slice(0, 3).map(Number) : os.loadavg();
};

async function sha256(file) {
  const hash = createHash("sha256");
  for await (const part of createReadStream(file)) hash.update(part);
  return hash.digest("hex");
}

// All measurements. `keep` is given what there is after each part, so that an interrupted session is not lost.
async function session(settings, say, keep) {
  const chosen = choose(rows(settings), settings.only);
  const engines = chosen.map((row) => new Engine(row));
  const machine = {
    cpu: os.cpus()[0]?.model.trim(),
    cores: os.availableParallelism(),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
    load_before: await load(),
  };
  const model = { file: path.basename(settings.model), bytes: (await stat(settings.model)).size, sha256: await sha256(settings.model) };
  say(`model     ${model.file} (${model.bytes} bytes), sha256 ${model.sha256}`);
  say(`machine   ${machine.cpu}, ${machine.cores} cores, load average ${machine.load_before.join(" ")}`);
  const began = Date.now();
  const running = () => engines.filter((engine) => !engine.skip);
  const { rounds, prompt, generate, depths, concurrency } = settings;
  const soFar = async () => {
    machine.load_after = await load();
    return {
      when: new Date(began).toISOString(),
      seconds: (Date.now() - began) / 1000,
      model,
      machine,
      settings: { rounds, prompt, generate, depths, concurrency },
      rows: engines.filter((engine) => engine.skip || engine.agreement).map((engine) => engine.result()),
    };
  };
  try {
    for (const engine of engines) {
      const at = Date.now();
      try {
        await engine.open(settings.lack, settings);
        const { adapter } = engine.about;
        const driver = adapter.driver ? `, ${adapter.driver}` : "";
        const software = adapter.software && adapter.backend !== "ggml-cpu" ? " (software)" : "";
        say(`${engine.row.name.padEnd(18)} ${engine.about.engine}; ${adapter.name}${driver}${software}; ready in ${((Date.now() - at) / 1000).toFixed(0)} s; ${told(engine.agreement)}`);
      } catch (error) {
        engine.skip = error.message;
        engine.child?.kill();
        say(`${engine.row.name.padEnd(18)} skipped: ${error.message}`);
      }
    }
    for (let round = 0; round < rounds; round++) {
      for (const engine of running()) {
        await engine.measure("decode", { kind: "decode", tokens: engine.generate, salt: 10 + round });
        await engine.measure("prefill", { kind: "prefill", tokens: engine.prompt, salt: 20 + round });
      }
      say(`round ${round + 1} of ${rounds}, ${((Date.now() - began) / 1000).toFixed(0)} s`);
      await keep(await soFar());
    }
    for (const sequences of concurrency) await together(sequences, running(), settings, say);
    await keep(await soFar());
    for (const depth of depths) {
      await deep(depth, running(), settings, say);
      await keep(await soFar());
    }
  } finally {
    for (const engine of engines) engine.child?.close();
  }
}

// What an engine's greedy tokens were, in words.
function told(found) {
  return `${found.same} of ${found.of} ${found.characters ? "characters" : "tokens"} agree`;
}

// Decode with so many tokens in the context, where filling it does not take too long.
async function deep(depth, engines, settings, say) {
  const chosen = engines.filter((engine) => {
    const seconds = (depth * engine.prefillMs) / 1000;
    if (seconds > FILL) engine.left.push(`depth ${depth}: filling the context would take about ${seconds.toFixed(0)} s`);
    return seconds <= FILL;
  });
  const request = (engine) => ({ kind: "decode", tokens: Math.max(1, engine.generate >> 1), depth, salt: 30 });
  for (const engine of chosen) await engine.measure(`warm depth ${depth}`, { ...request(engine), tokens: 1 });
  for (let round = 0; round < settings.rounds; round++) {
    for (const engine of chosen) {
      if (engine.samples.has(`warm depth ${depth}`)) await engine.measure(`depth ${depth}`, request(engine));
    }
  }
  say(`context of ${depth}`);
}

// Decode of so many sequences at once, where an engine has that.
async function together(sequences, engines, settings, say) {
  const chosen = engines.filter((engine) => engine.row.sequences);
  const request = (engine) => ({ kind: "decode", tokens: Math.max(1, engine.generate >> 1), sequences });
  for (const engine of chosen) await engine.measure(`warm sequences ${sequences}`, { ...request(engine), tokens: 1 });
  for (let round = 0; round < settings.rounds; round++) {
    for (const engine of chosen) await engine.measure(`sequences ${sequences}`, request(engine));
  }
  say(`${sequences} sequences`);
}

async function main() {
  const settings = options(process.argv.slice(2));
  if (settings.list) {
    for (const row of rows(settings)) {
      const lack = row.needs.map((need) => settings.lack[need]).find(Boolean);
      console.log(`  ${row.name.padEnd(18)} ${row.label}${lack ? ` (skipped: ${lack})` : ""}`);
    }
    return;
  }
  for (const name of ["model", "fireside", "out"]) if (!settings[name]) throw new Error(`--${name} is missing`);
  choose(rows(settings), settings.only);
  await mkdir(settings.out, { recursive: true });
  let report;
  await session(settings, (line) => console.log(line), async (seen) => {
    report = seen;
    await writeFile(path.join(settings.out, "bench.json"), `${JSON.stringify(report, null, 2)}\n`);
    await writeFile(path.join(settings.out, "bench.md"), markdown(report));
    await writeFile(path.join(settings.out, "bench.svg"), chart(report));
  });
  console.log(`\n${markdown(report)}\nwritten: bench.json, bench.md and bench.svg in ${settings.out}`);
  if (!report.rows.some((row) => row.decode)) process.exitCode = 1;
}

if (process.argv[1] && path.resolve(process.argv[1]) === path.resolve(import.meta.filename ?? new URL(import.meta.url).pathname)) {
  main().catch((error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 2;
  });
}
