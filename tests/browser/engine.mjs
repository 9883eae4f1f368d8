// The npm package in Chromium on its software adapter: a real model, served with ranges under a
// strict content security policy.
//
//   node engine.mjs PACKAGE MODEL.gguf [--chromium PATH] [--minilm FOLDER] [--gemma FILE]
//       [--only GROUP] [--match TEXT]
//
// PACKAGE is the built package's folder (web/dist). Greedy tokens are those of the native runs:
// tests/fixtures/smollm2-greedy.json.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { withPage } from "./chromium.mjs";
import { CHECKS as answers } from "./engine/answers.mjs";
import { CHECKS as devices } from "./engine/devices.mjs";
import { CHECKS as downloads } from "./engine/downloads.mjs";
import { CHECKS as engines } from "./engine/engines.mjs";
import { CHECKS as models, GEMMA, MINILM } from "./engine/models.mjs";
import { MODEL } from "./engine/page.mjs";
import { serveFiles } from "./files.mjs";
import { conclude, exitWith } from "./report.mjs";

const GROUPS = { answers, devices, engines, downloads, models };

const here = path.dirname(fileURLToPath(import.meta.url));
async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      chromium: { type: "string", default: "/usr/bin/chromium" },
      minilm: { type: "string" },
      gemma: { type: "string" },
      only: { type: "string", multiple: true, default: Object.keys(GROUPS) },
      match: { type: "string", default: "" },
    },
  });
  if (positionals.length !== 2) {
    throw new Error("usage: node engine.mjs PACKAGE MODEL.gguf [--chromium PATH] [--only GROUP] [--match TEXT] …");
  }
  const [folder, model] = positionals;
  const fixture = await readFile(path.join(here, "../fixtures/smollm2-greedy.json"), "utf8");
  const { prompts: list } = JSON.parse(fixture);
  const prompts = new Map(list.map((prompt) => [prompt.name, prompt]));
  const digest = createHash("sha256").update(await readFile(model)).digest("hex");
  const all = values.only.flatMap((group) => Object.entries(GROUPS[group] ?? {}));
  const chosen = all.filter(([name]) => name.includes(values.match));
  if (chosen.length === 0) throw new Error(`no such check; the groups are ${Object.keys(GROUPS).join(", ")}`);
  const server = await serveFiles({
    "/package/": folder,
    [MODEL]: model,
    "/broken.gguf": path.join(here, "package.json"),
    "/tiny/": path.join(here, "../fixtures/tiny-gguf"),
    "/sharded/": path.join(here, "../fixtures/tiny-llama/sharded"),
    "/embeddings/": path.join(here, "../fixtures/embeddings"),
    "/tiny-llama/": path.join(here, "../fixtures/tiny-llama"),
    "/lora/": path.join(here, "../fixtures/lora"),
    "/rerankers/": path.join(here, "../fixtures/rerankers"),
    "/scripts/": path.join(here, "engine"),
    ...(values.minilm && { [MINILM]: values.minilm }),
    ...(values.gemma && { [GEMMA]: values.gemma }),
  });
  try {
    return await withPage(values.chromium, async ({ context, page, said }) => {
      page.setDefaultTimeout(10 * 60 * 1000);
      await page.goto(`${server.origin}/`);
      const checks = [];
      for (const [name, check] of chosen) {
        console.log(`check: ${name}`);
        try {
          const { minilm, gemma } = values;
          const skip = await check({ context, page, server, prompts, digest, minilm, gemma });
          checks.push({ name, why: null, skip });
        } catch (error) {
          checks.push({ name, why: error.message.split("\n").slice(0, 6).join(" ") });
        }
      }
      return conclude(checks, said);
    });
  } finally {
    await server.close();
  }
}

exitWith(main);
