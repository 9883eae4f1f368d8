//! System packages: whether they may be installed here, and doing it.

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo::child;
use crate::process::{describe, output, quiet, which};
use crate::project::Project;
use crate::ui::Ui;

/// How system packages are installed on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// This user is root.
    Root,
    /// `sudo` asks for no password.
    Sudo,
    /// A person has to do it.
    None,
}

/// What this user may do: nothing without apt, and nothing where `FIRESIDE_NO_INSTALL` is set.
pub(crate) fn rights() -> Rights {
    let forbidden = env::var("FIRESIDE_NO_INSTALL").is_ok_and(|value| !matches!(&*value, "" | "0"));
    if forbidden || which("apt-get").is_none() {
        return Rights::None;
    }
    if output(Command::new("id").arg("-u")).as_deref() == Some("0") {
        Rights::Root
    } else if output(Command::new("sudo").args(["-n", "true"])).is_some() {
        Rights::Sudo
    } else {
        Rights::None
    }
}

/// The line that a person types to get packages.
pub(crate) fn install_line(packages: &[&str]) -> String {
    format!(
        "sudo apt-get install --no-install-recommends {}",
        packages.join(" ")
    )
}

/// Installs Debian packages. The error says what to do instead.
pub(crate) fn install(ui: &Ui, project: &Project, packages: &[&str]) -> Result<()> {
    let rights = rights();
    if rights == Rights::None {
        bail!("run: {}", install_line(packages));
    }
    let log = project.log("packages");
    let update = run(ui, project, rights, &["update"])?;
    if !update.success() {
        ui.step(
            "packages",
            "the package lists could not be refreshed, the old ones are used",
        );
    }
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    let status = run(ui, project, rights, &arguments)?;
    if !status.success() {
        bail!(
            "apt-get could not install {} ({}), see {}; run: {}",
            packages.join(" "),
            describe(status),
            log.display(),
            install_line(packages)
        );
    }
    Ok(())
}

fn run(
    ui: &Ui,
    project: &Project,
    rights: Rights,
    arguments: &[&str],
) -> Result<std::process::ExitStatus> {
    let mut command = match rights {
        Rights::Sudo => {
            let mut command = child(project, "sudo");
            command.args(["-n", "env"]);
            command
        }
        Rights::Root | Rights::None => child(project, "env"),
    };
    // Another run on the machine may hold the lock; it is waited for.
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"])
        .args(["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=2"])
        .args(arguments);
    quiet(
        ui,
        "packages",
        &mut command,
        &project.log("packages"),
        arguments[0] != "update",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_install_line_can_be_pasted() {
        assert_eq!(
            install_line(&["libvulkan1", "mesa-vulkan-drivers"]),
            "sudo apt-get install --no-install-recommends libvulkan1 mesa-vulkan-drivers"
        );
    }
}
