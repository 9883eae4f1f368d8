//! Whether a Vulkan loader and a driver are installed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Debian's loader, and its drivers with the software one among them.
pub(crate) const PACKAGES: [&str; 2] = ["libvulkan1", "mesa-vulkan-drivers"];

/// The driver files found, as a short text, or what is missing. Windows and macOS bring their own
/// interfaces and need nothing.
pub(crate) fn detect() -> Result<String> {
    if !cfg!(target_os = "linux") {
        return Ok("the system's own".to_owned());
    }
    let libraries = library_folders(env::var("LD_LIBRARY_PATH").ok().as_deref());
    if !libraries
        .iter()
        .any(|folder| folder.join("libvulkan.so.1").exists())
    {
        bail!("no vulkan loader (libvulkan.so.1)");
    }
    let named = env::var("VK_DRIVER_FILES")
        .or_else(|_| env::var("VK_ICD_FILENAMES"))
        .ok();
    let drivers = drivers(named.as_deref(), &driver_folders());
    if drivers.is_empty() {
        bail!("no vulkan driver (no file in /usr/share/vulkan/icd.d)");
    }
    Ok(drivers.join(", "))
}

fn library_folders(search_path: Option<&str>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = search_path
        .map(|p| env::split_paths(p).collect())
        .unwrap_or_default();
    for base in ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"] {
        folders.push(base.into());
        let triples = fs::read_dir(base).into_iter().flatten().flatten();
        folders.extend(
            triples
                .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-gnu"))
                .map(|entry| entry.path()),
        );
    }
    folders
}

fn driver_folders() -> Vec<PathBuf> {
    let mut bases: Vec<PathBuf> = ["/etc", "/usr/share", "/usr/local/share", "/usr/local/etc"]
        .map(PathBuf::from)
        .to_vec();
    if let Some(home) = env::var_os("HOME") {
        bases.push(Path::new(&home).join(".local/share"));
    }
    if let Ok(data) = env::var("XDG_DATA_DIRS") {
        bases.extend(env::split_paths(&data));
    }
    bases
        .into_iter()
        .map(|base| base.join("vulkan/icd.d"))
        .collect()
}

/// The names of the drivers, sorted: the files that a variable names, else those of the folders.
fn drivers(named: Option<&str>, folders: &[PathBuf]) -> Vec<String> {
    let files: Vec<PathBuf> = match named.filter(|value| !value.is_empty()) {
        Some(list) => env::split_paths(list)
            .filter(|file| file.exists())
            .collect(),
        None => folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
            .collect(),
    };
    let mut names: Vec<String> = files
        .iter()
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter_map(|file| Some(short(file.file_stem()?.to_str()?)))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// `lvp_icd.x86_64` as `lvp`.
fn short(stem: &str) -> String {
    let stem = stem.split('.').next().unwrap_or(stem);
    stem.strip_suffix("_icd").unwrap_or(stem).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[&str]) -> PathBuf {
        let folder = env::temp_dir().join(format!("xtask-vulkan-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for file in files {
            fs::write(folder.join(file), "{}").unwrap();
        }
        folder
    }

    #[test]
    fn drivers_are_named_by_their_files() {
        let found = folder(
            "found",
            &["lvp_icd.x86_64.json", "radeon_icd.json", "README"],
        );
        assert_eq!(
            drivers(None, std::slice::from_ref(&found)),
            ["lvp", "radeon"]
        );
        let one = found.join("lvp_icd.x86_64.json");
        assert_eq!(drivers(one.to_str(), &[]), ["lvp"]);
        fs::remove_dir_all(found).unwrap();
    }

    #[test]
    fn an_absent_or_empty_folder_has_no_driver() {
        let empty = folder("empty", &[]);
        assert!(drivers(None, &[empty.clone(), empty.join("absent")]).is_empty());
        assert!(drivers(Some("/absent/lvp_icd.json"), &[]).is_empty());
        fs::remove_dir_all(empty).unwrap();
    }
}
