// Compiles every shader variant with Dawn in Node, on the software adapter that comes with Chromium:
// Tint, the compiler of Chrome and Edge, without a browser around it.
//
//   node dawn.mjs SHADERS [--icd FILE]
//
// SHADERS is a folder of WGSL files; FILE describes the Vulkan driver to use.

import { readFile, readdir, stat } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";

import { compiled, conclude, exitWith } from "./report.mjs";

// Where Debian's Chromium keeps its software adapter.
const ICD = "/usr/lib/chromium/vk_swiftshader_icd.json";

// What makes Dawn refuse a shader. Pipelines are the browser's to make: compiling hundreds of them on
// the CPU takes many minutes.
async function refusal(device, code) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  const error = await device.popErrorScope();
  const wrong = messages.find((message) => message.type === "error");
  return wrong ? `line ${wrong.lineNum}: ${wrong.message}` : error?.message;
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { icd: { type: "string", default: ICD } },
  });
  if (positionals.length !== 1) throw new Error("usage: node dawn.mjs SHADERS [--icd FILE]");
  const [folder] = positionals;
  const names = (await readdir(folder)).filter((name) => name.endsWith(".wgsl")).sort();
  if (names.length === 0) throw new Error(`${folder} holds no .wgsl file`);
  const found = await stat(values.icd).catch(() => undefined);
  if (!found) return conclude([{ name: "dawn_adapter", why: `no ${values.icd}: install chromium, or name a driver with --icd` }], []);
  // The loader reads it when the first instance is made.
  process.env.VK_ICD_FILENAMES = values.icd;
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  const gpu = create(["backend=vulkan"]);
  const adapter = await gpu.requestAdapter();
  if (!adapter) return conclude([{ name: "dawn_adapter", why: `Dawn finds no adapter through ${values.icd}` }], []);
  const device = await adapter.requestDevice();
  const rejected = [];
  for (const name of names) {
    const why = await refusal(device, await readFile(path.join(folder, name), "utf8"));
    if (why) rejected.push(`${name}: ${why}`);
  }
  device.destroy();
  const check = compiled(rejected, names.length);
  return conclude([{ ...check, name: "every_shader_variant_compiles_in_dawn" }], []);
}

exitWith(main);
