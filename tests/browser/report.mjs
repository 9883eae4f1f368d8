// Judges what a module's `smoke()` returned, and prints it as Rust's test harness prints tests.

// Host time of one launch in microseconds, at most. Modules whose constructors run at every call
// need thousands.
export const LAUNCH_US = 100;

// One entry per check: its name, why it failed (null where it holds), and a remark.
export function judge(report) {
  if (report === null || typeof report !== "object" || !Array.isArray(report.results)) {
    return [{ name: "smoke", why: "smoke() returned no list of results" }];
  }
  const checks = report.results.map((result) => {
    const error = Number(result.max_error);
    const remark = `max error ${result.max_error}, tolerance ${result.tolerance}`;
    const holds = result.ok === true && !Number.isNaN(error);
    return { name: String(result.name), why: holds ? null : remark, remark };
  });
  if (checks.length === 0) {
    checks.push({ name: "smoke", why: "smoke() ran no kernel" });
  }
  const launch = Number(report.launch_us);
  const fast = report.launch_us !== null && launch >= 0 && launch < LAUNCH_US;
  const remark = `${report.launch_us} us a launch, limit ${LAUNCH_US}`;
  checks.push({ name: "launch_time", why: fast ? null : remark, remark });
  return checks;
}

// Whether a linked module runs its constructors again at every call into it. The linker then puts
// a wrapper around each export, and names it so.
export function wrappers(bytes) {
  const found = Buffer.from(bytes).includes("command_export");
  return {
    name: "no_command_export_wrappers",
    why: found
      ? "exports are wrapped: link with --export=__wasm_call_ctors and call it once"
      : null,
  };
}

// One check for all shader variants: a browser's compiler is stricter than naga, about the
// uniformity of control flow for one.
export function compiled(rejected, count) {
  return {
    name: "every_shader_variant_compiles",
    why: rejected.length === 0 ? null : `${rejected.length} of ${count}: ${rejected[0]}`,
    remark: `${count} variants`,
  };
}

// A check that cannot run here, with the reason.
export function skipped(name, reason) {
  return { name, why: null, skip: reason };
}

// The lines for a list of checks, and whether all hold.
export function format(checks) {
  const failed = checks.filter((check) => check.why !== null);
  const skips = checks.filter((check) => check.skip);
  const lines = [`running ${checks.length} tests`];
  for (const check of checks) {
    const verdict = check.skip ? `ignored, ${check.skip}` : check.why === null ? "ok" : "FAILED";
    lines.push(`test ${check.name} ... ${verdict}`);
    const remark = check.why ?? check.remark;
    if (remark) {
      lines.push(`    ${remark}`);
    }
  }
  const verdict = failed.length === 0 ? "ok" : "FAILED";
  const passed = checks.length - failed.length - skips.length;
  lines.push(
    `test result: ${verdict}. ${passed} passed; ${failed.length} failed; ${skips.length} ignored; 0 measured; 0 filtered out`,
  );
  return { text: lines.join("\n"), ok: failed.length === 0 };
}

// Prints checks, with what the page said where one failed, and gives the exit code.
export function conclude(checks, said) {
  const { text, ok } = format(checks);
  console.log(text);
  if (!ok && said.length > 0) {
    console.log(["the page's console:", ...said].join("\n"));
  }
  return ok ? 0 : 1;
}

// Runs a script whose exit code is what it gives; 2 where it throws.
export function exitWith(main) {
  main().then(
    (code) => {
      process.exitCode = code;
    },
    (error) => {
      console.error(`error: ${error.message}`);
      process.exitCode = 2;
    },
  );
}
