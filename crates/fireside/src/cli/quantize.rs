//! `fireside quantize`: writes a GGUF file with smaller weights.

use std::fs::{self, File, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use fireside_formats::{DType, WeightFile};
use fireside_hub::Options;
use fireside_model::export::{Exported, export};

use super::local;
use super::output::human_bytes;

#[derive(Debug, Args)]
pub(super) struct QuantizeArgs {
    /// A GGUF file with float weights, any part of one in several files, a known name or a hub id.
    source: String,
    /// The file to write.
    #[arg(value_name = "OUT.gguf")]
    out: PathBuf,
    /// What the projections become; embedding and head become q8_0 where this is a 4-bit type.
    #[arg(
        short,
        long = "type",
        value_enum,
        ignore_case = true,
        value_name = "TYPE"
    )]
    to: Type,
    /// Replace OUT.gguf if it is there.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Type {
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4Zero,
    #[value(name = "q4_1")]
    Q4One,
    #[value(name = "f16")]
    F16,
}

impl From<Type> for DType {
    fn from(value: Type) -> Self {
        match value {
            Type::Q8 => Self::Q8_0,
            Type::Q4Zero => Self::Q4_0,
            Type::Q4One => Self::Q4_1,
            Type::F16 => Self::F16,
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &QuantizeArgs) -> Result<()> {
    let out = args.out.as_path();
    if out.is_dir() {
        bail!("{} is a folder; expected the file to write", out.display());
    }
    if out.exists() && !args.force {
        bail!("{} is there already: --force replaces it", out.display());
    }
    let source = local(&args.source, &Options::from_env())?;
    if source.is_dir() {
        bail!(
            "{} is a folder of safetensors, of which no gguf file can be written: convert it first, or \
             quantize it while loading with --quantize",
            source.display()
        );
    }
    let file = WeightFile::open(&source)?;
    if file.gguf().is_none() {
        bail!("{} is not a gguf file", source.display());
    }
    let part = Part::beside(out)?;
    let written = export(&file, args.to.into(), BufWriter::new(&part.file))
        .with_context(|| source.display().to_string())?;
    part.rename(out)?;
    let Exported {
        changed,
        copied,
        bytes_before,
        bytes,
    } = written;
    println!(
        "{}: {} of weights from {}, {changed} tensors quantized, {copied} copied",
        out.display(),
        human_bytes(bytes),
        human_bytes(bytes_before),
    );
    Ok(())
}

/// A file under another name until it is whole; it goes away if it never is.
struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    /// A new file in the folder of `out`.
    fn beside(out: &Path) -> Result<Self> {
        let Some(name) = out.file_name() else {
            bail!("{} names no file to write", out.display());
        };
        let name = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
        let path = out.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path })
    }

    /// Gives the file its name once its content is on the disk.
    fn rename(self, out: &Path) -> Result<()> {
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, out))
            .with_context(|| format!("cannot write {}", out.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After the rename it is no longer there.
        let _ = fs::remove_file(&self.path);
    }
}
