//! The clients step: SDKs that people use, and requests that no one should send, against the server.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo::{child, command};
use crate::process::{describe, quiet};
use crate::setup::Part;
use crate::{npm, python};

use super::counts::{Counts, failures, ignored};
use super::models;
use super::steps::skip_reasons;
use super::{Outcome, Run};

/// The Python side; the packages of the Node side lie in a folder of it.
const FOLDER: &str = "tests/clients";
const NODE_FOLDER: &str = "tests/clients/node";
/// Checks with Python environments of their own: their names, folders and scripts.
const BESIDE: &[(&str, &str, &str)] = &[
    ("scale-out", "tests/clients/scale_out", "run.py"),
    ("deploy", "examples/deploy", CHECK),
];
/// A script that needs no server.
const CHECK: &str = "check.py";

/// Builds the command, runs `tests/clients/run.py` and a pair of replicas behind a router with the default
/// model, and checks the files of `examples/deploy`.
pub(super) fn run(run: &mut Run<'_>) -> Result<Outcome> {
    if let Err(missing) = Part::Python.ensure(run.ui, run.project) {
        return Ok(Outcome::skipped(format!("{missing:#}")));
    }
    let node = Part::Node.ensure(run.ui, run.project);
    let lacking = models::find(run);
    let Some(model) = run.models.get(&models::DEFAULT).cloned() else {
        let reason = lacking.unwrap_or_else(|| "without the default model".to_owned());
        return Ok(Outcome::skipped(reason));
    };
    let log = run.project.log("clients");
    fs::write(&log, "")?;
    let python = python::environment(run.ui, run.project, "clients", FOLDER, &log);
    let made = python.and_then(|python| {
        if node.is_ok() {
            npm::install(run.ui, run.project, "clients", NODE_FOLDER, &log)?;
        }
        let status = quiet(run.ui, "clients", &mut command(run.project), &log, true)?;
        if !status.success() {
            bail!("fireside does not build ({})", describe(status));
        }
        Ok(python)
    });
    let python = match made {
        Ok(python) => python,
        Err(error) => return Ok(Outcome::failed(format!("{error:#}"), Some(log))),
    };
    let script = |python: &Path, path: &str| {
        let mut script = child(run.project, python);
        // Nothing is written beside the sources.
        script.args(["-B", "-X", "utf8"]);
        script.arg(run.project.root.join(path));
        script
    };
    let served = |mut script: Command| {
        script.arg(run.project.binary("fireside")).arg(&model);
        script
    };
    let mut checks = served(script(&python, "tests/clients/run.py"));
    match node {
        Ok(_) => checks.args(["--node", "node"]),
        Err(missing) => checks.args(["--without-node", &format!("{missing:#}")]),
    };
    if let Some(folder) = run.models.get(&models::MINILM) {
        checks.arg("--embedding-model").arg(folder);
    }
    let mut status = quiet(run.ui, "clients", &mut checks, &log, true)?;
    for (name, folder, file) in BESIDE {
        let own = match python::environment(run.ui, run.project, name, folder, &log) {
            Ok(own) => own,
            Err(error) => return Ok(Outcome::failed(format!("{error:#}"), Some(log))),
        };
        let own = script(&own, &format!("{folder}/{file}"));
        let mut own = if *file == CHECK { own } else { served(own) };
        let ended = quiet(run.ui, "clients", &mut own, &log, true)?;
        if status.success() {
            status = ended;
        }
    }
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let mut counts = Counts::of_log(&text);
    let mut remarks = vec![counts.to_string()];
    if status.success() && counts.failed == 0 && counts.passed > 0 {
        remarks.extend(skip_reasons(&ignored(&text)));
        return Ok(Outcome::Passed {
            counts,
            note: remarks.join("; "),
        });
    }
    counts.failed = counts.failed.max(1);
    let failed = failures(&text);
    remarks.push(if failed.is_empty() {
        describe(status)
    } else {
        failed.join(", ")
    });
    remarks.extend(skip_reasons(&ignored(&text)));
    Ok(Outcome::Failed {
        counts,
        reason: remarks.join("; "),
        log: Some(log),
    })
}
