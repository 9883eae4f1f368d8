// Puts the WASM module beside the compiled package; `cargo xtask web` has written it to src/wasm.
import { cp, mkdir } from "node:fs/promises";

await mkdir("dist/wasm", { recursive: true });
await cp("src/wasm", "dist/wasm", { recursive: true });
