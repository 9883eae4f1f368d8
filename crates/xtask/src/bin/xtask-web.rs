//! Turns a built WASM module into an ES module with its glue: `xtask-web MODULE.wasm FOLDER`.
//!
//! It is a binary of its own because the library behind it takes longer to compile than all of
//! `xtask`, which every chore needs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [module, folder] = arguments.as_slice() else {
        bail!("usage: xtask-web MODULE.wasm FOLDER");
    };
    Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        .omit_default_module_path(false)
        .generate(folder)
        .with_context(|| format!("no bindings for {}", module.display()))
}
