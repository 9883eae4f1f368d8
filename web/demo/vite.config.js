// Builds the page, and a service worker that knows every file of the build by its digest.
import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { defineConfig } from "vite";

const here = path.dirname(fileURLToPath(import.meta.url));
const packageFile = new URL("../package.json", import.meta.url);
const { version } = JSON.parse(await readFile(packageFile, "utf8"));

// Puts the list of files and a version made of their contents where the service worker expects
// them. A new build is a new version; an unchanged one is not.
function precache() {
  return {
    name: "fireside-precache",
    apply: "build",
    enforce: "post",
    async generateBundle(_, bundle) {
      const worker = bundle["sw.js"];
      const files = new Map();
      for (const [name, file] of Object.entries(bundle)) {
        if (name !== "sw.js" && !name.endsWith(".map")) files.set(name, file.code ?? file.source);
      }
      const fixed = path.join(here, "public");
      for (const name of await readdir(fixed)) {
        files.set(name, await readFile(path.join(fixed, name)));
      }
      const names = [...files.keys()].sort();
      const digest = createHash("sha256").update(worker.code);
      for (const name of names) digest.update(name).update(files.get(name));
      worker.code = worker.code
        .replaceAll("__PRECACHE__", JSON.stringify(names))
        .replaceAll("__VERSION__", JSON.stringify(digest.digest("hex").slice(0, 16)));
    },
  };
}

export default defineConfig({
  root: here,
  // Any folder of any host will do.
  base: "./",
  define: { __FIRESIDE_VERSION__: JSON.stringify(version) },
  worker: { format: "es" },
  build: {
    target: "es2022",
    // An image in a style sheet would be a data address.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { index: path.join(here, "index.html"), sw: path.join(here, "sw/sw.ts") },
      output: {
        entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  plugins: [precache()],
});
