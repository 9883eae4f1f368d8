//! Opens weight files by path: a GGUF file with its siblings, a safetensors file, or a folder of shards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::table::{printable, shown};
use crate::{ByteSource, FormatError, Mapping, SplitName, TensorSource, WeightFile};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// An index larger than this is refused; it describes over 300,000 tensors.
const MAX_INDEX_BYTES: u64 = 32 << 20;

impl WeightFile<Mapping> {
    /// Opens the weights at `path` by memory mapping. Native only.
    ///
    /// A file is read as GGUF or safetensors by its first bytes or, if these do not tell, by its
    /// extension. A GGUF file whose name says that it is one of several parts means all of them;
    /// they lie beside it. In a folder the files are those that `model.safetensors.index.json` names, else
    /// `model.safetensors`, else every `*.safetensors`.
    ///
    /// # Errors
    ///
    /// [`FormatError::InFile`] with the path of the file and what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        if path.is_dir() {
            open_folder(path)
        } else {
            open_file(path)
        }
    }
}

fn map(path: &Path) -> Result<(String, Mapping), FormatError> {
    let name = path.display().to_string();
    match Mapping::open(path) {
        Ok(mapping) => Ok((name, mapping)),
        Err(error) => Err(error.in_file(&name)),
    }
}

fn open_file(path: &Path) -> Result<WeightFile<Mapping>, FormatError> {
    let (name, mapping) = map(path)?;
    let start = mapping
        .bytes(0..mapping.size().min(9))
        .map_err(|error| error.in_file(&name))?;
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    if start.starts_with(b"GGUF") || extension == "gguf" {
        let mapping = mapping.clone();
        return match parts_beside(path) {
            Some(parts) => open_parts(&parts),
            None => WeightFile::from_gguf(&name, mapping),
        };
    }
    if start.get(8) == Some(&b'{') || extension == "safetensors" {
        return WeightFile::from_safetensors([(name, mapping.clone())]);
    }
    Err(FormatError::UnknownFormat {
        found: printable(&start),
    }
    .in_file(&name))
}

/// The paths of all parts of the model that `path` is one of, by its name; `None` for a whole model.
fn parts_beside(path: &Path) -> Option<Vec<PathBuf>> {
    let name = SplitName::parse(path.file_name()?.to_str()?)?;
    (name.count() > 1).then(|| name.all().map(|one| path.with_file_name(one)).collect())
}

fn open_parts(paths: &[PathBuf]) -> Result<WeightFile<Mapping>, FormatError> {
    let count = paths.len() as u64;
    let mut files = Vec::with_capacity(paths.len());
    for (path, part) in paths.iter().zip(1..) {
        if !path.is_file() {
            let error = FormatError::MissingPart { part, count };
            return Err(error.in_file(&path.display().to_string()));
        }
        files.push(map(path)?);
    }
    WeightFile::from_gguf_parts(files)
}

fn open_folder(folder: &Path) -> Result<WeightFile<Mapping>, FormatError> {
    let index = folder.join(INDEX);
    if index.is_file() {
        return open_indexed(folder, &index).map_err(|error| match error {
            error @ FormatError::InFile { .. } => error,
            error => error.in_file(&index.display().to_string()),
        });
    }
    let single = folder.join(SINGLE);
    if single.is_file() {
        return open_file(&single);
    }
    let here = folder.display().to_string();
    let io = |error: std::io::Error| {
        FormatError::Io {
            reason: error.to_string(),
        }
        .in_file(&here)
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(FormatError::NoWeights.in_file(&here));
    }
    paths.sort();
    let files: Vec<_> = paths
        .iter()
        .map(|path| map(path))
        .collect::<Result<_, _>>()?;
    WeightFile::from_safetensors(files).map_err(|error| match error {
        error @ FormatError::InFile { .. } => error,
        error => error.in_file(&here),
    })
}

fn open_indexed(folder: &Path, index: &Path) -> Result<WeightFile<Mapping>, FormatError> {
    let weight_map = parse_index(&read_small(index)?)?;
    let shards: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    let mut files = Vec::with_capacity(shards.len());
    for shard in &shards {
        let plain = Path::new(shard)
            .file_name()
            .is_some_and(|name| name == *shard);
        if !plain {
            return Err(FormatError::BadShardName {
                shard: shown(shard),
            });
        }
        let path = folder.join(shard);
        if !path.is_file() {
            return Err(FormatError::MissingShard {
                shard: shown(shard),
            });
        }
        files.push(map(&path)?);
    }
    let number: BTreeMap<&str, usize> = shards
        .iter()
        .enumerate()
        .map(|(number, shard)| (*shard, number))
        .collect();
    let shard_of = |name: &str| {
        weight_map
            .get(name)
            .and_then(|shard| number.get(shard.as_str()))
    };
    let weights = WeightFile::from_shards(files, |shard, name| shard_of(name) == Some(&shard))?;
    for (tensor, shard) in &weight_map {
        if !weights.contains(tensor) {
            let (tensor, shard) = (shown(tensor), shown(shard));
            return Err(FormatError::NotInShard { shard, tensor });
        }
    }
    Ok(weights)
}

/// Reads a file that must not be large.
fn read_small(path: &Path) -> Result<Vec<u8>, FormatError> {
    let io = |error: std::io::Error| FormatError::Io {
        reason: error.to_string(),
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(MAX_INDEX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    let size = bytes.len() as u64;
    if size > MAX_INDEX_BYTES {
        return Err(FormatError::FileTooLarge {
            size,
            limit: MAX_INDEX_BYTES,
        });
    }
    Ok(bytes)
}

/// The file names that the index gives for the tensors of a sharded model.
fn parse_index(json: &[u8]) -> Result<BTreeMap<String, String>, FormatError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Result<Index, _> = serde_json::from_slice(json);
    match index {
        Ok(index) => Ok(index.weight_map),
        Err(error) => Err(FormatError::BadIndex {
            reason: error.to_string(),
        }),
    }
}
