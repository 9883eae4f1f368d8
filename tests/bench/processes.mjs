// Time of the processor that a process and all below it have used, where the system tells: on Linux.

import { readFileSync, readdirSync } from "node:fs";

// Ticks of a second in /proc, which is 100 on every architecture that Linux has today.
const TICKS = 100;

// Parent and time of a process from the text of its `stat`. The name may hold blanks and brackets.
export function parseStat(text) {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
}

// Milliseconds of all processes below `root`, without itself, or of those whose command line has a word; null where
// there is no /proc.
export function treeTicks(root, word = "") {
  const all = new Map();
  let names;
  try {
    names = readdirSync("/proc");
  } catch {
    return null;
  }
  for (const name of names) {
    if (!/^\d+$/.test(name)) continue;
    try {
      all.set(Number(name), parseStat(readFileSync(`/proc/${name}/stat`, "utf8")));
    } catch {
      // It has ended since.
    }
  }
  if (!all.has(root)) return null;
  const below = (id) => {
    for (let at = all.get(id)?.parent, steps = 0; at && steps < 64; at = all.get(at)?.parent, steps++) {
      if (at === root) return true;
    }
    return false;
  };
  let sum = 0;
  const named = (id) => {
    try {
      return !word || readFileSync(`/proc/${id}/cmdline`, "utf8").includes(word);
    } catch {
      return false;
    }
  };
  for (const [id, { ticks }] of all) if (below(id) && named(id)) sum += ticks;
  return (sum * 1000) / TICKS;
}
