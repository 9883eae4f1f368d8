/** What the browser says of its adapter. */
import { FiresideError } from "./errors.js";

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

/** The adapter that an engine would open. */
export async function openAdapter(): Promise<GPUAdapter> {
  if (!("gpu" in navigator) || !navigator.gpu) {
    throw new FiresideError(
      "no_adapter",
      "this browser has no WebGPU: use a current Chrome, Edge, Safari or Firefox, over https or on localhost",
    );
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
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
 * What the adapter is that an engine would open. Loads nothing.
 *
 * Throws a {@link FiresideError} with the code `no_adapter` where there is none.
 */
export async function adapterReport(): Promise<AdapterReport> {
  const { info, features, limits } = await openAdapter();
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
