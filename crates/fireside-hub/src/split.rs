//! The files that the index of a sharded safetensors model names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::error::Error;
use crate::spec::is_safe_file_name;

/// The largest index file that is read, in bytes; the largest known one has about 10 MB.
const MAX_INDEX: u64 = 64 << 20;

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
