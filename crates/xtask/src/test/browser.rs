//! The browser step: the module's kernels, the npm package and the demo page run in Chromium on its
//! software adapter.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use fireside_shaders::{Flag, Kernel, catalogue};

use crate::cargo::child;
use crate::process::{describe, quiet};
use crate::setup::{self, Part};
use crate::{npm, wasm, web};

use super::counts::{Counts, failures};
use super::models::{self, DEFAULT, GEMMA, MINILM};
use super::{Outcome, Run};

/// Builds the bindings and runs the tests of `tests/browser`.
pub(super) fn run(run: &mut Run<'_>) -> Result<Outcome> {
    for part in [Part::Chromium, Part::Node] {
        if let Err(missing) = part.ensure(run.ui, run.project) {
            return Ok(Outcome::skipped(format!("{missing:#}")));
        }
    }
    let module = web::linked(run.project);
    if !module.is_file() {
        return Ok(Outcome::skipped(format!(
            "no {}: the wasm step makes it",
            module.display()
        )));
    }
    let log = run.project.log("browser");
    fs::write(&log, "")?;
    let made = web::finish(run.ui, run.project, &log).and_then(|folder| {
        npm::install(run.ui, run.project, "browser", "tests/browser", &log)?;
        npm::take_module(run.project, &folder)?;
        npm::build(run.ui, run.project, "browser", &log)?;
        Ok(folder)
    });
    let folder = match made {
        Ok(folder) => folder,
        Err(error) => return Ok(Outcome::failed(format!("{error:#}"), Some(log))),
    };
    let shaders = wasm::target_folder(run.project).join("shaders");
    write_shaders(&shaders)?;
    let tests = run.project.root.join("tests/browser");
    for (folder, file) in [("browser", "harness.test.mjs"), ("bench", "bench.test.mjs")] {
        let mut harness = child(run.project, "node");
        harness
            .current_dir(run.project.root.join("tests").join(folder))
            .args(["--test", "--test-reporter=dot", file]);
        let status = quiet(run.ui, "browser", &mut harness, &log, true)?;
        if !status.success() {
            let reason = format!("the own tests of tests/{folder}: {}", describe(status));
            return Ok(Outcome::failed(reason, Some(log)));
        }
    }
    let mut command = child(run.project, "node");
    command
        .current_dir(&tests)
        .arg("smoke.mjs")
        .arg(&folder)
        .arg("--chromium")
        .arg(setup::chromium()?)
        .arg("--linked")
        .arg(&module)
        .arg("--shaders")
        .arg(&shaders);
    let mut status = quiet(run.ui, "browser", &mut command, &log, true)?;
    let lacking = models::find(run);
    let mut dawn = child(run.project, "node");
    dawn.current_dir(&tests).arg("dawn.mjs").arg(&shaders);
    let mut others = vec![dawn, demo(run, &tests)?];
    if let Some(model) = run.models.get(&DEFAULT) {
        let mut engine = child(run.project, "node");
        engine
            .current_dir(&tests)
            .arg("engine.mjs")
            .arg(run.project.root.join(npm::PACKAGE).join("dist"))
            .arg(model)
            .arg("--chromium")
            .arg(setup::chromium()?);
        for (option, other) in [("--minilm", &MINILM), ("--gemma", &GEMMA)] {
            if let Some(path) = run.models.get(other) {
                engine.arg(option).arg(path);
            }
        }
        others.insert(0, engine);
    }
    let mut release = child(run.project, "node");
    release
        .current_dir(&tests)
        .arg("release.mjs")
        .arg(run.project.root.join(npm::PACKAGE))
        .args(run.models.get(&DEFAULT))
        .arg("--chromium")
        .arg(setup::chromium()?);
    others.push(release);
    for mut command in others {
        let own = quiet(run.ui, "browser", &mut command, &log, true)?;
        if status.success() {
            status = own;
        }
    }
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let mut counts = Counts::of_log(&text);
    if run.models.get(&DEFAULT).is_none() {
        counts.skipped += 1;
    }
    if status.success() && counts.failed == 0 && counts.passed > 0 {
        let adapter = text.lines().find_map(|line| line.strip_prefix("adapter: "));
        return Ok(Outcome::Passed {
            counts,
            note: [
                Some(counts.to_string()),
                adapter.map(str::to_owned),
                lacking,
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; "),
        });
    }
    counts.failed = counts.failed.max(1);
    let failed = failures(&text);
    Ok(Outcome::Failed {
        counts,
        reason: if failed.is_empty() {
            describe(status)
        } else {
            failed.join(", ")
        },
        log: Some(log),
    })
}

/// The test of the demo page; without a model it skips what needs one.
fn demo(run: &Run<'_>, tests: &Path) -> Result<Command> {
    let mut command = child(run.project, "node");
    command
        .current_dir(tests)
        .arg("demo.mjs")
        .arg(run.project.root.join(npm::PAGE).join("dist"))
        .arg("--chromium")
        .arg(setup::chromium()?)
        .arg("--shots")
        .arg(run.project.logs.join("shots"));
    if let Some(model) = run.models.get(&DEFAULT) {
        command.arg("--model").arg(model);
    }
    // The tests before have built it; the page is tried from its server too.
    let server = run.project.binary("fireside");
    if server.exists() {
        command.env("FIRESIDE_BIN", server);
    }
    Ok(command)
}

/// Writes every shader variant that a browser may be given, one file each.
fn write_shaders(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for kernel in Kernel::ALL {
        for (index, variant) in catalogue::variants(*kernel).iter().enumerate() {
            // wgpu has no subgroups in browsers, so no such variant is launched there.
            if !variant.has(Flag::Subgroups) {
                let file = folder.join(format!("{}-{index}.wgsl", kernel.name()));
                fs::write(file, variant.source()?)?;
            }
        }
    }
    Ok(())
}
