//! What a search gives: the files that a model loader opens.

use std::path::{Path, PathBuf};

/// The files of one model, all present on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelFiles {
    /// One GGUF file with weights, configuration and tokenizer.
    Gguf(PathBuf),
    /// A GGUF model in several files, in their order; the first one holds the metadata.
    SplitGguf(Vec<PathBuf>),
    /// A folder with config.json, tokenizer.json and one or more `*.safetensors`.
    Folder(PathBuf),
}

impl ModelFiles {
    /// The path that stands for the model: the file, the first file, or the folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(path) | Self::Folder(path) => path,
            // A split model is never made of no files.
            Self::SplitGguf(paths) => paths.first().map_or(Path::new(""), PathBuf::as_path),
        }
    }

    /// One file as `Gguf`, more as `SplitGguf`.
    pub(crate) fn from_gguf_paths(mut paths: Vec<PathBuf>) -> Self {
        match (paths.len(), paths.pop()) {
            (1, Some(path)) => Self::Gguf(path),
            (_, last) => {
                paths.extend(last);
                Self::SplitGguf(paths)
            }
        }
    }
}
