// Runs a page in Chromium: headless, quiet, with WebGPU on its software adapter, in a profile that
// goes away with it.

import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-unsafe-swiftshader",
];

// Gives `run` a context, a page, and the list of what the page's console says.
export async function withPage(executablePath, run) {
  const profile = await mkdtemp(path.join(os.tmpdir(), "fireside-browser-"));
  let context;
  try {
    context = await chromium.launchPersistentContext(profile, {
      executablePath,
      headless: true,
      args: FLAGS,
    });
    const page = await context.newPage();
    const said = [];
    page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => said.push(`error: ${error.message}`));
    return await run({ context, page, said });
  } finally {
    await context?.close();
    await rm(profile, { recursive: true, force: true });
  }
}
