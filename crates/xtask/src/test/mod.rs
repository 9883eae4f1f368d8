//! `cargo xtask test`: the steps of continuous integration, timed and summed up.

mod browser;
mod clients;
mod counts;
mod models;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cli::TestOptions;
use crate::process::tail;
use crate::project::Project;
use crate::ui::{Stream, Tone, Ui, duration};

use self::counts::Counts;
use self::steps::{STEPS, Step};

/// What the steps share.
#[derive(Debug)]
struct Run<'a> {
    project: &'a Project,
    ui: &'a Ui,
    /// The real models, once a step has found them.
    models: models::Models,
}

/// How a step ended.
#[derive(Debug)]
enum Outcome {
    /// It holds.
    Passed {
        /// The tests that it ran; itself where it has none.
        counts: Counts,
        /// What to say of it.
        note: String,
    },
    /// It does not hold.
    Failed {
        /// The tests that it ran.
        counts: Counts,
        /// Why.
        reason: String,
        /// Whose tail to show.
        log: Option<PathBuf>,
    },
    /// It could not run.
    Skipped {
        /// The checks that were left out by it.
        counts: Counts,
        /// Why, and the line to run.
        reason: String,
    },
}

impl Outcome {
    fn passed(note: impl Into<String>) -> Self {
        Self::Passed {
            counts: Counts::PASSED,
            note: note.into(),
        }
    }

    fn failed(reason: impl Into<String>, log: Option<PathBuf>) -> Self {
        Self::Failed {
            counts: Counts::FAILED,
            reason: reason.into(),
            log,
        }
    }

    fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped {
            counts: Counts::SKIPPED,
            reason: reason.into(),
        }
    }

    fn counts(&self) -> Counts {
        match self {
            Self::Passed { counts, .. }
            | Self::Failed { counts, .. }
            | Self::Skipped { counts, .. } => *counts,
        }
    }

    fn word(&self) -> (&'static str, Tone) {
        match self {
            Self::Passed { .. } => ("passed", Tone::Good),
            Self::Failed { .. } => ("failed", Tone::Bad),
            Self::Skipped { .. } => ("skipped", Tone::Warn),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Passed { note, .. } => note,
            Self::Failed { reason, .. } | Self::Skipped { reason, .. } => reason,
        }
    }
}

/// One line of the summary.
struct Row {
    name: &'static str,
    outcome: Outcome,
    time: Duration,
}

impl Row {
    fn line(&self, ui: &Ui) -> String {
        let (word, tone) = self.outcome.word();
        let line = format!(
            "  {:<9} {} {:>12}   {}",
            self.name,
            ui.paint(tone, &format!("{word:<7}")),
            duration(self.time),
            self.outcome.text()
        );
        line.trim_end().to_owned()
    }
}

/// Runs the chosen steps.
pub(crate) fn run(project: &Project, options: &TestOptions) -> Result<ExitCode> {
    let ui = Ui::new(Stream::Stdout);
    let steps = choose(options)?;
    if options.list {
        for step in steps {
            ui.step(step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    ui.line(&format!("build folder {}", project.target.display()));
    let mut run = Run {
        project,
        ui: &ui,
        models: models::Models::default(),
    };
    let mut rows = Vec::new();
    for step in steps {
        let start = Instant::now();
        let outcome = (step.run)(&mut run)
            .unwrap_or_else(|error| Outcome::failed(format!("{error:#}"), None));
        let row = Row {
            name: step.name,
            outcome,
            time: start.elapsed(),
        };
        ui.line(&row.line(&ui));
        if let Outcome::Failed { log: Some(log), .. } = &row.outcome {
            ui.line(&tail(log));
            ui.line(&format!("  the full log is {}", log.display()));
        }
        rows.push(row);
    }
    let (text, good) = summary(&ui, &rows);
    ui.line(&text);
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn choose(options: &TestOptions) -> Result<Vec<&'static Step>> {
    let names = || {
        STEPS
            .iter()
            .map(|step| step.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for name in options.only.iter().chain(&options.skip) {
        if !STEPS.iter().any(|step| step.name == name) {
            bail!("no step `{name}`: there are {}", names());
        }
    }
    Ok(STEPS
        .iter()
        .filter(|step| options.only.is_empty() || options.only.iter().any(|n| n == step.name))
        .filter(|step| !options.skip.iter().any(|name| name == step.name))
        .collect())
}

/// The table of all steps and the last line, and whether no step failed.
fn summary(ui: &Ui, rows: &[Row]) -> (String, bool) {
    let mut sum = Counts::default();
    let mut time = Duration::ZERO;
    let mut lines = vec![
        String::new(),
        ui.paint(
            Tone::Faint,
            "  step      result          time   tests, remarks",
        ),
    ];
    for row in rows {
        sum += row.outcome.counts();
        time += row.time;
        lines.push(row.line(ui));
    }
    lines.push(format!("  {:<17} {:>12}", "", duration(time)));
    lines.push(String::new());
    lines.push(sum.to_string());
    let good = !rows
        .iter()
        .any(|row| matches!(row.outcome, Outcome::Failed { .. }));
    (lines.join("\n"), good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(only: &[&str], skip: &[&str]) -> Result<Vec<&'static str>> {
        let options = TestOptions {
            only: only.iter().map(|s| (*s).to_owned()).collect(),
            skip: skip.iter().map(|s| (*s).to_owned()).collect(),
            list: false,
        };
        Ok(choose(&options)?.iter().map(|step| step.name).collect())
    }

    #[test]
    fn steps_keep_their_order_however_they_are_asked_for() {
        assert_eq!(chosen(&["tidy", "fmt"], &[]).unwrap(), ["fmt", "tidy"]);
        assert_eq!(chosen(&["tidy", "fmt"], &["fmt"]).unwrap(), ["tidy"]);
        assert_eq!(chosen(&[], &[]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn an_unknown_step_names_the_known_ones() {
        let error = chosen(&["clipy"], &[]).unwrap_err().to_string();
        assert!(error.contains("clippy"), "{error}");
    }

    #[test]
    fn one_failed_step_fails_the_run() {
        let ui = Ui::new(Stream::Stdout);
        let row = |outcome| Row {
            name: "a",
            outcome,
            time: Duration::ZERO,
        };
        let (text, good) = summary(
            &ui,
            &[row(Outcome::passed("")), row(Outcome::skipped("no driver"))],
        );
        assert!(good);
        assert_eq!(text.lines().last(), Some("1 passed, 0 failed, 1 skipped"));
        let (text, good) = summary(
            &ui,
            &[row(Outcome::passed("")), row(Outcome::failed("why", None))],
        );
        assert!(!good);
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 0 skipped"));
    }
}
