/** What the browser says of its adapter. */
import { FiresideError } from "./errors.js";
import type { AdapterPreference } from "./types.js";

/** An adapter: who made it, what it can do, how far. */
export interface AdapterReport {
  vendor: string;
  architecture: string;
  device: string;
  description: string;
  /** Whether it is a CPU that plays a GPU, as the browser says. */
  software: boolean;
  /** Names of WebGPU's optional features, in order. */
  features: string[];
  /** Limits by WebGPU's name. */
  limits: Record<string, number>;
}

const PREFERENCES: readonly AdapterPreference[] = ["high-performance", "low-power"];

/** The wish for an adapter: the one of an option, or the default. */
export function preferenceOf(adapter: AdapterPreference | undefined): AdapterPreference {
  if (adapter === undefined) return "high-performance";
  if (PREFERENCES.includes(adapter)) return adapter;
  const found = JSON.stringify(adapter);
  throw new FiresideError("bad_option", `adapter is ${found}; expected "high-performance" or "low-power"`, "adapter");
}

/** The adapter that an engine would open. */
export async function openAdapter(powerPreference: AdapterPreference): Promise<GPUAdapter> {
  if (!("gpu" in navigator) || !navigator.gpu) {
    throw new FiresideError(
      "no_adapter",
      "this browser has no WebGPU: use a current Chrome, Edge, Safari or Firefox, over https or on localhost",
    );
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference });
  if (!adapter) {
    throw new FiresideError(
      "no_adapter",
      "no GPU adapter: switch on hardware acceleration in the browser's settings and update the GPU's driver",
    );
  }
  return adapter;
}

/** An adapter's name in one line. */
export function adapterName({ info }: GPUAdapter): string {
  return [info.vendor, info.architecture, info.description].filter(Boolean).join(" ");
}

/**
 * What the adapter is that an engine with the same `adapter` option would open. Loads nothing.
 *
 * Throws a {@link FiresideError} with the code `no_adapter` where there is none.
 */
export async function adapterReport(options: { adapter?: AdapterPreference } = {}): Promise<AdapterReport> {
  const { info, features, limits } = await openAdapter(preferenceOf(options.adapter));
  const numbers: Record<string, number> = {};
  // The limits are getters of the prototype.
  for (const name in limits) {
    const value = (limits as unknown as Record<string, unknown>)[name];
    if (typeof value === "number") numbers[name] = value;
  }
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    device: info.device,
    description: info.description,
    software: info.isFallbackAdapter,
    features: [...features].map(String).sort(),
    limits: numbers,
  };
}
