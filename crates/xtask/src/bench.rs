//! `cargo xtask bench`: gets what Fireside and its peers need, and has `tests/bench` measure them in turns.
//! `cargo xtask synth`: writes a model for it.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::cargo::{child, command};
use crate::cli::{BenchOptions, SynthOptions};
use crate::models::resolve;
use crate::process::{describe, quiet};
use crate::project::Project;
use crate::setup::{self, Part};
use crate::ui::{Stream, Ui};
use crate::{npm, python};

/// The peers and what measures them.
const FOLDER: &str = "tests/bench";
/// Where Chromium's driver lies.
const BROWSER: &str = "tests/browser";
/// The npm package as it is built.
const PACKAGE: &str = "web/dist";
/// A python that has what one peer needs.
const PYTHON: &str = "FIRESIDE_BENCH_PYTHON";

/// What rows need, as `tests/bench/rows.mjs` calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Npm,
    Playwright,
    Chromium,
    Package,
    Onnx,
    Python,
}

impl Need {
    const ALL: [Self; 6] = [
        Self::Npm,
        Self::Playwright,
        Self::Chromium,
        Self::Package,
        Self::Onnx,
        Self::Python,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Playwright => "playwright",
            Self::Chromium => "chromium",
            Self::Package => "package",
            Self::Onnx => "onnx",
            Self::Python => "python",
        }
    }

    /// Whether one of these rows, or of all where none is named, may need it.
    fn of(self, rows: &[String]) -> bool {
        let browser = |row: &str| row.ends_with("browser") || row.starts_with("wllama");
        rows.is_empty()
            || rows
                .iter()
                .flat_map(|row| row.split(','))
                .any(|row| match self {
                    Self::Npm => !row.starts_with("fireside") && !row.starts_with("transformers"),
                    Self::Playwright | Self::Chromium => browser(row),
                    Self::Package => row == "fireside-browser",
                    Self::Onnx => row.starts_with("onnx"),
                    Self::Python => row.starts_with("transformers"),
                })
    }
}

/// Prepares and measures.
pub(crate) fn run(project: &Project, options: &BenchOptions) -> Result<ExitCode> {
    let ui = Ui::new(Stream::Stderr);
    Part::Node.ensure(&ui, project)?;
    let log = project.log("bench");
    fs::write(&log, "").with_context(|| format!("{} cannot be written", log.display()))?;
    let mut node = child(project, "node");
    node.arg(project.root.join(FOLDER).join("run.mjs"));
    for row in &options.only {
        node.args(["--only", row]);
    }
    if options.list {
        let status = node.arg("--list").status()?;
        return Ok(code(status.success()));
    }
    // Rows whose names mean nothing are told before anything is built.
    let names = child(project, "node")
        .arg(project.root.join(FOLDER).join("run.mjs"))
        .args(options.only.iter().flat_map(|row| ["--only", row]))
        .args(["--list"])
        .args(&options.handed_on)
        .output()
        .context("node cannot be started")?;
    if !names.status.success() {
        bail!("{}", String::from_utf8_lossy(&names.stderr).trim());
    }
    ui.step("building", "the command");
    let status = quiet(&ui, "build", &mut command(project), &log, true)?;
    if !status.success() {
        bail!(
            "fireside does not build ({}), see {}",
            describe(status),
            log.display()
        );
    }
    let model = resolve(&ui, project, "FIRESIDE_TEST_GGUF", "smollm2", &log)?;
    for need in Need::ALL {
        if !need.of(&options.only) {
            continue;
        }
        match prepare(&ui, project, need, &model, &log) {
            Ok(Some(path)) => node.arg(format!("--{}", need.name())).arg(path),
            Ok(None) => &mut node,
            Err(missing) => node
                .arg("--lack")
                .arg(format!("{}={missing:#}", need.name())),
        };
    }
    let out = match &options.out {
        Some(out) => project.root.join(out),
        None => project.target.join("bench"),
    };
    let status = node
        .arg("--model")
        .arg(&model)
        .arg("--fireside")
        .arg(project.binary("fireside"))
        .arg("--out")
        .arg(&out)
        .args(&options.handed_on)
        .status()
        .context("node cannot be started")?;
    Ok(code(status.success()))
}

fn code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Gets one thing, and gives its path where rows are told one. The error says what is missing.
fn prepare(
    ui: &Ui,
    project: &Project,
    need: Need,
    model: &Path,
    log: &Path,
) -> Result<Option<PathBuf>> {
    match need {
        Need::Npm => npm::install(ui, project, "peers", FOLDER, log).map(|()| None),
        Need::Playwright => npm::install(ui, project, "peers", BROWSER, log).map(|()| None),
        Need::Chromium => {
            Part::Chromium.ensure(ui, project)?;
            setup::chromium().map(Some)
        }
        Need::Package => {
            let package = project.root.join(PACKAGE);
            if !package.join("wasm/fireside_web_bg.wasm").is_file() {
                bail!("no {PACKAGE}: run `cargo xtask web`");
            }
            Ok(Some(package))
        }
        Need::Onnx => onnx(ui, project, model, log).map(Some),
        Need::Python => match env::var_os(PYTHON).filter(|value| !value.is_empty()) {
            Some(python) => Ok(Some(python.into())),
            None => bail!("set {PYTHON} to a python with torch, transformers and gguf"),
        },
    }
}

/// The model for ONNX Runtime, made of the GGUF's weights unless it has been before.
fn onnx(ui: &Ui, project: &Project, model: &Path, log: &Path) -> Result<PathBuf> {
    Part::Python.ensure(ui, project)?;
    let python = python::environment(ui, project, "bench", FOLDER, log)?;
    let script = project.root.join(FOLDER).join("onnx_model.py");
    let folder = project.target.join("bench-onnx");
    fs::create_dir_all(&folder)?;
    let seen = fs::metadata(model)?;
    let mut recipe = DefaultHasher::new();
    fs::read(&script)?.hash(&mut recipe);
    (model, seen.len(), seen.modified().ok()).hash(&mut recipe);
    let out = folder.join(format!("{:016x}.onnx", recipe.finish()));
    if out.is_file() {
        return Ok(out);
    }
    ui.step("peers", "writing the model for ONNX Runtime");
    let mut make = child(project, python);
    make.args(["-B", "-X", "utf8"])
        .arg(script)
        .arg(model)
        .arg(&out);
    let status = quiet(ui, "onnx", &mut make, log, true)?;
    if !status.success() {
        bail!(
            "the model for ONNX Runtime: {}, see {}",
            describe(status),
            log.display()
        );
    }
    Ok(out)
}

/// Writes a model of random weights.
pub(crate) fn synth(options: &SynthOptions) -> Result<ExitCode> {
    let bytes = options.model.write(Path::new(&options.out))?;
    Ui::new(Stream::Stdout).line(&format!("{}: {bytes} bytes", options.out));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(rows: &[&str]) -> Vec<Need> {
        let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
        Need::ALL.into_iter().filter(|n| n.of(&rows)).collect()
    }

    #[test]
    fn only_what_the_rows_need_is_got() {
        assert_eq!(needs(&["fireside-cpu,fireside-gpu"]), []);
        assert_eq!(needs(&["llama-vulkan", "fireside-gpu"]), [Need::Npm]);
        let browser = [Need::Playwright, Need::Chromium];
        assert_eq!(
            needs(&["fireside-browser"]),
            [browser[0], browser[1], Need::Package]
        );
        assert_eq!(
            needs(&["onnx-browser"]),
            [Need::Npm, browser[0], browser[1], Need::Onnx]
        );
        assert_eq!(needs(&[]), Need::ALL);
    }
}
