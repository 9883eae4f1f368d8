// The side of a peer: a process that says what it has loaded in one line of JSON, then answers each line of
// standard input, one measurement, with a line. `fireside bench --on-request` speaks the same.
//
//   {"kind": "greedy", "prompt": [1, 2], "text": "…", "tokens": 8}   {"ids": […]}, or {"text": "…"}
//   {"kind": "prefill", "tokens": 128, "salt": 0}                     {"tokens", "wall_ms", "cpu_ms"}
//   {"kind": "decode", "tokens": 16, "depth": 0, "sequences": 1, "salt": 0}
//
// `salt` differs from measurement to measurement, for engines that would find the prompt in a cache. An
// answer may also be {"error": "…"}; instead of the first line there may be {"skip": "reason"}.

import { createInterface } from "node:readline";

// A peer that cannot run here.
export class Skip extends Error {}

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

// Loads with `open`, which gives `about` and the kinds of measurements as functions, and answers until the
// input ends.
export async function serve(open) {
  let peer;
  try {
    peer = await open();
  } catch (error) {
    say({ skip: oneLine(error) });
    process.exit(error instanceof Skip ? 0 : 1);
  }
  say(peer.about);
  for await (const line of createInterface({ input: process.stdin })) {
    const { kind, ...request } = JSON.parse(line);
    try {
      if (!Object.hasOwn(peer.kinds, kind)) throw new Error(`there is no ${kind} of this peer`);
      say(await peer.kinds[kind](request));
    } catch (error) {
      say({ error: oneLine(error) });
    }
  }
  await peer.close?.();
  process.exit(0);
}

export function oneLine(error) {
  const text = String(error?.message ?? error);
  return text.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, 3).join(" ");
}

// Milliseconds of the processor in this process.
export function ownCpu() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e3;
}

// Times `run` with a clock of the processor.
export async function timed(run, cpu = ownCpu) {
  const [cpuBefore, before] = [await cpu(), performance.now()];
  await run();
  const [wall_ms, cpuAfter] = [performance.now() - before, await cpu()];
  return { wall_ms, cpu_ms: cpuBefore === null ? null : cpuAfter - cpuBefore };
}
