//! `cargo xtask demo`: from a fresh checkout to a streamed answer.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cargo::{child, command};
use crate::cli::DemoOptions;
use crate::process::{describe, quiet, tail};
use crate::project::Project;
use crate::setup::Part;
use crate::ui::{Stream, Ui, duration};

/// Sets up what is missing, builds, and asks the model.
pub(crate) fn run(project: &Project, options: &DemoOptions) -> Result<ExitCode> {
    let ui = Ui::new(Stream::Stderr);
    match Part::Vulkan.ensure(&ui, project) {
        Ok(found) => ui.step("vulkan", &format!("drivers: {found}")),
        Err(missing) => {
            ui.step("vulkan", &format!("{missing:#}"));
            ui.step("", "going on without it, on the cpu");
        }
    }
    build(&ui, project)?;
    ui.step("asking", &options.prompt);
    ui.line("");
    let status = child(project, project.binary("fireside"))
        .args(["generate", "--chat", &options.prompt])
        .args(&options.extra)
        .status()
        .context("the fireside command cannot be started")?;
    Ok(match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    })
}

fn build(ui: &Ui, project: &Project) -> Result<()> {
    let first = !project.binary("fireside").exists();
    let hint = if first {
        ", the first time takes about twenty minutes"
    } else {
        ""
    };
    ui.step(
        "building",
        &format!("in {}{hint}", project.target.display()),
    );
    let log = project.log("demo-build");
    let start = Instant::now();
    let status = quiet(ui, "building", &mut command(project), &log, false)?;
    if !status.success() {
        ui.line(&tail(&log));
        bail!(
            "the build failed ({}), see {}",
            describe(status),
            log.display()
        );
    }
    ui.step("built", &format!("in {}", duration(start.elapsed())));
    Ok(())
}
