// Runs a module's smoke test in Chromium on its software adapter.
//
//   node smoke.mjs FOLDER [--chromium PATH] [--linked MODULE.wasm] [--shaders FOLDER]
//
// FOLDER holds the glue of a module (target `web`) with an async export `smoke()` that returns
// {adapter, results: [{name, ok, max_error, tolerance}], launch_us}, as JSON or as an object.
// --linked names the module as the linker left it, whose names tell of export wrappers; --shaders a
// folder of WGSL files that the browser must compile.

import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { withPage } from "./chromium.mjs";
import { serveFiles } from "./files.mjs";
import { LAUNCH_US, compiled, conclude, exitWith, judge, wrappers } from "./report.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));

// A software adapter compiles every shader on the CPU, on a machine that may be busy.
const TIMEOUT = 10 * 60 * 1000;


// The ES module of the folder: the script that has a `_bg.wasm` beside it.
async function glueOf(folder) {
  const names = await readdir(folder);
  const glue = names.find(
    (name) => name.endsWith(".js") && names.includes(`${name.slice(0, -3)}_bg.wasm`),
  );
  if (!glue) {
    throw new Error(`${folder} holds no module: NAME.js and NAME_bg.wasm`);
  }
  return glue;
}

async function withTimeout(promise, said) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`no result after ${TIMEOUT / 1000} s\n${said.join("\n")}`)),
      TIMEOUT,
    );
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function shaderFiles(folder) {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".wgsl"));
  const read = async (name) => ({ name, code: await readFile(path.join(folder, name), "utf8") });
  return Promise.all(names.sort().map(read));
}

async function runInBrowser(folder, executablePath, shaders) {
  const glue = await glueOf(folder);
  const server = await serveFiles({
    "/": path.join(here, "page.html"),
    "/page.js": path.join(here, "page.js"),
    "/module/": folder,
  });
  try {
    return await withPage(executablePath, async ({ context, page, said }) => {
      try {
        await page.goto(`${server.origin}/?module=${encodeURIComponent(`/module/${glue}`)}`);
        const crashed = new Promise((_, reject) => {
          page.once("crash", () => reject(new Error("the page crashed")));
        });
        const run = () => {
          const result = page.evaluate(() => window.runSmoke());
          return withTimeout(Promise.race([result, crashed]), said);
        };
        const report = await run();
        // Others may have had the processor during the launches, so the least of three runs counts.
        for (let again = 0; again < 2 && report.launch_us >= LAUNCH_US; again++) {
          report.launch_us = Math.min(report.launch_us, (await run()).launch_us);
        }
        const heard = [...said];
        // In its own page: what the smoke test did to its device must not matter here.
        const other = await context.newPage();
        await other.goto(`${server.origin}/`);
        const rejected = await other.evaluate((list) => window.compileShaders(list), shaders);
        return { report, rejected, said: heard };
      } catch (error) {
        throw new Error([error.message, ...said].join("\n"), { cause: error });
      }
    });
  } finally {
    await server.close();
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      chromium: { type: "string", default: "/usr/bin/chromium" },
      linked: { type: "string" },
      shaders: { type: "string" },
    },
  });
  if (positionals.length !== 1) {
    throw new Error("usage: node smoke.mjs FOLDER [--chromium PATH] [--linked MODULE.wasm]");
  }
  const checks = [];
  let said = [];
  if (values.linked) {
    checks.push(wrappers(await readFile(values.linked)));
  }
  try {
    const shaders = values.shaders ? await shaderFiles(values.shaders) : [];
    const ran = await runInBrowser(positionals[0], values.chromium, shaders);
    const { report } = ran;
    said = ran.said;
    if (shaders.length > 0) {
      checks.push(compiled(ran.rejected, shaders.length));
    }
    console.log(`adapter: ${report?.adapter ?? "not named"}`);
    checks.push(...judge(report));
  } catch (error) {
    checks.push({ name: "smoke", why: error.message });
  }
  return conclude(checks, said);
}

exitWith(main);
