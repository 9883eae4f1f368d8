// The npm package as a stranger gets it: packed, installed into an empty Vite project, type-checked,
// built, opened in Chromium; the lines at the top of its README answer.
//
//   node release.mjs WEB [MODEL.gguf] [--chromium PATH]
//
// Without a model all but the answer is checked. WEB is the package's folder, already built. What vite and typescript it uses is its demo page's.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs, promisify } from "node:util";
import { gzipSync } from "node:zlib";

import { withPage } from "./chromium.mjs";
import { serveFiles } from "./files.mjs";
import { conclude, exitWith } from "./report.mjs";

/** Bytes of module and glue, compressed, at most: what wllama's take. */
const PAYLOAD = 2.4e6;
const KNOWN = "SmolLM2-135M-Instruct";
const TSCONFIG = {
  compilerOptions: {
    target: "esnext",
    module: "esnext",
    moduleResolution: "bundler",
    lib: ["esnext", "dom", "dom.asynciterable"],
    strict: true,
    noEmit: true,
  },
};

async function run(folder, program, ...args) {
  try {
    return (await promisify(execFile)(program, args, { cwd: folder })).stdout;
  } catch (error) {
    throw new Error(`${program} ${args.join(" ")}: ${error.stdout ?? ""}${error.stderr ?? error.message}`);
  }
}

// The lines that the README promises, with the model from here.
async function lines(web) {
  const readme = await readFile(path.join(web, "README.md"), "utf8");
  const code = /```js\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(code?.includes(`"${KNOWN}"`), "the README begins with lines that load a known model");
  return code.replace(`"${KNOWN}"`, '"/model.gguf"');
}

async function project(web, folder) {
  const { devDependencies } = JSON.parse(await readFile(path.join(web, "demo/package.json"), "utf8"));
  const [tarball] = JSON.parse(await run(web, "npm", "pack", "--json", "--pack-destination", folder));
  const app = path.join(folder, "app");
  await mkdir(app);
  const own = { name: "stranger", private: true, type: "module", devDependencies };
  await writeFile(path.join(app, "package.json"), JSON.stringify(own));
  await writeFile(path.join(app, "tsconfig.json"), JSON.stringify({ ...TSCONFIG, include: ["main.ts"] }));
  await writeFile(
    path.join(app, "index.html"),
    '<!doctype html><html lang="en"><head><title>stranger</title><link rel="icon" href="data:," /></head><body><script type="module" src="/main.ts"></script></body></html>',
  );
  await writeFile(path.join(app, "main.ts"), `${await lines(web)}document.body.dataset.done = "yes";\n`);
  await run(app, "npm", "install", "--no-audit", "--no-fund", "--prefer-offline", path.join(folder, tarball.filename));
  return { app, tarball };
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { chromium: { type: "string", default: "/usr/bin/chromium" } },
  });
  if (positionals.length < 1 || positionals.length > 2) {
    throw new Error("usage: node release.mjs WEB [MODEL.gguf] [--chromium PATH]");
  }
  const [web, model] = positionals.map((name) => path.resolve(name));
  const folder = await mkdtemp(path.join(os.tmpdir(), "fireside-release-"));
  const checks = [];
  let said = [];
  const check = async (name, body) => {
    try {
      checks.push({ name, why: null, remark: (await body()) ?? undefined });
      return true;
    } catch (error) {
      checks.push({ name, why: error.message.split("\n").slice(0, 12).join(" ") });
      return false;
    }
  };
  try {
    await check("the module and its glue are small", async () => {
      const wasm = path.join(web, "dist/wasm");
      const names = (await readdir(wasm)).filter((name) => /\.(wasm|js)$/.test(name));
      let bytes = 0;
      for (const name of names) bytes += gzipSync(await readFile(path.join(wasm, name)), { level: 9 }).length;
      const says = `${(bytes / 1e6).toFixed(2)} MB gzipped, limit ${PAYLOAD / 1e6}`;
      assert.ok(bytes <= PAYLOAD, says);
      return says;
    });
    let made;
    const ready =
      (await check("the tarball holds what the package names, and installs", async () => {
        made = await project(web, folder);
        const files = made.tarball.files.map((file) => file.path);
        for (const name of ["README.md", "dist/index.js", "dist/index.d.ts", "dist/worker.js", "dist/wasm/fireside_web_bg.wasm"]) {
          assert.ok(files.includes(name), `${name} is missing`);
        }
        assert.deepEqual(files.filter((name) => /^(src|node_modules|demo)\//.test(name)), []);
        return `${files.length} files, ${(made.tarball.size / 1e6).toFixed(2)} MB`;
      })) &&
      (await check("its types check in a strict project", async () => {
        await run(made.app, "npx", "tsc", "--project", ".");
      })) &&
      (await check("vite builds it", async () => {
        await run(made.app, "npx", "vite", "build");
      }));
    if (ready && model) {
      await check("the README's lines answer in Chromium", async () => {
        const dist = path.join(made.app, "dist");
        const server = await serveFiles({
          "/": path.join(dist, "index.html"),
          "/assets/": path.join(dist, "assets"),
          "/model.gguf": model,
        });
        try {
          return await withPage(values.chromium, async (browser) => {
            said = browser.said;
            await browser.page.goto(`${server.origin}/`);
            await browser.page.locator("body[data-done]").waitFor({ timeout: 10 * 60 * 1000 });
            const text = await browser.page.evaluate(() => document.body.innerText.trim());
            assert.match(text, /Paris/);
            return text;
          });
        } finally {
          await server.close();
        }
      });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return conclude(checks, said);
}

exitWith(main);
