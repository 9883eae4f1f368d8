// The adapter and the device: refused, wrong, lost, and a module that stops.

import assert from "node:assert/strict";

import { keepDevices, load, MODEL, onOtherPage, TINY, TOKENS, until } from "./page.mjs";

export const CHECKS = {};

CHECKS["a lost device is had again, and answers under way go on"] = async ({ page, prompts }) => {
  await page.evaluate(() => {
    window.devices = [];
    const own = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      if (window.refuse) throw new Error("no device for you");
      const device = await own.apply(this, args);
      window.devices.push(device);
      return device;
    };
  });
  // On the page's own thread, where the test can reach the device.
  const { message, info } = await load(page, MODEL, { worker: false });
  assert.ok(info, message);
  const { prompt_token_ids, generated_token_ids } = prompts.get("chat");
  const { text, whole, expected, devices } = await page.evaluate(
    async ([prompt, max_tokens, generated]) => {
      const body = { prompt, max_tokens, temperature: 0, ignore_eos: true };
      const create = window.engine.completions.create;
      const other = create(body);
      let text = "";
      let chunks = 0;
      for await (const chunk of await create({ ...body, stream: true })) {
        text += chunk.choices[0]?.text ?? "";
        if (++chunks === 3) window.devices.at(-1).destroy();
      }
      const whole = (await other).choices[0].text;
      const expected = await window.engine.detokenize(generated);
      return { text, whole, expected, devices: window.devices.length };
    },
    [prompt_token_ids, TOKENS, generated_token_ids.slice(0, TOKENS)],
  );
  assert.equal(text, expected);
  assert.equal(whole, expected);
  assert.equal(devices, 2);
};

CHECKS["a device that cannot be had again is a device_lost"] = async ({ page }) => {
  const { code, message } = await page.evaluate(async () => {
    window.refuse = true;
    window.devices.at(-1).destroy();
    try {
      await window.engine.completions.create({ prompt: "A", max_tokens: 2 });
      return { message: "it answered" };
    } catch ({ code, message }) {
      return { code, message };
    } finally {
      window.refuse = false;
    }
  });
  assert.equal(code, "device_lost", message);
  assert.match(message, /reload the page/);
  await page.evaluate(() => window.engine.unload());
};

CHECKS["shaders are compiled while the model is on its way, once each"] = async (all) => {
  const count = () => {
    window.early = 0;
    window.devices = 0;
    const compile = GPUDevice.prototype.createComputePipelineAsync;
    GPUDevice.prototype.createComputePipelineAsync = async function (...args) {
      const made = await compile.apply(this, args);
      window.early++;
      return made;
    };
    const open = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      window.devices++;
      return open.apply(this, args);
    };
  };
  const { server } = all;
  await onOtherPage(all, count, async (page) => {
    server.faults[MODEL] = { holdAt: 50_000_000 };
    const loaded = load(page, MODEL, { worker: false, cache: false });
    await server.held(MODEL);
    const early = () => page.evaluate(() => window.early);
    await until("shaders are compiled", async () => (await early()) > 10);
    server.release(MODEL);
    const { info, message } = await loaded;
    assert.ok(info, message);
    // Those of the model, and none again for the device's test, the warm-up and steps that are recorded.
    const { pipelines } = await page.evaluate(() => window.engine.counters());
    assert.equal(pipelines, await early());
    assert.equal(await page.evaluate(() => window.devices), 1);
    await page.evaluate(() => window.engine.unload());
  });
  // A device that is lost meanwhile is had again.
  await onOtherPage(all, keepDevices, async (page) => {
    server.faults[MODEL] = { holdAt: 50_000_000 };
    const loaded = load(page, MODEL, { worker: false, cache: false });
    await server.held(MODEL);
    await until("a device is open", () => page.evaluate(() => window.devices.length > 0));
    await page.evaluate(() => window.devices[0].destroy());
    server.release(MODEL);
    const { info, message } = await loaded;
    assert.ok(info, message);
    await page.evaluate(() => window.engine.unload());
  });
  // A load that is aborted gives back what it opened.
  await onOtherPage(all, keepDevices, async (page) => {
    server.faults[MODEL] = { holdAt: 50_000_000 };
    const loading = load(page, MODEL, { worker: false, cache: false, abortAt: 45_000_000 });
    assert.equal((await loading).code, "aborted");
    const lost = await page.evaluate(() => Promise.all(window.devices.map(async (device) => (await device.lost).reason)));
    assert.deepEqual(lost, ["destroyed"]);
  });
  delete server.faults[MODEL];
};

CHECKS["without WebGPU or without an adapter there is a no_adapter"] = async (all) => {
  const nothing = () => Object.defineProperty(Navigator.prototype, "gpu", { value: undefined });
  const none = () => (GPU.prototype.requestAdapter = async () => null);
  for (const [override, says] of [
    [nothing, /no WebGPU/],
    [none, /hardware acceleration/],
  ]) {
    await onOtherPage(all, override, async (page) => {
      const { code, message } = await load(page, TINY, { worker: false });
      assert.equal(code, "no_adapter", message);
      assert.match(message, says);
      const report = await page.evaluate(async () => {
        const { adapterReport } = await import("/package/index.js");
        return adapterReport().then(() => "a report", (error) => error.code);
      });
      assert.equal(report, "no_adapter");
    });
  }
};

CHECKS["an adapter that computes wrong is an adapter_wrong, and is let go"] = async (all) => {
  // What a driver with a fault gives back: a bit of each value is another.
  const override = () => {
    const own = GPUBuffer.prototype.getMappedRange;
    GPUBuffer.prototype.getMappedRange = function (...args) {
      const range = own.apply(this, args);
      if (this.usage & GPUBufferUsage.MAP_READ) {
        const words = new Uint32Array(range);
        words.forEach((word, at) => (words[at] = word ^ 0x800000));
      }
      return range;
    };
  };
  await onOtherPage(all, keepDevices, async (page) => {
    await page.evaluate(override);
    const { code, message } = await load(page, TINY, { worker: false });
    assert.equal(code, "adapter_wrong", message);
    assert.match(message, /update its driver/);
    const reasons = await page.evaluate(() => Promise.all(window.devices.map((device) => device.lost.then(({ reason }) => reason))));
    assert.deepEqual(reasons, ["destroyed"]);
  });
};

CHECKS["the adapter option is what the browser is asked for, by report and engine"] = async (all) => {
  const override = () => {
    window.asked = [];
    const own = GPU.prototype.requestAdapter;
    GPU.prototype.requestAdapter = function (options) {
      window.asked.push(options?.powerPreference);
      return own.call(this, options);
    };
  };
  await onOtherPage(all, override, async (page) => {
    for (const adapter of ["low-power", "high-performance"]) {
      const { info, message } = await load(page, TINY, { worker: false, adapter });
      assert.ok(info, message);
      const asked = await page.evaluate(async (adapter) => {
        const { adapterReport } = await import("/package/index.js");
        await adapterReport({ adapter });
        await window.engine.unload();
        return window.asked.splice(0);
      }, adapter);
      // The page before the download and for the name, the module for its device, the report.
      assert.deepEqual(asked, Array(4).fill(adapter));
    }
    const { code, param, message } = await load(page, TINY, { worker: false, adapter: "fastest" });
    assert.equal(code, "bad_option", message);
    assert.equal(param, "adapter");
  });
};

CHECKS["an adapter below the base limits is an adapter_refused"] = async (all) => {
  // Below WebGPU's base limits.
  const override = () => {
    const own = GPU.prototype.requestAdapter;
    GPU.prototype.requestAdapter = async function (...args) {
      const adapter = await own.apply(this, args);
      const limits = { maxStorageBufferBindingSize: 2 ** 20, maxBufferSize: 2 ** 20 };
      const told = new Proxy(adapter.limits, { get: (all, name) => limits[name] ?? Reflect.get(all, name, all) });
      Object.defineProperty(adapter, "limits", { value: told });
      return adapter;
    };
  };
  await onOtherPage(all, override, async (page) => {
    const { code, message } = await load(page, TINY, { worker: false });
    assert.equal(code, "adapter_refused", message);
  });
};

CHECKS["a module that traps is a server_error from then on, not a puzzle"] = async (all) => {
  await onOtherPage(all, () => {}, async (page) => {
    const { info, message } = await load(page, TINY, { worker: false });
    assert.ok(info, message);
    const errors = await page.evaluate(async () => {
      const { WebEngine } = await import("/package/wasm/fireside_web.js");
      WebEngine.prototype.step = async () => {
        throw new WebAssembly.RuntimeError("unreachable");
      };
      const ask = () => window.engine.completions.create({ prompt: "Once", max_tokens: 2 });
      const told = ({ reason }) => ({ code: reason?.code, message: reason?.message });
      const [first] = await Promise.allSettled([ask()]);
      const [second] = await Promise.allSettled([ask()]);
      return [told(first), told(second)];
    });
    for (const { code, message } of errors) {
      assert.equal(code, "server_error");
      assert.match(message, /unreachable.*reload the page/);
    }
  });
};
