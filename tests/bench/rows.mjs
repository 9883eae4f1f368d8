// What is measured: our engine and its peers, each with the process that answers for it.

import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const script = (name) => path.join(here, "peers", name);

// The most sequences and the longest contexts are asked of rows that say so; those in a browser have one
// sequence. `needs` are what a row is skipped without.
export function rows({ model, fireside, chromium, package: built, onnx, python }) {
  const node = (name, ...rest) => [process.execPath, script(name), ...rest];
  const llama = (label, device, threads, env = {}) => ({
    name: device === "cpu" ? `llama-cpu-${threads}` : "llama-vulkan",
    label,
    where: device === "cpu" ? "CPU" : "adapter",
    needs: ["npm"],
    command: node("llama.mjs", model, device, String(threads)),
    env,
    sequences: true,
  });
  const page = (name, label, page, needs, extra, where = "browser") => ({
    name,
    label,
    where,
    needs: ["chromium", "playwright", ...needs],
    command: node("browser.mjs", page, chromium ?? "", model, ...(extra ? [extra] : [])),
    sequences: false,
  });
  const own = (device) => [fireside, "bench", "--on-request", "--device", device, "--model", model];
  return [
    { name: "fireside-cpu", label: "Fireside, CPU", ours: true, where: "CPU", needs: ["fireside"], command: own("cpu"), sequences: true },
    llama("llama.cpp, CPU, 1 thread", "cpu", 1),
    llama("llama.cpp, CPU, 2 threads", "cpu", 2),
    page("wllama-cpu", "wllama, WASM, 1 thread", "wllama", ["npm"], null, "CPU"),
    { name: "transformers-cpu", label: "transformers, CPU, 1 thread", where: "CPU", needs: ["python"], command: [python ?? "", script("hugging_face.py"), model], sequences: true },
    { name: "fireside-gpu", label: "Fireside, Vulkan", ours: true, where: "adapter", needs: ["fireside"], command: own("gpu"), sequences: true },
    // llama.cpp passes over software adapters unless one is named by its number.
    llama("llama.cpp, Vulkan", "vulkan", 1, { GGML_VK_VISIBLE_DEVICES: process.env.GGML_VK_VISIBLE_DEVICES ?? "0" }),
    { ...page("fireside-browser", "Fireside, browser", "fireside", ["package"], built), ours: true },
    page("onnx-browser", "ONNX Runtime Web, WebGPU", "onnx", ["npm", "onnx"], onnx),
    page("wllama-webgpu", "wllama, WebGPU", "wllama-webgpu", ["npm"]),
  ];
}

// The rows of these names, or all.
export function choose(all, only) {
  const unknown = only.filter((name) => !all.some((row) => row.name === name));
  if (unknown.length) {
    throw new Error(`no row ${unknown.join(", ")}: there are ${all.map((row) => row.name).join(", ")}`);
  }
  return only.length ? all.filter((row) => only.includes(row.name)) : all;
}
