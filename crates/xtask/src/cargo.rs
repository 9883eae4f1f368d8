//! Calls to cargo and to other children with a clean environment.

use std::env;
use std::ffi::OsStr;
use std::process::Command;

use crate::project::Project;

/// Makes cargo unify features as it does for tests, also where no test is built, so that the
/// demo, the checks and the tests share one build of Burn: with `--examples` the development
/// dependencies take part.
pub(crate) const SAME_FEATURES: [&str; 2] = ["--workspace", "--examples"];

/// A call of the cargo that started this program.
pub(crate) fn cargo(project: &Project) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = child(project, cargo);
    command
        .env("CARGO_TARGET_DIR", &project.target)
        .env("CARGO_TERM_COLOR", "never");
    command
}

/// The build of the command `fireside`.
pub(crate) fn command(project: &Project) -> Command {
    let mut build = cargo(project);
    build
        .arg("build")
        .args(SAME_FEATURES)
        .args(["--bin", "fireside"]);
    build
}

/// A child in the workspace's root, without the variables that cargo set for this program.
pub(crate) fn child(project: &Project, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(&project.root);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if set_for_this_crate(&name) {
            command.env_remove(name.as_ref());
        }
    }
    command
}

fn set_for_this_crate(name: &str) -> bool {
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || matches!(
            name,
            "CARGO_CRATE_NAME" | "CARGO_BIN_NAME" | "CARGO_PRIMARY_PACKAGE"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_user_pass() {
        assert!(set_for_this_crate("CARGO_PKG_NAME"));
        assert!(set_for_this_crate("CARGO_MANIFEST_DIR"));
        for name in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_JOBS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(!set_for_this_crate(name), "{name}");
        }
    }
}
