//! Child processes: quiet ones whose output goes to a log, and what the log says on failure.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ui::Ui;

/// Lines of a log that are shown when its step failed.
const TAIL_LINES: usize = 60;
/// Bytes from the end of a log in which those lines are looked for.
const TAIL_BYTES: u64 = 64 * 1024;
/// How often a running child is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Runs a command with its output in a log, telling its last line while it runs.
///
/// A new run of a step replaces the log; `append` goes on with it.
pub(crate) fn quiet(
    ui: &Ui,
    name: &str,
    command: &mut Command,
    log: &Path,
    append: bool,
) -> Result<ExitStatus> {
    if !append {
        fs::write(log, "").with_context(|| format!("{} cannot be written", log.display()))?;
    }
    let file = || {
        File::options()
            .append(true)
            .create(true)
            .open(log)
            .with_context(|| format!("{} cannot be written", log.display()))
    };
    use std::io::Write;
    writeln!(file()?, "$ {}", line(command))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file()?)
        .stderr(file()?)
        .spawn()
        .with_context(|| format!("{} cannot be started", program(command)))?;
    let mut live = ui.live(name);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        live.tell(last_line(log).as_deref().unwrap_or_default());
        std::thread::sleep(POLL);
    }
}

/// The standard output of a command that answers at once; none if it fails or does not exist.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A program of the search path.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(&file))
        .find(|candidate| candidate.is_file())
}

/// The last lines of a log, for a person who must find out what went wrong.
pub(crate) fn tail(log: &Path) -> String {
    let text = end_of(log, TAIL_BYTES).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// What a status means, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => "ended by a signal".to_owned(),
    }
}

fn last_line(log: &Path) -> Option<String> {
    let text = end_of(log, 2048)?;
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.to_owned())
}

fn end_of(log: &Path, bytes: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))
        .ok()?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
