// Numbers from samples.

// The middle value, the mean of both middle ones for an even count, with least and most; null without any.
export function spread(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (!sorted.length) return null;
  const half = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1) };
}

// Samples of {tokens, wall_ms, cpu_ms, counters} as times of a token, and counts of a step.
export function summarize(samples) {
  if (!samples.length) return null;
  const per = (field) => spread(samples.map((s) => (typeof s[field] === "number" ? s[field] / s.tokens : NaN)));
  const { counters } = samples.at(-1);
  const step = (name) => (counters.steps && typeof counters[name] === "number" ? counters[name] / counters.steps : null);
  return {
    tokens: samples[0].tokens,
    rounds: samples.length,
    cpu_ms: per("cpu_ms"),
    wall_ms: per("wall_ms"),
    ...(counters && {
      counters: {
        dispatches: step("dispatches"),
        submits: step("submits"),
        bytes_read: step("bytes_read"),
        bytes_uploaded: step("bytes_uploaded"),
        host_ms: step("host_ms"),
        pipelines_late: samples.reduce((sum, s) => sum + (s.counters?.pipelines_late ?? 0), 0),
      },
    }),
  };
}

// So many tokens that a measurement takes about `seconds`, if one takes `ms`: a power of two, at most `most`.
export function sized(ms, seconds, most) {
  let count = 1;
  while (count * 2 <= most && count * 2 * ms <= seconds * 1000) count *= 2;
  return most * ms <= seconds * 1000 ? most : count;
}
