// Loads the glue named in the address and leaves a way to run its smoke test.
const glue = new URLSearchParams(location.search).get("module");
window.runSmoke = async () => {
  const module = await import(glue);
  const wasm = new URL(glue.replace(/\.js$/, "_bg.wasm"), location.href);
  await module.default({ module_or_path: wasm });
  const info = (await navigator.gpu?.requestAdapter())?.info;
  const name = [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(" ");
  const report = await module.smoke(name);
  return typeof report === "string" ? JSON.parse(report) : report;
};
// The errors of the shaders that the browser refuses.
window.compileShaders = async (shaders) => {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice();
  const rejected = [];
  for (const { name, code } of shaders) {
    device.pushErrorScope("validation");
    const info = await device.createShaderModule({ code }).getCompilationInfo();
    await device.popErrorScope();
    const error = info.messages.find((message) => message.type === "error");
    if (error) {
      rejected.push(`${name}:${error.lineNum}: ${error.message}`);
    }
  }
  return rejected;
};
