// What checks of the package share: the files that are served, and what is done in the page.

export const MODEL = "/model.gguf";
/** A tiny model with random weights, in three parts and in one: for what is not about answers. */
export const PARTS = [1, 2, 3].map((part) => `/tiny/tiny-0000${part}-of-00003.gguf`);
export const TINY = "/tiny/whole.gguf";
/** Tokens of an answer: a software adapter takes a good part of a second for one. */
export const TOKENS = 6;
/** Tokens that are compared with the native ones. */
export const COMPARED = 24;

/**
 * Loads in the page, with what comes of it: the error's code, or the engine under `window.engine`. It
 * is aborted as soon as `abortIn` a phase, or with `abortAt` bytes fetched.
 */
export function load(page, source, options = {}) {
  return page.evaluate(
    async ([source, options]) => {
      const { CreateEngine } = await import("/package/index.js");
      const phases = [];
      const times = {};
      const parts = [];
      const begin = performance.now();
      const { abortIn, abortAt = Infinity, ...given } = options;
      const initProgressCallback = ({ phase, part, loaded }) => {
        if (phases.at(-1) !== phase) phases.push(phase);
        times[phase] ??= (performance.now() - begin) / 1000;
        if (part && parts.at(-1) !== part.number) parts.push(part.number);
        if (abortIn === phase || loaded >= abortAt) controller.abort();
      };
      const controller = new AbortController();
      try {
        window.engine = await CreateEngine(source, {
          ...given,
          initProgressCallback,
          signal: controller.signal,
        });
        times.ready = (performance.now() - begin) / 1000;
        return { phases, times, parts, info: window.engine.info };
      } catch (error) {
        return { phases, code: error.code, message: error.message, param: error.param };
      }
    },
    [source, options],
  );
}

export const unload = (page) => page.evaluate(() => window.engine.unload());

/** Runs `check` on a page of its own, in which `override` has run first. */
export async function onOtherPage({ context, server }, override, check) {
  const other = await context.newPage();
  other.setDefaultTimeout(10 * 60 * 1000);
  await other.addInitScript(override);
  try {
    await other.goto(`${server.origin}/`);
    return await check(other);
  } finally {
    await other.close();
  }
}

/** For a page of its own: keeps every device that is made there. */
export function keepDevices() {
  window.devices = [];
  const own = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await own.apply(this, args);
    window.devices.push(device);
    return device;
  };
}

/** Asks again until the answer is yes, for two minutes at the most. */
export async function until(what, holds) {
  const end = performance.now() + 2 * 60 * 1000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`it never came to this: ${what}`);
    await new Promise((done) => setImmediate(done));
  }
}

/** A greedy answer, as tokens would have it the same everywhere. */
export function answer(page, max_tokens = 12) {
  return page.evaluate(async (max_tokens) => {
    const body = { prompt: "The quick brown fox", max_tokens, temperature: 0, ignore_eos: true };
    return (await window.engine.completions.create(body)).choices[0].text;
  }, max_tokens);
}

export const kept = (page) => page.evaluate(async () => (await import("/package/index.js")).listModels());

export const forgetAll = (page) => page.evaluate(async () => (await import("/package/index.js")).deleteModel());
