// A page's own worker that makes an engine on its thread, from an address relative to itself.
import { CreateEngine } from "/package/index.js";

try {
  const engine = await CreateEngine("../tiny/whole.gguf", { worker: false, cache: false });
  const body = { prompt: "The quick brown fox", max_tokens: 12, temperature: 0, ignore_eos: true };
  const { choices } = await engine.completions.create(body);
  await engine.unload();
  postMessage(choices[0].text);
} catch (error) {
  postMessage(`${error.code}: ${error.message}`);
}
