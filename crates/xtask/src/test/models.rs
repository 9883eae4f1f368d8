//! The real models that tests run: those named in the environment, else what `fireside fetch` gets.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::models::resolve;

use super::Run;

/// A real model that tests know by a variable of the environment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Real {
    /// Where tests look for its path.
    pub(super) variable: &'static str,
    /// What `fireside fetch` calls it.
    name: &'static str,
}

/// What a step without a model of its own choice runs.
pub(super) const DEFAULT: Real = Real {
    variable: "FIRESIDE_TEST_GGUF",
    name: "smollm2",
};
/// A model whose embedding table is larger than a binding of 128 MiB.
pub(super) const GEMMA: Real = Real {
    variable: "FIRESIDE_TEST_GEMMA_GGUF",
    name: "gemma3-270m",
};
/// An embedding model.
pub(super) const MINILM: Real = Real {
    variable: "FIRESIDE_TEST_MINILM",
    name: "minilm",
};

const ALL: [&Real; 3] = [&DEFAULT, &GEMMA, &MINILM];

/// The models that were found.
#[derive(Debug, Default)]
pub(super) struct Models {
    found: Vec<(&'static str, PathBuf)>,
    /// A step has looked for them.
    tried: bool,
}

impl Models {
    /// The path of a model.
    pub(super) fn get(&self, model: &Real) -> Option<&PathBuf> {
        let own = |(variable, _): &&(&str, PathBuf)| *variable == model.variable;
        self.found.iter().find(own).map(|(_, path)| path)
    }

    /// Tells a command where all of them are.
    pub(super) fn tell(&self, command: &mut Command) {
        command.envs(self.found.iter().map(|(variable, path)| (variable, path)));
    }
}

/// Gets every model, and gives the reasons for those that are not to be had.
///
/// # Errors
///
/// There is no default model.
pub(super) fn get(run: &mut Run<'_>) -> Result<Vec<String>> {
    run.models.tried = true;
    let log = run.project.log("model");
    fs::write(&log, "")?;
    let mut lacking = Vec::new();
    for model in ALL {
        match resolve(run.ui, run.project, model.variable, model.name, &log) {
            Ok(path) => run.models.found.push((model.variable, path)),
            Err(error) if *model == DEFAULT => return Err(error),
            Err(error) => lacking.push(format!("without {}: {error:#}", model.name)),
        }
    }
    Ok(lacking)
}

/// Looks for the models where no step has yet, and says why some are not there.
pub(super) fn find(run: &mut Run<'_>) -> Option<String> {
    if run.models.tried {
        return None;
    }
    match get(run) {
        Ok(lacking) if lacking.is_empty() => None,
        Ok(lacking) => Some(lacking.join("; ")),
        Err(error) => Some(format!("without the default model: {error:#}")),
    }
}
