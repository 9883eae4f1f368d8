/** What the GPU is, what it can do, and what that means here. */
import { adapterReport, type AdapterReport, type EngineInfo } from "fireside-llm";

import { h, rows } from "../dom.js";
import { bytes, sentence } from "../format.js";
import { asError, type Session } from "../session.js";

type Mark = "good" | "note" | "bad";

/** What a person should know of an adapter, with what to do. */
export function findings(report: AdapterReport): { mark: Mark; what: string; meaning: string }[] {
  const { software, features, limits } = report;
  const has = (name: string) => features.includes(name);
  const binding = limits["maxStorageBufferBindingSize"] ?? 0;
  return [
    software
      ? {
          mark: "note",
          what: "Software adapter",
          meaning: "The browser plays a GPU on the CPU, so answers are slow. Switch hardware acceleration on in the browser's settings, and update the driver of the GPU.",
        }
      : { mark: "good", what: "Hardware GPU", meaning: "The browser has given this page the GPU." },
    has("shader-f16")
      ? { mark: "good", what: "shader-f16", meaning: "The adapter has 16-bit floats in shaders. Fireside does not need them." }
      : {
          mark: "note",
          what: "No shader-f16",
          meaning: "Not needed: Fireside computes with 32-bit floats.",
        },
    has("subgroups")
      ? { mark: "good", what: "Subgroups", meaning: "The adapter has them. In browsers Fireside uses workgroup memory instead." }
      : { mark: "note", what: "No subgroups", meaning: "Not needed: in browsers Fireside uses workgroup memory instead." },
    binding >= 128 * 1024 * 1024
      ? { mark: "good", what: "Large buffers", meaning: `One matrix may have ${bytes(binding)} in a piece; larger ones are split.` }
      : { mark: "bad", what: "Small buffers", meaning: `One binding has ${bytes(binding)}, below WebGPU's own minimum of 134 MB. Try another browser.` },
  ];
}

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupStorageSize",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupsPerDimension",
];

const limitText = (name: string, value: number) =>
  /Size$/.test(name) && !name.includes("WorkgroupSize") ? bytes(value) : value.toLocaleString("en");

function loaded(info: EngineInfo): HTMLElement[] {
  return [
    h("h3", {}, "Model on it"),
    rows([
      ["Model", info.model],
      ["Family", info.architecture],
      ["Context", `${info.contextSize.toLocaleString("en")} of ${info.context.toLocaleString("en")} tokens`],
      ["Weights", bytes(info.weightBytes)],
      ["KV cache", bytes(info.cacheBytes)],
    ]),
  ];
}

export function gpuTab(session: Session) {
  return (place: HTMLElement): void => {
    place.append(h("p", { class: "help" }, "Asking the browser…"));
    const fill = async () => {
      let report: AdapterReport;
      try {
        report = await adapterReport();
      } catch (thrown) {
        const error = asError(thrown);
        place.replaceChildren(
          h("h3", {}, "No GPU to run on"),
          h("p", {}, sentence(error.message)),
          h("p", { class: "help" }, isSecureContext ? "Chrome tells more under chrome://gpu." : "This page is not in a secure context: open it over https or on localhost."),
        );
        return;
      }
      const { vendor, architecture, device, description, software, features, limits } = report;
      const name = [description || device || architecture, vendor].filter(Boolean).join(", ") || "not named by the browser";
      const found = findings(report).map(({ mark, what, meaning }) =>
        h("li", { class: "finding", "data-mark": mark }, h("strong", {}, what), h("span", {}, meaning)),
      );
      place.replaceChildren(
        h("h3", {}, "Adapter"),
        rows([
          ["Name", name],
          ["Vendor", vendor || "not told"],
          ["Architecture", architecture || "not told"],
          ["Kind", software ? "software (fallback)" : "hardware"],
        ]),
        h("h3", {}, "What that means"),
        h("ul", { class: "findings" }, ...found),
        ...(session.info ? loaded(session.info) : []),
        h("h3", {}, "Limits"),
        rows(LIMITS.flatMap((limit) => (limits[limit] === undefined ? [] : [[limit, limitText(limit, limits[limit])]]))),
        h("h3", {}, `Features (${features.length})`),
        h("ul", { class: "tags" }, ...features.map((feature) => h("li", {}, feature))),
      );
    };
    void fill();
  };
}
