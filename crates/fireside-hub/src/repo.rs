//! Gets a model out of a hub repository, into this cache.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::ModelFiles;
use crate::http::Http;
use crate::listing::{self, Listing, RemoteFile};
use crate::local;
use crate::lock::FolderLock;
use crate::options::Options;
use crate::plan::{Plan, plan};
use crate::slot::{Slot, write_json};
use crate::spec::HubSpec;
use crate::split::shards_of_index;
use crate::transfer::download;

/// Finds or fetches the model that `spec` asks for.
///
/// A revision that was resolved once is not asked for again unless `options.refresh` is set, so
/// that a model neither changes between two runs nor needs the network for the second.
pub(crate) fn fetch(spec: &HubSpec, options: &Options) -> Result<ModelFiles, Error> {
    let cached = Cached::new(spec, options)?;
    if !options.refresh {
        if let Some(listing) = cached.listing()
            && let Some(files) = cached.have_all(&listing)?
        {
            return Ok(files);
        }
        if let Some(files) = in_hub_cache(spec, options) {
            return Ok(files);
        }
    }
    match cached.fetch() {
        Err(error) if options.refresh && error.is_unreachable() => {
            let Some(files) = cached
                .listing()
                .and_then(|listing| cached.have_all(&listing).ok().flatten())
            else {
                return Err(error);
            };
            options
                .progress
                .notice(&format!("{error}; the files in the cache are used"));
            Ok(files)
        }
        result => result,
    }
}

/// The model in the cache of the hub's own clients, if they have all of its files there.
fn in_hub_cache(spec: &HubSpec, options: &Options) -> Option<ModelFiles> {
    let (folder, listing) = listing::snapshot(options.hub_cache.as_deref()?, spec)?;
    match plan(&spec.repo, &listing, &spec.pick).ok()? {
        Plan::Gguf(files) => Some(ModelFiles::from_gguf_paths(
            files.iter().map(|file| folder.join(&file.name)).collect(),
        )),
        Plan::Folder(_) => local::examine(&folder).ok(),
    }
}

/// A repository's place in this cache.
struct Cached<'a> {
    spec: &'a HubSpec,
    options: &'a Options,
    folder: PathBuf,
}

impl<'a> Cached<'a> {
    fn new(spec: &'a HubSpec, options: &'a Options) -> Result<Self, Error> {
        Ok(Self {
            spec,
            options,
            folder: options.models()?.join(spec.repo.replace('/', "--")),
        })
    }

    fn listing_path(&self) -> PathBuf {
        let name = self.spec.revision.replace('/', "%2F");
        self.folder.join("refs").join(format!("{name}.json"))
    }

    fn listing(&self) -> Option<Listing> {
        listing::read_cached(&self.listing_path())
    }

    fn slot(&self, listing: &Listing, file: &RemoteFile) -> Slot {
        Slot::new(self.folder.join(&listing.commit).join(&file.name))
    }

    /// The model's files if every one is in place and unchanged.
    fn have_all(&self, listing: &Listing) -> Result<Option<ModelFiles>, Error> {
        let have = |file: &RemoteFile| Ok(self.slot(listing, file).is_good(&file.expect()));
        match self.collect(listing, have) {
            // The repository may hold by now what an old list of its files lacks.
            Err(Error::Repository { .. }) => Ok(None),
            result => result,
        }
    }

    /// Walks over the files that make up the model. `have` says whether a file is in place, after
    /// doing what it takes to get it there; the walk stops at the first that is not.
    fn collect(
        &self,
        listing: &Listing,
        mut have: impl FnMut(&RemoteFile) -> Result<bool, Error>,
    ) -> Result<Option<ModelFiles>, Error> {
        match plan(&self.spec.repo, listing, &self.spec.pick)? {
            Plan::Gguf(files) => {
                let mut paths = Vec::with_capacity(files.len());
                for file in files {
                    if !have(file)? {
                        return Ok(None);
                    }
                    paths.push(self.slot(listing, file).path().to_path_buf());
                }
                Ok(Some(ModelFiles::from_gguf_paths(paths)))
            }
            Plan::Folder(files) => {
                for file in &files {
                    if !have(file)? {
                        return Ok(None);
                    }
                }
                if let Some(index) = files.iter().find(|file| file.name == local::INDEX) {
                    for shard in shards_of_index(self.slot(listing, index).path())? {
                        let file = listing.find(&shard).ok_or_else(|| Error::Repository {
                            repo: self.spec.repo.clone(),
                            reason: format!("lacks the weight file {shard} that its index names"),
                        })?;
                        if !have(file)? {
                            return Ok(None);
                        }
                    }
                }
                let folder = self.folder.join(&listing.commit);
                local::examine(&folder).map(Some)
            }
        }
    }

    /// Fetches what is missing.
    fn fetch(&self) -> Result<ModelFiles, Error> {
        let (spec, options) = (self.spec, self.options);
        let _lock = FolderLock::acquire(&self.folder, &*options.progress)?;
        // Another process may have been told and have fetched while this one waited.
        let known = self
            .listing()
            .filter(|listing| !options.refresh && plan(&spec.repo, listing, &spec.pick).is_ok());
        let http = Http::new(options)?;
        let listing = match known {
            Some(listing) => listing,
            None => {
                options.may_ask_hub(&format!("hub repository `{}`", spec.repo))?;
                let listing = listing::ask(&http, spec, options)?;
                // A choice that cannot be made should not be kept: the repository may get it.
                plan(&spec.repo, &listing, &spec.pick)?;
                self.keep(&listing)?;
                listing
            }
        };
        let get = |file: &RemoteFile| {
            let slot = self.slot(&listing, file);
            let expect = file.expect();
            if slot.repair(&expect, &*options.progress)? {
                return Ok(true);
            }
            options.may_ask_hub(&format!("{}/{}", spec.repo, file.name))?;
            let url = listing::file_url(
                &options.hub_endpoint,
                &spec.repo,
                &listing.commit,
                &file.name,
            );
            download(&http, &url, &slot, &expect, options).map(|_| true)
        };
        // `get` never answers that a file is missing, so neither does the walk.
        self.collect(&listing, get)?
            .ok_or_else(|| Error::Repository {
                repo: spec.repo.clone(),
                reason: "could not be fetched whole".to_owned(),
            })
    }

    fn keep(&self, listing: &Listing) -> Result<(), Error> {
        let path = self.listing_path();
        let folder = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        write_json(&path, listing)
    }
}
