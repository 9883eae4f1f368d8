// The report as Markdown.

const number = (value) => {
  if (!Number.isFinite(value)) return "-";
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
};

const times = (spread) => {
  if (!spread) return "-";
  const { median, min, max } = spread;
  return min === max ? number(median) : `${number(median)} (${number(min)} .. ${number(max)})`;
};

const rate = (series) => (series?.wall_ms ? number(1000 / series.wall_ms.median) : "-");

// A table with its columns as wide as they need be, so that it reads in a terminal as well.
export function grid(head, lines, left = 1) {
  const cells = [head, ...lines].map((line) => line.map(String));
  const width = head.map((_, at) => Math.max(3, ...cells.map((line) => [...line[at]].length)));
  const row = (line) =>
    `| ${line.map((cell, at) => (at < left ? cell.padEnd(width[at]) : cell.padStart(width[at]))).join(" | ")} |`;
  const rule = `| ${width.map((w, at) => (at < left ? "-".repeat(w) : `${"-".repeat(w - 1)}:`)).join(" | ")} |`;
  return [row(cells[0]), rule, ...cells.slice(1).map(row)].join("\n");
}

// What an engine ran on, in words.
export function place(row) {
  const { name, backend, software } = row.adapter;
  const threads = row.threads ? `, ${row.threads} thread${row.threads > 1 ? "s" : ""}` : "";
  if (name.startsWith("cpu")) return `${name}${threads}`;
  return `${name} (${backend}${software ? ", software" : ""})`;
}

function agreed({ agreement }) {
  const { same, of, characters } = agreement;
  return `${same}/${of}${characters ? " chars" : ""}`;
}

function wide(rows, field, key, unit, value) {
  const columns = [...new Set(rows.flatMap((row) => row[field].map((series) => series[key])))].sort((a, b) => a - b);
  const lines = rows
    .filter((row) => row[field].length)
    .map((row) => [row.label, ...columns.map((column) => value(row[field].find((series) => series[key] === column)))]);
  return lines.length ? `${unit}\n\n${grid(["engine", ...columns], lines)}` : "";
}

export function markdown(report) {
  const { model, machine, settings } = report;
  const ran = report.rows.filter((row) => !row.skip);
  const parts = [
    [
      `${model.file}, sha256 \`${model.sha256}\`.`,
      `${machine.cpu}, ${machine.cores} cores, ${machine.system}, node ${machine.node}.`,
      `Load average ${machine.load_before.join(" ")} before, ${machine.load_after.join(" ")} after; ${report.when}, ${(report.seconds / 60).toFixed(1)} minutes.`,
    ].join("\n"),
    `Times are medians (least .. most) of up to ${settings.rounds} interleaved rounds. CPU-ms is the time of the
processor, user and system, of the processes that do the work, per token: it bears a busy machine, tokens per
second do not. Decode is from an empty context (in a browser from one token), prefill is one prompt; both take in choosing
the next token, and in a browser through Fireside and wllama the text too, so that they are close to llama-bench's tg and pp
and not the same. The last column compares the greedy tokens of one prompt with the expected ones.`,
    grid(
      ["engine", "on", "decode CPU-ms/token", "tok/s", "prefill CPU-ms/token", "tok/s", "tokens", "greedy"],
      ran.map((row) => [
        row.label,
        place(row),
        times(row.decode?.cpu_ms),
        rate(row.decode),
        times(row.prefill?.cpu_ms),
        rate(row.prefill),
        `${row.decode?.tokens ?? "-"} x${row.decode?.rounds ?? 0}, ${row.prefill?.tokens ?? "-"} x${row.prefill?.rounds ?? 0}`,
        agreed(row.greedy),
      ]),
      2,
    ),
    wide(ran, "depths", "depth", "Decode by tokens in the context, CPU-ms per token:", (series) => times(series?.cpu_ms)),
    wide(
      ran,
      "concurrency",
      "sequences",
      "Decode of several sequences at once, tokens per CPU-second of all together:",
      (series) => (series?.cpu_ms ? number(1000 / series.cpu_ms.median) : "-"),
    ),
    counters(ran),
    drivers(ran),
  ];
  const skipped = report.rows.filter((row) => row.skip).map((row) => `- ${row.label}: ${row.skip}`);
  if (skipped.length) parts.push(`Not run:\n\n${skipped.join("\n")}`);
  const left = ran.flatMap((row) => row.left_out.map((why) => `- ${row.label}: ${why}`));
  if (left.length) parts.push(`Left out:\n\n${left.join("\n")}`);
  return `${parts.filter(Boolean).join("\n\n")}\n`;
}

// What a decode step of ours costs the adapter's queue.
function counters(ran) {
  const rows = ran.filter((row) => row.decode?.counters && row.where !== "CPU");
  if (!rows.length) return "";
  const names = [["dispatches", "dispatches"], ["submits", "submits"], ["bytes_read", "bytes read"], ["bytes_uploaded", "bytes uploaded"], ["host_ms", "host ms"]];
  const lines = rows.map(({ label, decode }) => [
    label,
    ...names.map(([name]) => number(decode.counters[name])),
    decode.counters.pipelines_late,
  ]);
  return `Counters of a decode step, and shaders that were compiled late. Host ms is what laying out and submitting a step takes, and in
a browser the time of the processor of the page's process, which is all of the host's work:\n\n${grid(["engine", ...names.map(([, name]) => name), "late"], lines)}`;
}

function drivers(ran) {
  const lines = ran.filter((row) => row.adapter.driver && row.where !== "CPU").map((row) => `${row.label}: ${row.adapter.driver}`);
  const engines = [...new Set(ran.map((row) => row.engine))];
  return [`Engines: ${engines.join("; ")}.`, lines.length ? `Drivers: ${lines.join("; ")}.` : ""].filter(Boolean).join("\n");
}
