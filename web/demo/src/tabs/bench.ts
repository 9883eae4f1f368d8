/** Measures prefill and decode of the loaded model, and gives the figures as JSON. */
import { adapterReport, type AdapterReport, type Counters, type Engine } from "fireside-llm";

import { announce, copy, h, icon } from "../dom.js";
import { rate, seconds } from "../format.js";
import { asError, type Session } from "../session.js";

/** Lengths in tokens. */
interface Plan {
  prompt: number;
  decode: number;
  runs: number;
}

const PLANS: Record<string, Plan & { label: string }> = {
  quick: { label: "Quick: 16 prompt, 8 new tokens, once", prompt: 16, decode: 8, runs: 1 },
  usual: { label: "Usual: 128 prompt, 64 new tokens, 3 runs", prompt: 128, decode: 64, runs: 3 },
  long: { label: "Long: 512 prompt, 128 new tokens, 5 runs", prompt: 512, decode: 128, runs: 5 },
};

interface Run {
  prefill_tokens_per_s: number;
  decode_tokens_per_s: number;
  time_to_first_token_s: number;
}

/** The figures as they are copied. */
export interface BenchReport {
  fireside: string;
  date: string;
  browser: string;
  adapter: Pick<AdapterReport, "vendor" | "architecture" | "device" | "description" | "software">;
  model: { name: string; architecture: string; weight_bytes: number; context_size: number };
  plan: Plan;
  /** Medians of the runs. */
  median: Run;
  runs: Run[];
  /** Of one decode step. */
  per_token: { dispatches: number; submits: number; readback_bytes: number; upload_bytes: number };
  wasm_bytes: number;
  pipelines: number;
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** A prompt that no other run begins with, so that each computes all of it. */
async function prompts(engine: Engine, length: number, number: number): Promise<number[][]> {
  const words = await engine.tokenize("The fire burned low and the night was long. We told each other stories until the morning came. ");
  const marks = await engine.tokenize("0123456789abcdefghijklmnopqrstuvwxyz");
  return Array.from({ length: number }, (_, at) => {
    const text = Array.from({ length }, (_, position) => words[position % words.length]!);
    text[0] = marks[at % marks.length]!;
    return text;
  });
}

/** Runs a plan. Throws the package's error. */
export async function measure(engine: Engine, plan: Plan, signal: AbortSignal, tell: (text: string) => void): Promise<BenchReport> {
  const complete = async (prompt: number[], max_tokens: number) => {
    const { usage } = await engine.completions.create({ prompt, max_tokens, temperature: 0, ignore_eos: true }, { signal });
    return usage!;
  };
  // What an earlier benchmark left in the KV cache would make this one look fast.
  await engine.resetChat();
  const all = await prompts(engine, plan.prompt, plan.runs + 3);
  tell("warming up");
  await complete(all[0]!, 2);
  const runs: Run[] = [];
  for (let at = 0; at < plan.runs; at++) {
    tell(`run ${at + 1} of ${plan.runs}`);
    const { extra } = await complete(all[at + 1]!, plan.decode + 1);
    const { prefill_tokens_per_s, decode_tokens_per_s, time_to_first_token_s } = extra;
    runs.push({ prefill_tokens_per_s, decode_tokens_per_s, time_to_first_token_s });
  }
  // A request with more tokens less one with fewer is the cost of the steps between.
  tell("counting");
  const steps = 4;
  const costOf = async (prompt: number[], tokens: number) => {
    const before = await engine.counters();
    await complete(prompt, tokens);
    const after = await engine.counters();
    return (name: keyof Counters) => after[name] - before[name];
  };
  const short = await costOf(all[plan.runs + 1]!, 1);
  const long = await costOf(all[plan.runs + 2]!, 1 + steps);
  const perToken = (name: keyof Counters) => (long(name) - short(name)) / steps;
  const counters = await engine.counters();
  const { vendor, architecture, device, description, software } = await adapterReport();
  const { info } = engine;
  return {
    fireside: __FIRESIDE_VERSION__,
    date: new Date().toISOString(),
    browser: navigator.userAgent,
    adapter: { vendor, architecture, device, description, software },
    model: { name: info.model, architecture: info.architecture, weight_bytes: info.weightBytes, context_size: info.contextSize },
    plan: { prompt: plan.prompt, decode: plan.decode, runs: plan.runs },
    median: {
      prefill_tokens_per_s: median(runs.map((run) => run.prefill_tokens_per_s)),
      decode_tokens_per_s: median(runs.map((run) => run.decode_tokens_per_s)),
      time_to_first_token_s: median(runs.map((run) => run.time_to_first_token_s)),
    },
    runs,
    per_token: {
      dispatches: perToken("dispatches"),
      submits: perToken("submits"),
      readback_bytes: perToken("readBytes"),
      upload_bytes: perToken("uploadedBytes"),
    },
    wasm_bytes: counters.wasmBytes,
    pipelines: counters.pipelines,
  };
}

function results(report: BenchReport): HTMLElement {
  const json = JSON.stringify(report, null, 2);
  const button = h("button", { type: "button", class: "button wide" }, icon("copy"), "Copy JSON");
  button.addEventListener("click", () => void copy(json, button));
  const figure = (name: string, value: string) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h(
    "div",
    {},
    h(
      "dl",
      { class: "figures" },
      figure("Prefill", rate(report.median.prefill_tokens_per_s)),
      figure("Decode", rate(report.median.decode_tokens_per_s)),
      figure("First token", seconds(report.median.time_to_first_token_s)),
      figure("Dispatches per token", report.per_token.dispatches.toLocaleString("en")),
      figure("Submits per token", report.per_token.submits.toLocaleString("en")),
      figure("Read back per token", `${report.per_token.readback_bytes.toLocaleString("en")} B`),
    ),
    button,
    h("pre", { class: "json", tabindex: 0, role: "region", "aria-label": "Benchmark as JSON", id: "bench-json" }, json),
  );
}

/** The tab; what was measured last stays until another model is loaded. */
export function benchTab(session: Session, showError: (error: ReturnType<typeof asError>) => void) {
  let last: { engine: Engine; report: BenchReport } | undefined;
  let running: AbortController | undefined;
  return (place: HTMLElement): void => {
    const { engine } = session;
    const plan = h("select", { id: "bench-plan" });
    for (const [name, { label }] of Object.entries(PLANS)) plan.append(h("option", { value: name }, label));
    if (!session.info?.software) plan.value = "usual";
    const status = h("p", { class: "help", role: "status" });
    const output = h("div");
    const start = h("button", { type: "button", class: "button primary wide", id: "bench-run" }, "Run");
    const stop = h("button", { type: "button", class: "button wide", onclick: () => running?.abort() }, "Stop");
    const settle = () => {
      start.hidden = running !== undefined;
      stop.hidden = running === undefined;
      start.disabled = session.engine === undefined;
    };
    const run = async () => {
      const current = session.engine;
      if (!current || running) return;
      running = new AbortController();
      settle();
      output.replaceChildren();
      try {
        const tell = (text: string) => (status.textContent = text);
        const report = await measure(current, PLANS[plan.value]!, running.signal, tell);
        last = { engine: current, report };
        status.textContent = "";
        output.replaceChildren(results(report));
        announce(`Decode ${rate(report.median.decode_tokens_per_s)}`);
      } catch (thrown) {
        const error = asError(thrown);
        status.textContent = error.code === "aborted" ? "stopped" : error.message;
        if (error.code !== "aborted") showError(error);
      } finally {
        running = undefined;
        settle();
      }
    };
    start.addEventListener("click", () => void run());
    settle();
    if (!engine) {
      status.textContent = session.place === "server" ? "It measures a model in this tab. Load one first." : "Load a model first.";
    }
    if (last && last.engine === engine) output.append(results(last.report));
    place.append(
      h("h3", {}, "Benchmark"),
      h("p", { class: "help" }, "Greedy, with the end of the text ignored. Nothing is sent anywhere."),
      h("div", { class: "field" }, h("label", { for: "bench-plan" }, "Length"), plan),
      start,
      stop,
      status,
      output,
    );
  };
}
