//! The steps of `cargo xtask test`, in their order.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::cargo::{SAME_FEATURES, cargo};
use crate::process::{describe, quiet};
use crate::setup::Part;
use crate::{tidy, wasm, web};

use super::counts::{Counts, failures};
use super::{Outcome, Run, browser, clients, models};

/// One thing that is checked.
#[derive(Debug)]
pub(super) struct Step {
    /// How it is called on the command line.
    pub(super) name: &'static str,
    /// What it checks.
    pub(super) about: &'static str,
    /// Checks it. An error is a failure without a log.
    pub(super) run: fn(&mut Run<'_>) -> Result<Outcome>,
}

/// All steps.
pub(super) const STEPS: &[Step] = &[
    Step {
        name: "setup",
        about: "drivers, browser, node, python and wasm compiler are there",
        run: setup,
    },
    Step {
        name: "fmt",
        about: "cargo fmt changes nothing",
        run: fmt,
    },
    Step {
        name: "tidy",
        about: "the rules on files hold",
        run: tidy_files,
    },
    Step {
        name: "clippy",
        about: "clippy has no warning",
        run: clippy,
    },
    Step {
        name: "doc",
        about: "the documentation builds without a warning",
        run: doc,
    },
    Step {
        name: "model",
        about: "the models are there, with the right digests",
        run: model,
    },
    Step {
        name: "test",
        about: "the tests of all crates",
        run: test,
    },
    Step {
        name: "clients",
        about: "client libraries get their answers from the server, faults theirs",
        run: clients::run,
    },
    Step {
        name: "wasm",
        about: "the library crates build for browsers",
        run: wasm_build,
    },
    Step {
        name: "browser",
        about: "kernels, npm package and demo page work in a browser",
        run: browser::run,
    },
];

fn setup(run: &mut Run<'_>) -> Result<Outcome> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for part in Part::ALL {
        match part.ensure(run.ui, run.project) {
            Ok(what) => found.push(format!("{}: {what}", part.name())),
            Err(error) => missing.push(format!("{}: {error:#}", part.name())),
        }
    }
    if missing.is_empty() {
        return Ok(Outcome::Passed {
            counts: Counts::default(),
            note: found.join("; "),
        });
    }
    // The steps that need the missing parts count themselves.
    Ok(Outcome::Skipped {
        counts: Counts::default(),
        reason: missing.join("; "),
    })
}

fn fmt(run: &mut Run<'_>) -> Result<Outcome> {
    let mut command = cargo(run.project);
    command.args(["fmt", "--all", "--check", "--message-format", "short"]);
    plain(run, "fmt", &mut command)
}

fn tidy_files(run: &mut Run<'_>) -> Result<Outcome> {
    let report = tidy::check(run.project)?;
    if report.findings.is_empty() {
        return Ok(Outcome::passed(format!("{} files", report.files)));
    }
    let log = run.project.log("tidy");
    fs::write(&log, report.findings.join("\n"))?;
    Ok(Outcome::failed(
        format!("{} findings", report.findings.len()),
        Some(log),
    ))
}

fn clippy(run: &mut Run<'_>) -> Result<Outcome> {
    let mut command = cargo(run.project);
    command.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    plain(run, "clippy", &mut command)
}

fn doc(run: &mut Run<'_>) -> Result<Outcome> {
    let mut command = cargo(run.project);
    command
        // Libraries only: the command `fireside` would be documented over the library.
        .args(["doc", "--no-deps", "--lib"])
        .args(SAME_FEATURES)
        .env("RUSTDOCFLAGS", "-D warnings");
    plain(run, "doc", &mut command)
}

fn model(run: &mut Run<'_>) -> Result<Outcome> {
    let lacking = models::get(run)?;
    let default = run.models.get(&models::DEFAULT);
    let mut notes: Vec<String> = default
        .map(|path| path.display().to_string())
        .into_iter()
        .collect();
    notes.extend(lacking);
    Ok(Outcome::Passed {
        counts: Counts::default(),
        note: notes.join("; "),
    })
}

fn test(run: &mut Run<'_>) -> Result<Outcome> {
    let mut remarks = Vec::new();
    remarks.extend(models::find(run));
    let log = run.project.log("test");
    let skips = run.project.logs.join("skips.txt");
    fs::write(&skips, "")?;
    let mut command = cargo(run.project);
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("FIRESIDE_SKIP_LOG", &skips);
    run.models.tell(&mut command);
    let status = quiet(run.ui, "test", &mut command, &log, false)?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let skipped = fs::read_to_string(&skips)?;
    let skipped = skips_of(&skipped);
    let mut counts = Counts::of_log(&text).with_skips(skipped.len() as u64);
    remarks.insert(0, counts.to_string());
    remarks.extend(skip_reasons(&skipped));
    if status.success() && counts.failed == 0 {
        return Ok(Outcome::Passed {
            counts,
            note: remarks.join("; "),
        });
    }
    let failed = failures(&text);
    if failed.is_empty() {
        remarks.insert(1, format!("cargo test: {}", describe(status)));
    } else {
        remarks.insert(1, failed.join(", "));
    }
    counts.failed = counts.failed.max(1);
    Ok(Outcome::Failed {
        counts,
        reason: remarks.join("; "),
        log: Some(log),
    })
}

/// The tests that could not run, or not in every variant, each once with its first reason. Lines
/// of the log are `test: reason`.
fn skips_of(log: &str) -> Vec<(&str, &str)> {
    let mut skips: Vec<(&str, &str)> = Vec::new();
    for line in log.lines().filter(|line| !line.trim().is_empty()) {
        let (test, reason) = line.split_once(": ").unwrap_or((line, "no reason given"));
        if !skips.iter().any(|(known, _)| *known == test) {
            skips.push((test, reason));
        }
    }
    skips
}

/// Each reason once, with the number of tests that gave it.
pub(super) fn skip_reasons(skips: &[(&str, &str)]) -> Vec<String> {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for (_, reason) in skips {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    reasons
        .into_iter()
        .map(|(reason, count)| format!("{count} skipped: {reason}"))
        .collect()
}

fn wasm_build(run: &mut Run<'_>) -> Result<Outcome> {
    let toolchain = match Part::Wasm.ensure(run.ui, run.project) {
        Ok(_) => wasm::detect(run.project)?,
        Err(missing) => return Ok(Outcome::skipped(format!("{missing:#}"))),
    };
    // A module of an earlier build would be tested after a failed one; cargo puts it back.
    let module = web::linked(run.project);
    if module.exists() {
        fs::remove_file(module)?;
    }
    let log = run.project.log("wasm");
    fs::write(&log, "")?;
    match web::build(run.ui, run.project, &toolchain, &log) {
        Ok(()) => Ok(Outcome::passed(toolchain.describe())),
        Err(error) => Ok(Outcome::failed(format!("{error:#}"), Some(log))),
    }
}

/// A step that is one command.
fn plain(run: &Run<'_>, name: &str, command: &mut Command) -> Result<Outcome> {
    let log = run.project.log(name);
    let status = quiet(run.ui, name, command, &log, false)?;
    Ok(if status.success() {
        Outcome::passed("")
    } else {
        Outcome::failed(describe(status), Some(log))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_skipped_once_and_reasons_are_grouped() {
        let log = "a::b: no adapter\na::b: no f16\n\nc: no adapter\nd: no f16\nodd\n";
        let skips = skips_of(log);
        assert_eq!(skips.len(), 4);
        assert_eq!(
            skip_reasons(&skips),
            [
                "2 skipped: no adapter",
                "1 skipped: no f16",
                "1 skipped: no reason given"
            ]
        );
    }
}
