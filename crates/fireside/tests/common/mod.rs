//! How tests start the command.

use std::env;
use std::process::Command;

/// The command, which reads no setting of whoever runs the tests.
pub(crate) fn fireside() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_fireside")))
}

/// A command without the variables that are settings of Fireside's.
pub(crate) fn without_settings(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"FIRESIDE_") {
            command.env_remove(name);
        }
    }
    command
}
