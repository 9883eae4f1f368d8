//! Finds the files of a language model, wherever they come from.
//!
//! [`resolve`] takes what a user writes for a model and gives [`ModelFiles`] that are whole and
//! verified on this machine:
//!
//! ```no_run
//! use fireside_hub::{ModelFiles, Options, resolve};
//!
//! # fn main() -> Result<(), fireside_hub::Error> {
//! match resolve("smollm2", &Options::from_env())? {
//!     ModelFiles::Gguf(file) => println!("one GGUF file, {}", file.display()),
//!     ModelFiles::Folder(folder) => println!("safetensors in {}", folder.display()),
//!     other => println!("something else in {}", other.path().display()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | specification | meaning |
//! | --- | --- |
//! | `smollm2` | a model of [`KNOWN_MODELS`], from the hub or from a package, one digest |
//! | `path/to/model.gguf` | a local GGUF file; any piece of a split one means all of it |
//! | `path/to/folder` | a local folder with config.json, tokenizer.json and `*.safetensors` |
//! | `owner/name` | a hub repository: its safetensors, else its best GGUF file |
//! | `owner/name:Q4_K_M` | the repository's GGUF file of that quantization |
//! | `owner/name/file.gguf` | that file |
//! | `owner/name@v2` | a branch, tag or commit; may be combined with the above |
//!
//! # The hub's crate and what it is used for
//!
//! The `hf-hub` crate decides addresses (`Repo`), where the hub's clients keep their cache and
//! token (`Cache`), and how a snapshot is found there. The transfer itself is ureq's: the crate's
//! own download appends a full answer to a partial file if a server ignores the range, accepts a
//! body that ended early, compares no digest, and waits for a silent server without limit.
//!
//! # What makes a file good
//!
//! A file is downloaded as `NAME.part`, hashed, and only then renamed. The digest comes from the
//! table of known models, from the hub's list of files, or from its headers, in this order. Later
//! runs compare size and modification time with the stamp of that moment; where they differ the
//! file is hashed again and, if it is not what it was, deleted and fetched anew. One lock per
//! repository keeps two processes apart.

mod digest;
mod error;
mod files;
mod http;
mod known;
mod listing;
mod local;
mod lock;
mod options;
mod package;
mod plan;
mod progress;
mod repo;
mod slot;
mod sources;
mod spec;
mod split;
mod transfer;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use error::Error;
pub use files::ModelFiles;
pub use known::{
    DEFAULT_MODEL, GEMMA3_270M, KNOWN_MODELS, KnownFile, KnownModel, KnownRepo, MINILM, PackagePart,
};
pub use options::Options;
pub use progress::{Phase, Progress, Silent, Terminal};

use slot::Slot;
use spec::Spec;

/// Finds the model that `spec` names and fetches it if it is not on this machine.
///
/// # Errors
///
/// Returns an error if nothing is at the path, if what is there is no model, if the repository
/// does not exist or holds nothing that can be run, if a source cannot be reached or delivers the
/// wrong bytes, or if the cache cannot be written.
pub fn resolve(spec: &str, options: &Options) -> Result<ModelFiles, Error> {
    match spec::classify(spec)? {
        Spec::Local(path) => local::examine(&path),
        Spec::Known(model) => sources::fetch(model, options),
        Spec::Hub(hub) => repo::fetch(&hub, options),
    }
}

/// The SHA-256 of a file in hexadecimal. For a file in the cache that is unchanged since it was
/// verified this is read from its stamp; any other file is read through, with progress.
///
/// # Errors
///
/// Returns an error if the file cannot be read.
pub fn sha256(path: &Path, options: &Options) -> Result<String, Error> {
    let cached = options
        .models()
        .is_ok_and(|models| path.starts_with(models));
    let stamped = || Slot::new(path.to_path_buf()).stamped_sha256();
    match cached.then(stamped).flatten() {
        Some(digest) => Ok(digest),
        None => digest::sha256_file(path, &*options.progress),
    }
}
