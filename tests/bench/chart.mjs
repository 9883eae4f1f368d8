// The report as an SVG: a token's cost by adapter, by length of the context, and the throughput of several
// sequences. Plain shapes and text, in colours that read on light and dark pages.

const WIDTH = 860;
const MARGIN = 24;
const BAR = 20;
const OURS = "#e8590c";
const PEERS = ["#1c7ed6", "#2f9e44", "#9c36b5", "#0c8599", "#868e96", "#c2255c", "#5c940d"];

export const escape = (text) =>
  String(text).replace(/[<>&"]/g, (c) => ({ "<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;" })[c]);

const short = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

function text(x, y, words, { size = 13, weight = 400, anchor = "start", kind = "ink" } = {}) {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" font-weight="${weight}" text-anchor="${anchor}" class="${kind}">${escape(words)}</text>`;
}

// On a GPU the processor's time says little: there it is the clock's.
export function unit(rows) {
  const hardware = rows.some((row) => row.adapter && !row.adapter.software);
  return hardware ? { field: "wall_ms", name: "ms" } : { field: "cpu_ms", name: "CPU-ms" };
}

const value = (series, field) => series?.[field]?.median ?? null;

// A colour for each engine, the same in all three parts.
function palette(rows) {
  const colours = new Map();
  let peer = 0;
  for (const row of rows) colours.set(row.name, row.ours ? OURS : PEERS[peer++ % PEERS.length]);
  return colours;
}

function bars(rows, top, parts, colours) {
  const groups = [
    ["CPU", "on the CPU"],
    ["adapter", "on the Vulkan adapter"],
    ["browser", "in the browser, on its WebGPU adapter"],
  ];
  let y = top;
  parts.push(text(MARGIN, y, "Decode: a token's cost, less is better", { size: 16, weight: 600 }));
  y += 10;
  for (const [where, title] of groups) {
    const own = rows.filter((row) => row.where === where && row.decode);
    if (!own.length) continue;
    const { field, name } = unit(own);
    const shown = own.filter((row) => value(row.decode, field) !== null);
    const most = Math.max(...shown.map((row) => value(row.decode, field)));
    const adapter = where === "CPU" ? "" : `: ${own[0].adapter.name}${own[0].adapter.software ? ", a software adapter" : ""}`;
    y += 22;
    parts.push(text(MARGIN, y, `${title}${adapter}, ${name} per token`, { kind: "faint" }));
    y += 8;
    for (const row of shown) {
      const cost = value(row.decode, field);
      const length = Math.max(2, (cost / most) * 480);
      parts.push(text(MARGIN, y + 15, row.label, { weight: row.ours ? 600 : 400 }));
      parts.push(`<rect x="260" y="${y + 3}" width="${length.toFixed(1)}" height="${BAR - 5}" rx="2" fill="${colours.get(row.name)}"/>`);
      parts.push(text(260 + length + 6, y + 15, short(cost)));
      y += BAR + 2;
    }
  }
  return y + 30;
}

// Lines over a logarithmic axis on both sides.
function lines(title, field, key, rows, left, top, parts, colours, of) {
  const [width, height] = [300, 200];
  const series = rows
    .map((row) => [row, row[field].map((point) => [point[key], of(point, row)]).filter(([, v]) => Number.isFinite(v) && v > 0)])
    .filter(([, points]) => points.length);
  if (!series.length) return top;
  const all = series.flatMap(([, points]) => points);
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [x0, x1] = range(all.map(([x]) => Math.max(x, 1)));
  const [y0, y1] = range(all.map(([, y]) => y));
  const along = (v, low, high) => (high > low ? Math.log(v / low) / Math.log(high / low) : 0.5);
  const px = (x) => left + 46 + along(Math.max(x, 1), x0, x1) * (width - 20);
  const py = (y) => top + 24 + height - along(y, y0, y1) * (height - 16);
  parts.push(text(left, top, title, { size: 16, weight: 600 }));
  parts.push(text(left, top + 14, "logarithmic on both sides", { size: 11, kind: "faint" }));
  parts.push(`<path d="M${left + 36} ${top + 20}V${top + 30 + height}H${left + width + 40}" class="axis"/>`);
  for (const x of new Set(all.map(([x]) => x))) {
    parts.push(text(px(x), top + 48 + height, x, { size: 11, anchor: "middle", kind: "faint" }));
  }
  for (const y of [y0, Math.sqrt(y0 * y1), y1]) {
    parts.push(text(left + 32, py(y) + 4, short(y), { size: 11, anchor: "end", kind: "faint" }));
  }
  let legend = top + 72 + height;
  for (const [row, points] of series) {
    const colour = colours.get(row.name);
    // Ours have one colour, so that their places differ in the line.
    const dashes = { CPU: "5 3", browser: "1.5 3" };
    const dash = row.ours && dashes[row.where] ? ` stroke-dasharray="${dashes[row.where]}"` : "";
    const path = points.map(([x, y], at) => `${at ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    parts.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`);
    for (const [x, y] of points) parts.push(`<circle cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="3" fill="${colour}"/>`);
    parts.push(`<path d="M${left} ${legend - 4}h24" stroke="${colour}" stroke-width="2"${dash}/>`);
    parts.push(text(left + 32, legend, row.label, { size: 12 }));
    legend += 18;
  }
  return legend;
}

export function chart(report) {
  const rows = report.rows.filter((row) => !row.skip);
  const colours = palette(rows);
  const parts = [];
  const top = bars(rows, MARGIN + 16, parts, colours);
  const { field, name } = unit(rows.filter((row) => row.where === "adapter"));
  const bottom = [
    lines(`${name} per token by context`, "depths", "depth", rows, MARGIN, top, parts, colours, (p) => value(p, field)),
    lines(
      field === "cpu_ms" ? "Tokens per CPU-second by sequences" : "Tokens per second by sequences",
      "concurrency",
      "sequences",
      rows,
      MARGIN + 430,
      top,
      parts,
      colours,
      (p) => 1000 / value(p, field),
    ),
  ];
  const height = Math.max(top, ...bottom) + 30;
  const { model, machine } = report;
  parts.push(
    text(MARGIN, height - 12, `${model.file}; ${machine.cpu}, ${machine.cores} cores, load ${machine.load_before[0]} to ${machine.load_after[0]}; ${report.when.slice(0, 10)}`, { size: 11, kind: "faint" }),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height.toFixed(0)}" width="${WIDTH}" height="${height.toFixed(0)}" font-family="system-ui, sans-serif" role="img" aria-label="Speed of Fireside and its peers">
<style>
.ink { fill: #212529 } .faint { fill: #5c636a } .axis { stroke: #868e96; fill: none } .page { fill: #ffffff }
@media (prefers-color-scheme: dark) { .ink { fill: #e9ecef } .faint { fill: #adb5bd } .page { fill: #16181b } }
</style>
<rect width="100%" height="100%" class="page"/>
${parts.join("\n")}
</svg>
`;
}
