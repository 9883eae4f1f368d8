//! Exports the module's constructors by name.
//!
//! CubeCL registers thousands of items in constructors. Unless `__wasm_call_ctors` is exported,
//! the linker wraps every export so that all of them run again on each call from JavaScript.
//! `cargo xtask web` leaves the constructors out; the export stays for those who link by hand.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo:rustc-link-arg-cdylib=--export=__wasm_call_ctors");
    }
}
