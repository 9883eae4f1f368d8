//! The naming of models that come in several files: split GGUF and sharded safetensors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::error::Error;
use crate::spec::is_safe_file_name;

/// More pieces than any published model has.
const MAX_PIECES: u32 = 4096;

/// The largest index file that is read, in bytes; the largest known one has about 10 MB.
const MAX_INDEX: u64 = 64 << 20;

/// A name of the form `PREFIX-00001-of-00003.gguf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    prefix: &'a str,
    /// Counted from 1.
    pub(crate) number: u32,
    pub(crate) count: u32,
}

impl<'a> Piece<'a> {
    /// Reads a file's name; `None` if the file is not a piece of several.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let stem = name.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| -> Option<u32> {
            (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse().ok())?
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (number >= 1 && number <= count && count <= MAX_PIECES).then_some(Self {
            prefix,
            number,
            count,
        })
    }

    /// The name without the piece numbers and the ending.
    pub(crate) fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// The names of all pieces in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.count).map(move |n| format!("{}-{n:05}-of-{:05}.gguf", self.prefix, self.count))
    }
}

/// The names of the weight files that a `model.safetensors.index.json` refers to.
///
/// # Errors
///
/// Returns an error if the file cannot be read, is larger than 64 MiB, is not an index, or names
/// no file or one outside its folder.
pub(crate) fn shards_of_index(path: &Path) -> Result<BTreeSet<String>, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bad = |reason: String| Error::NotAModel {
        path: path.to_path_buf(),
        reason,
    };
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut text = Vec::new();
    file.take(MAX_INDEX + 1)
        .read_to_end(&mut text)
        .map_err(Error::io("read", path))?;
    if text.len() as u64 > MAX_INDEX {
        return Err(bad("an index of more than 64 MiB is refused".into()));
    }
    let index: Index = serde_json::from_slice(&text)
        .map_err(|e| bad(format!("it is not an index with a weight_map: {e}")))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if shards.is_empty() {
        return Err(bad("its weight_map is empty".into()));
    }
    for shard in &shards {
        if !is_safe_file_name(shard) || shard.contains('/') || !shard.ends_with(".safetensors") {
            return Err(bad(format!(
                "it names the weight file {shard:?}, which is no *.safetensors beside it"
            )));
        }
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_recognized_by_name() {
        let piece = Piece::parse("dir/m-Q4_0-00002-of-00003.gguf").unwrap();
        assert_eq!((piece.number, piece.count), (2, 3));
        assert_eq!(
            piece.names().collect::<Vec<_>>(),
            [
                "dir/m-Q4_0-00001-of-00003.gguf",
                "dir/m-Q4_0-00002-of-00003.gguf",
                "dir/m-Q4_0-00003-of-00003.gguf"
            ]
        );
        for whole in [
            "m.gguf",
            "m-1-of-3.gguf",
            "m-00004-of-00003.gguf",
            "m-00000-of-00003.gguf",
            "m-00001-of-99999.gguf",
            "m-00001-of-00003.bin",
            "é.gg",
            "",
        ] {
            assert_eq!(Piece::parse(whole), None, "{whole}");
        }
    }

    #[test]
    fn an_index_lists_each_shard_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        std::fs::write(
            &path,
            r#"{"metadata":{},"weight_map":{"a":"x.safetensors","b":"y.safetensors","c":"x.safetensors"}}"#,
        )
        .unwrap();
        let shards: Vec<_> = shards_of_index(&path).unwrap().into_iter().collect();
        assert_eq!(shards, ["x.safetensors", "y.safetensors"]);
    }

    #[test]
    fn an_index_that_points_elsewhere_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        for text in [
            "",
            "{}",
            r#"{"weight_map":{}}"#,
            r#"{"weight_map":{"a":"../x.safetensors"}}"#,
            r#"{"weight_map":{"a":"/etc/passwd"}}"#,
            r#"{"weight_map":{"a":"x.bin"}}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let message = shards_of_index(&path).unwrap_err().to_string();
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
