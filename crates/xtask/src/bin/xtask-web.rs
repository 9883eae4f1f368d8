//! Turns a built WASM module into an ES module with its glue: `xtask-web MODULE.wasm FOLDER`.
//!
//! It is a binary of its own because the library behind it takes longer to compile than all of
//! `xtask`, which every chore needs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

/// The name that the linker gives to the call of all constructors.
const CONSTRUCTORS: &str = "__wasm_call_ctors";

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [module, folder] = arguments.as_slice() else {
        bail!("usage: xtask-web MODULE.wasm FOLDER");
    };
    let mut output = Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        .omit_default_module_path(false)
        .generate_output()
        .with_context(|| format!("no bindings for {}", module.display()))?;
    drop_constructors(output.wasm_mut());
    output
        .emit(folder)
        .with_context(|| format!("{} cannot be written", folder.display()))
}

/// Takes out the call of all constructors, which has none left to call: `xtask-link` drops them. The linker
/// has to be told to export it, or it would wrap every export with it.
fn drop_constructors(module: &mut walrus::Module) {
    if module.exports.remove(CONSTRUCTORS).is_ok() {
        walrus::passes::gc::run(module);
    }
}
