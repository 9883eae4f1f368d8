// What a person does with the demo page, in the words of its tests.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

export const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

export function becomes(page, wanted) {
  return page.waitForFunction((name) => document.documentElement.dataset.status === name, wanted, { polling: 250 });
}

export async function openTab(page, tab) {
  if (!(await page.evaluate(() => document.getElementById("panel").open))) await page.click("#open-panel");
  await page.click(`#tab-${tab}`);
  await page.waitForFunction(() => document.querySelector(".tab h3") !== null);
}

export async function closePanel(page) {
  await page.evaluate(() => document.getElementById("panel").close());
}

export const answers = (page) => page.locator(".answer .prose").allInnerTexts();

/** What axe finds, as lines. */
async function violations(page) {
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")} ${node.failureSummary?.split("\n")[1] ?? ""}`));
}

/** Every look of the page: wide and narrow, light and dark. */
export async function inEveryLook(page, check) {
  for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      // Until the new colours are on the screen.
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      await check(`${size} ${colorScheme}`);
    }
  }
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: "light" });
}

export async function accessible(page, state) {
  // Playwright's evaluation is not bound by the page's policy; a script tag would be.
  await page.evaluate(await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
  await inEveryLook(page, async (look) => {
    assert.deepEqual(await violations(page), [], `${state}, ${look}`);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(over <= 0, `${state}, ${look}: ${over} pixels too wide`);
  });
}
