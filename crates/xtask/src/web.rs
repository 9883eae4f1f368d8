//! The browser module: built for wasm32, given its JavaScript side, and made small.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, child};
use crate::cli::WebOptions;
use crate::npm;
use crate::process::{describe, quiet, tail};
use crate::project::Project;
use crate::setup::Part;
use crate::ui::{Stream, Ui};
use crate::wasm::{self, Toolchain};

/// The crate that is the module; kernels, model and engine are built below it.
const CRATE: &str = "fireside-web";
/// Its profile.
const PROFILE: &str = "web";
/// The file of the module beside its glue.
const MODULE: &str = "fireside_web_bg.wasm";

/// The module as the linker leaves it.
pub(crate) fn linked(project: &Project) -> PathBuf {
    wasm::module(project, CRATE, PROFILE)
}

/// `cargo xtask web`.
pub(crate) fn command(project: &Project, options: &WebOptions) -> Result<ExitCode> {
    let ui = Ui::new(Stream::Stderr);
    let log = project.log("web");
    let made = make(&ui, project, &log).and_then(|folder| {
        let out = project.root.join(&options.out);
        npm::copy(&folder, &out)?;
        npm::build_package(&ui, project, "package", &log)?;
        ui.step("done", &project.display(&out).to_string());
        Ok(())
    });
    if let Err(error) = made {
        ui.line(&tail(&log));
        return Err(error.context(format!("the full log is {}", log.display())));
    }
    Ok(ExitCode::SUCCESS)
}

/// All of it, from the sources: the folder of the finished module.
pub(crate) fn make(ui: &Ui, project: &Project, log: &Path) -> Result<PathBuf> {
    ui.step("compiler", &Part::Wasm.ensure(ui, project)?);
    let toolchain = wasm::detect(project)?;
    ui.step("building", "the browser module");
    fs::write(log, "").with_context(|| format!("{} cannot be written", log.display()))?;
    build(ui, project, &toolchain, log)?;
    finish(ui, project, log)
}

/// Links the module. Constructors are left out by a linker of our own: see `xtask-link`.
pub(crate) fn build(ui: &Ui, project: &Project, toolchain: &Toolchain, log: &Path) -> Result<()> {
    let mut linker = cargo(project);
    linker.args(["build", "--package", "xtask", "--bin", "xtask-link"]);
    run(ui, "wasm", &mut linker, log)?;
    let mut command = toolchain.cargo(project, "rustc");
    command
        .args([
            "--lib",
            "--profile",
            PROFILE,
            "--package",
            CRATE,
            "--",
            "-C",
        ])
        .arg(format!("linker={}", project.binary("xtask-link").display()))
        .env("FIRESIDE_LINKER", toolchain.linker(project)?);
    run(ui, "wasm", &mut command, log)
}

/// Gives the linked module its glue and makes it small. What was made of the same module before is
/// taken again: making it small takes minutes.
pub(crate) fn finish(ui: &Ui, project: &Project, log: &Path) -> Result<PathBuf> {
    let linked = linked(project);
    let folder = wasm::target_folder(project).join("module");
    let seen = wasm::target_folder(project).join("module-of.txt");
    let recipe = recipe(project, &linked)?;
    if folder.join(MODULE).is_file() && fs::read_to_string(&seen).is_ok_and(|own| own == recipe) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let mut build = cargo(project);
    build.args([
        "build",
        "--package",
        "xtask",
        "--features",
        "bindings",
        "--bin",
        "xtask-web",
    ]);
    run(ui, "bindings", &mut build, log)?;
    let fresh = wasm::target_folder(project).join("module-unfinished");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    let mut generate = child(project, project.binary("xtask-web"));
    run(ui, "bindings", generate.arg(&linked).arg(&fresh), log)?;
    npm::install(ui, project, "wasm-opt", npm::PACKAGE, log)?;
    let module = fresh.join(MODULE);
    let mut optimize = child(project, project.root.join(npm::PACKAGE).join(WASM_OPT));
    optimize
        .args(FEATURES)
        .arg("-Oz")
        .arg(&module)
        .arg("-o")
        .arg(&module);
    run(ui, "wasm-opt", &mut optimize, log)?;
    fs::rename(&fresh, &folder)?;
    fs::write(&seen, recipe)?;
    Ok(folder)
}

/// What the finished module depends on, as a digest: the linked one, what gives it its glue, and what
/// makes it small.
fn recipe(project: &Project, linked: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    include_bytes!("bin/xtask-web.rs").hash(&mut hasher);
    FEATURES.hash(&mut hasher);
    let lock = project.root.join(npm::PACKAGE).join("package-lock.json");
    for path in [linked, &project.root.join("Cargo.lock"), &lock] {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        bytes.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// npm's binaryen, in the package's folder.
const WASM_OPT: &str = "node_modules/.bin/wasm-opt";
/// What browsers with WebGPU understand, one by one: the compiler emits no more than these.
const FEATURES: [&str; 8] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-simd",
];

fn run(ui: &Ui, name: &str, command: &mut Command, log: &Path) -> Result<()> {
    let status = quiet(ui, name, command, log, true)?;
    if !status.success() {
        bail!("{name}: {}", describe(status));
    }
    Ok(())
}
