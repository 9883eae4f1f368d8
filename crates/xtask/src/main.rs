//! `cargo xtask`: every chore of the workspace behind one command.

mod bench;
mod cargo;
mod cli;
mod demo;
mod models;
mod npm;
mod packages;
mod process;
mod project;
mod python;
mod serve;
mod setup;
mod test;
mod tidy;
mod ui;
mod vulkan;
mod wasm;
mod web;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Command;
use crate::project::Project;
use crate::ui::{Stream, Ui};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            Ui::new(Stream::Stderr).error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let command = match cli::parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            Ui::new(Stream::Stderr).error(&format!("{error:#}"));
            return Ok(ExitCode::from(2));
        }
    };
    if let Command::Help = command {
        print!("{}", cli::HELP);
        return Ok(ExitCode::SUCCESS);
    }
    let project = Project::find()?;
    match command {
        Command::Help => Ok(ExitCode::SUCCESS),
        Command::Demo(options) => demo::run(&project, &options),
        Command::Test(options) => test::run(&project, &options),
        Command::Bench(options) => bench::run(&project, &options),
        Command::Synth(options) => bench::synth(&options),
        Command::Tidy => tidy::command(&project),
        Command::Web(options) => web::command(&project, &options),
        Command::Serve(options) => serve::command(&project, &options),
    }
}
