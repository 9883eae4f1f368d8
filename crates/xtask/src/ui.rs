//! Terminal output: short lines, colour and a live line only on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// For chores whose report is the result.
    Stdout,
    /// For chores that end in another program's output.
    Stderr,
}

/// A colour by meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// It was left out.
    Warn,
    /// Beside the point.
    Faint,
}

/// How often a quiet machine hears that a long step still runs.
const HEARTBEAT: Duration = Duration::from_secs(120);

/// Prints to one stream.
#[derive(Debug)]
pub(crate) struct Ui {
    stream: Stream,
    terminal: bool,
    color: bool,
}

impl Ui {
    /// An output that fits what the stream is connected to.
    pub(crate) fn new(stream: Stream) -> Self {
        let terminal = match stream {
            Stream::Stdout => std::io::stdout().is_terminal(),
            Stream::Stderr => std::io::stderr().is_terminal(),
        };
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            stream,
            terminal,
            color: terminal && !plain,
        }
    }

    /// One line.
    pub(crate) fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// A step's line: its name in a column, then what is said of it.
    pub(crate) fn step(&self, name: &str, text: &str) {
        self.line(&format!(
            "  {} {text}",
            self.paint(Tone::Faint, &format!("{name:<9}"))
        ));
    }

    /// An error that ends the program.
    pub(crate) fn error(&self, text: &str) {
        self.line(&format!("{} {text}", self.paint(Tone::Bad, "error:")));
    }

    /// A text in a colour, where there is colour.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Warn => "33",
            Tone::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A line that tells of a running step until it is dropped.
    pub(crate) fn live(&self, name: &str) -> Live<'_> {
        Live {
            ui: self,
            name: name.to_owned(),
            start: Instant::now(),
            told: Instant::now(),
        }
    }

    fn write(&self, text: &str) {
        // A closed pipe is no reason to stop a test run.
        let _ = match self.stream {
            Stream::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Stream::Stderr => std::io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

/// The line of a running step.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    ui: &'a Ui,
    name: String,
    start: Instant,
    told: Instant,
}

impl Live<'_> {
    /// Tells what the step is doing: at once on a terminal, now and then elsewhere.
    pub(crate) fn tell(&mut self, doing: &str) {
        let doing: String = doing
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(50)
            .collect();
        let seconds = self.start.elapsed().as_secs();
        if self.ui.terminal {
            let text = self
                .ui
                .paint(Tone::Faint, &format!("{seconds:>5} s  {doing}"));
            self.ui
                .write(&format!("\r\u{1b}[2K  {:<9} {text}", self.name));
        } else if self.told.elapsed() >= HEARTBEAT {
            self.told = Instant::now();
            self.ui
                .line(&format!("  {:<9} {seconds:>5} s  {doing}", self.name));
        }
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        if self.ui.terminal {
            self.ui.write("\r\u{1b}[2K");
        }
    }
}

/// A duration as a person reads it.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 60 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(Duration::from_millis(1540)), "1.5 s");
        assert_eq!(duration(Duration::from_secs(725)), "12 min 05 s");
    }
}
