// What is computed from measurements, and what is made of them. Needs no engine and no package.

import assert from "node:assert/strict";
import { test } from "node:test";

import { chart, escape, unit } from "./chart.mjs";
import { Child, parseAnswer } from "./child.mjs";
import { parseStat, treeTicks } from "./processes.mjs";
import { choose, rows } from "./rows.mjs";
import { options } from "./run.mjs";
import { sized, spread, summarize } from "./stats.mjs";
import { grid, markdown } from "./table.mjs";
import { agreement, PROMPT, token, tokens } from "./workload.mjs";

test("a median is the middle, or the mean of both middles, whatever the order", () => {
  assert.deepEqual(spread([9, 1, 5]), { median: 5, min: 1, max: 9 });
  assert.deepEqual(spread([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 });
  assert.equal(spread([]), null);
  assert.deepEqual(spread([NaN, 2]), { median: 2, min: 2, max: 2 });
});

test("times are of a token and counters of a step", () => {
  const counters = { steps: 4, dispatches: 740, submits: 4, bytes_read: 128, bytes_uploaded: 8, host_ms: 6, pipelines_late: 1 };
  const samples = [
    { tokens: 8, wall_ms: 16, cpu_ms: 24, counters },
    { tokens: 8, wall_ms: 32, cpu_ms: 8, counters },
  ];
  const found = summarize(samples);
  assert.equal(found.wall_ms.median, 3);
  assert.equal(found.cpu_ms.min, 1);
  assert.equal(found.rounds, 2);
  assert.deepEqual(found.counters, { dispatches: 185, submits: 1, bytes_read: 32, bytes_uploaded: 2, host_ms: 1.5, pipelines_late: 2 });
  assert.equal(summarize([{ tokens: 1, wall_ms: 1, cpu_ms: null }]).cpu_ms, null);
  const untold = summarize([{ tokens: 1, wall_ms: 1, cpu_ms: 1, counters: { ...counters, host_ms: null } }]);
  assert.equal(untold.counters.host_ms, null);
  assert.equal(summarize([]), null);
});

test("a slow engine is given fewer tokens, but one at the least", () => {
  assert.equal(sized(1, 10, 16), 16);
  assert.equal(sized(1000, 10, 16), 8);
  assert.equal(sized(60_000, 10, 16), 1);
  assert.equal(sized(1000, 10, 10), 10);
});

test("synthetic tokens are in the vocabulary and differ by salt from the first on", () => {
  assert.ok(tokens(0, 500, 49152, 3).every((id) => id >= 0 && id < 49152));
  assert.notEqual(token(0, 49152, 1), token(0, 49152, 2));
  // As `fireside bench` has them.
  assert.deepEqual(tokens(0, 3, 49152), [11, 7930, 15849]);
});

test("agreement ends at the first token or character that differs", () => {
  const { ids, pieces } = PROMPT.answer;
  assert.deepEqual(agreement({ ids }, 8), { same: 8, of: 8 });
  assert.deepEqual(agreement({ ids: [...ids.slice(0, 2), 1, ...ids.slice(3)] }, 8), { same: 2, of: 8 });
  assert.deepEqual(agreement({ ids: ids.slice(0, 2) }, 2), { same: 2, of: 2 });
  assert.deepEqual(agreement({ text: `${pieces.join("")} more` }, 8), { same: 32, of: 32, characters: true });
  assert.equal(agreement({ text: " stop" }, 8).same, 3);
  assert.equal(agreement({}, 8).same, 0);
});

test("lines of libraries between answers are passed over", () => {
  assert.equal(parseAnswer("ggml_vulkan: found 1 device"), null);
  assert.equal(parseAnswer("{not json}"), null);
  assert.deepEqual(parseAnswer('{"tokens": 3}'), { tokens: 3 });
});

test("a peer is asked and answers; one that ends is an error with its last words", async () => {
  const script = `console.log("a library"); console.log('{"engine":"x"}');
    process.stdin.on("data", (line) => console.log(JSON.stringify({ got: JSON.parse(line).kind })));`;
  const child = new Child([process.execPath, "-e", script]);
  assert.equal((await child.ready(60)).engine, "x");
  assert.equal((await child.ask({ kind: "decode" }, 60)).got, "decode");
  child.close();
  const broken = new Child([process.execPath, "-e", 'console.error("no such model"); process.exit(3)']);
  await assert.rejects(broken.ready(60), /exit code 3.*no such model/);
  const skipping = new Child([process.execPath, "-e", `console.log('{"skip":"no adapter"}')`]);
  await assert.rejects(skipping.ready(60), /no adapter/);
  await assert.rejects(new Child(["/no/such/program"]).ready(60), /does not start/);
});

test("a process's time is read whatever its name holds", () => {
  const text = "12 (a ) name) S 7 12 12 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 5 0 0";
  assert.deepEqual(parseStat(text), { parent: 7, ticks: 42 });
  const own = treeTicks(process.pid);
  assert.ok(own === null || own >= 0);
});

test("numbers are checked, and --quick gives way to what is given", () => {
  assert.equal(options(["--quick"]).rounds, 1);
  assert.equal(options(["--quick", "--rounds", "4"]).rounds, 4);
  assert.deepEqual(options(["--only", "a,b", "--only", "c"]).only, ["a", "b", "c"]);
  assert.deepEqual(options(["--lack", "npm=no network: a=b"]).lack, { npm: "no network: a=b" });
  assert.throws(() => options(["--rounds", "none"]), /--rounds is `none`/);
  assert.throws(() => options(["--depths", "1,x"]), /--depths has `x`/);
});

test("an unknown row names the known ones", () => {
  const all = rows({ model: "m", fireside: "f" });
  assert.equal(choose(all, []).length, all.length);
  assert.deepEqual(choose(all, ["fireside-gpu"]).map((row) => row.name), ["fireside-gpu"]);
  assert.throws(() => choose(all, ["fireside"]), /no row fireside: there are fireside-cpu/);
});

const series = (cpu, wall = cpu) => ({
  tokens: 4,
  rounds: 1,
  cpu_ms: cpu === null ? null : { median: cpu, min: cpu - 1, max: cpu + 1 },
  wall_ms: { median: wall, min: wall, max: wall },
});

const base = { engine: "an engine", left_out: [], greedy: { agreement: { same: 8, of: 8 } } };
const report = {
  when: "2026-01-02T03:04:05Z",
  seconds: 60,
  model: { file: "a.gguf", bytes: 1, sha256: "00" },
  machine: { cpu: "a <cpu>", cores: 2, system: "Linux", node: "v20", load_before: [1, 1, 1], load_after: [2, 2, 2] },
  settings: { rounds: 1 },
  rows: [
    {
      ...base, name: "fireside-gpu", label: "Fireside", where: "adapter", ours: true,
      adapter: { name: "llvmpipe", backend: "vulkan", software: true, driver: "Mesa" },
      decode: { ...series(90), counters: { dispatches: 185, submits: 1, bytes_read: 32, bytes_uploaded: 324, pipelines_late: 0 } },
      prefill: series(30),
      depths: [{ depth: 100, ...series(95) }, { depth: 1000, ...series(120) }],
      concurrency: [{ sequences: 1, ...series(90) }, { sequences: 4, ...series(45) }],
      left_out: ["depth 4000: filling the context would take about 200 s"],
    },
    { name: "peer", label: "A peer", where: "browser", ours: false, skip: "no shader-f16" },
  ],
};

test("the table has every row, the reasons of those that did not run, and what was left out", () => {
  const text = markdown(report);
  for (const part of ["90.0 (89.0 .. 91.0)", "8/8", "A peer: no shader-f16", "depth 4000: filling", "sha256 `00`", "Mesa", "185"]) {
    assert.ok(text.includes(part), `${part} in\n${text}`);
  }
  assert.ok(text.includes("|  11.1 |  22.2 |") || /11\.1 \| +22\.2/.test(text), text);
  assert.equal(grid(["a", "b"], [["x", 1]]), "| a   |   b |\n| --- | --: |\n| x   |   1 |");
});

test("the chart is one well-formed picture with the names in it, for light and dark", () => {
  const svg = chart(report);
  assert.ok(svg.startsWith("<svg ") && svg.endsWith("</svg>\n"));
  assert.ok(svg.includes("prefers-color-scheme: dark"));
  assert.ok(svg.includes("a &lt;cpu&gt;") && svg.includes("llvmpipe"));
  assert.ok(!svg.includes("NaN") && !svg.includes("undefined"), svg);
  assert.equal((svg.match(/<path d="M/g) ?? []).length >= 4, true);
  assert.equal(escape('<a "b">'), "&lt;a &quot;b&quot;&gt;");
});

test("the unit is the clock's on a GPU, and the processor's on a software adapter", () => {
  assert.equal(unit(report.rows).field, "cpu_ms");
  assert.equal(unit([{ adapter: { software: false } }]).field, "wall_ms");
});
