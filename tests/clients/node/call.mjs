// Calls one check of a script: node call.mjs SCRIPT CHECK URL. What it throws is the failure.

const [script, check, url] = process.argv.slice(2);
const { [check]: call } = await import(`./${script}`);
if (typeof call !== "function") {
  throw new Error(`${script} has no check ${check}`);
}
await call(url);
