// Before the compiler runs (`clean`) nothing of an older build stays; afterwards the WASM module goes beside the
// compiled package (`cargo xtask web` has written it to src/wasm), and the licences beside the README.
import { cp, mkdir, rm } from "node:fs/promises";

if (process.argv[2] === "clean") {
  await rm("dist", { recursive: true, force: true });
} else {
  await mkdir("dist/wasm", { recursive: true });
  await cp("src/wasm", "dist/wasm", { recursive: true });
  for (const name of ["LICENSE-APACHE", "LICENSE-MIT"]) await cp(`../${name}`, name);
}
