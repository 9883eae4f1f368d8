// Times in a page: the wall's here, the processor's from outside, where all of the browser's processes are seen.

export async function mark() {
  const cpu = await window.cpuNow();
  return { wall: performance.now(), cpu };
}

export function between(before, after) {
  return {
    wall_ms: after.wall - before.wall,
    cpu_ms: before.cpu.all === null ? null : after.cpu.all - before.cpu.all,
    page_ms: before.cpu.page === null ? null : after.cpu.page - before.cpu.page,
  };
}

// What the browser says of its WebGPU adapter; null without one.
export async function adapter() {
  const found = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!found) return null;
  const { vendor, architecture, description, device, isFallbackAdapter } = found.info;
  const name = [description || device, vendor, architecture].filter(Boolean).join(" ");
  return {
    name,
    backend: "webgpu",
    software: Boolean(isFallbackAdapter) || /swiftshader|llvmpipe/i.test(name),
    f16: found.features.has("shader-f16"),
    subgroups: found.features.has("subgroups"),
  };
}
