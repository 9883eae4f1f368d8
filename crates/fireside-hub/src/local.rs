//! Recognizes a model in a local file or folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use fireside_formats::SplitName;

use crate::error::Error;
use crate::files::ModelFiles;
use crate::spec::is_gguf_name;
use crate::split::shards_of_index;

/// The name of the file that lists the shards of a sharded model.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The name of the weights of a model in one file.
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// Says what a loader should open for an existing path.
///
/// Files are judged by name and first bytes only; whether their content is sound is for the
/// loader to say.
pub(crate) fn examine(path: &Path) -> Result<ModelFiles, Error> {
    let meta = fs::metadata(path).map_err(Error::io("read", path))?;
    if meta.is_dir() {
        examine_folder(path)
    } else {
        examine_file(path)
    }
}

fn not_a_model(path: &Path, reason: impl Into<String>) -> Error {
    Error::NotAModel {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}

fn examine_file(path: &Path) -> Result<ModelFiles, Error> {
    let name = path
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or_default()
        .to_owned();
    if is_gguf_name(&name) {
        return with_pieces(path, &name);
    }
    if name.ends_with(".safetensors") || name == "config.json" {
        return Err(not_a_model(
            path,
            "it is one file of a model; give the folder that also holds config.json and \
             tokenizer.json",
        ));
    }
    let mut magic = Vec::with_capacity(4);
    File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .map_err(Error::io("read", path))?;
    if magic == b"GGUF" {
        return Ok(ModelFiles::Gguf(path.to_path_buf()));
    }
    Err(not_a_model(
        path,
        "a file must be GGUF, which begins with the letters GGUF",
    ))
}

/// A GGUF file together with the other pieces of its model, if its name says that it is a piece.
fn with_pieces(path: &Path, name: &str) -> Result<ModelFiles, Error> {
    let Some(piece) = SplitName::parse(name).filter(|piece| piece.count() > 1) else {
        return Ok(ModelFiles::Gguf(path.to_path_buf()));
    };
    let paths: Vec<PathBuf> = piece.all().map(|name| path.with_file_name(name)).collect();
    match paths.iter().find(|path| !path.is_file()) {
        Some(missing) => Err(not_a_model(
            path,
            format!(
                "it is piece {} of {} and `{}` is missing",
                piece.number(),
                piece.count(),
                missing.display()
            ),
        )),
        None => Ok(ModelFiles::SplitGguf(paths)),
    }
}

fn examine_folder(path: &Path) -> Result<ModelFiles, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        if let Some(name) = entry.file_name().to_str() {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    if names.is_empty() {
        return Err(not_a_model(path, "the folder is empty"));
    }
    let has = |name: &str| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
    let weights = names.iter().any(|name| name.ends_with(".safetensors"));

    if !weights && !has(INDEX) {
        let ggufs: Vec<&String> = names
            .iter()
            .filter(|name| is_gguf_name(name))
            .filter(|name| SplitName::parse(name).is_none_or(|piece| piece.number() == 1))
            .collect();
        return match ggufs.as_slice() {
            [] => Err(not_a_model(path, no_weights(&names))),
            [only] => with_pieces(&path.join(only), only),
            many => Err(not_a_model(
                path,
                format!(
                    "the folder has {} GGUF files; name one of {}",
                    many.len(),
                    join_names(many.iter().map(|name| name.as_str()))
                ),
            )),
        };
    }
    for needed in ["config.json", "tokenizer.json"] {
        if !has(needed) {
            return Err(not_a_model(
                path,
                format!("the folder has weights but no {needed}"),
            ));
        }
    }
    if has(INDEX) {
        let shards = shards_of_index(&path.join(INDEX))?;
        let missing: Vec<&str> = shards
            .iter()
            .map(String::as_str)
            .filter(|shard| !has(shard))
            .collect();
        if let [first, ..] = missing.as_slice() {
            return Err(not_a_model(
                path,
                format!(
                    "{} of the {} weight files that {INDEX} names are missing, such as {first}",
                    missing.len(),
                    shards.len(),
                ),
            ));
        }
    }
    Ok(ModelFiles::Folder(path.to_path_buf()))
}

fn no_weights(names: &[String]) -> String {
    let other = [".bin", ".pt", ".pth", ".h5", ".onnx"];
    let expected = "the folder has no *.safetensors and no *.gguf";
    match names
        .iter()
        .find(|name| other.iter().any(|ending| name.ends_with(ending)))
    {
        Some(name) => format!("{expected}; weights such as {name} are not read"),
        None => expected.to_owned(),
    }
}

/// Up to twelve names separated by commas, and how many more there are.
pub(crate) fn join_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let count = names.len();
    let mut text = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    if count > SHOWN {
        text.push_str(&format!(" and {} more", count - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn folder(files: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "{}").unwrap();
        }
        folder
    }

    fn refusal(path: &Path) -> String {
        let message = examine(path).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn a_gguf_file_is_taken_by_its_name_or_its_first_bytes() {
        let folder = folder(&["m.gguf", "M.GGUF"]);
        for name in ["m.gguf", "M.GGUF"] {
            let path = folder.path().join(name);
            assert_eq!(examine(&path).unwrap(), ModelFiles::Gguf(path));
        }
        let blob = folder.path().join("blob");
        fs::write(&blob, b"GGUF\x03\0\0\0").unwrap();
        assert_eq!(examine(&blob).unwrap(), ModelFiles::Gguf(blob));
    }

    #[test]
    fn other_files_are_refused_with_what_to_give_instead() {
        let folder = folder(&["model.safetensors", "notes.txt", "empty"]);
        fs::write(folder.path().join("empty"), "").unwrap();
        let message = refusal(&folder.path().join("model.safetensors"));
        assert!(message.contains("give the folder"), "{message}");
        for name in ["notes.txt", "empty"] {
            let message = refusal(&folder.path().join(name));
            assert!(message.contains("must be GGUF"), "{message}");
        }
    }

    #[test]
    fn a_folder_needs_configuration_tokenizer_and_weights() {
        let whole = folder(&["config.json", "tokenizer.json", "model.safetensors"]);
        assert_eq!(
            examine(whole.path()).unwrap(),
            ModelFiles::Folder(whole.path().into())
        );
        for (files, expected) in [
            (&[][..], "the folder is empty"),
            (&["tokenizer.json", "model.safetensors"], "no config.json"),
            (&["config.json", "model.safetensors"], "no tokenizer.json"),
            (&["config.json", "tokenizer.json"], "no *.safetensors"),
            (
                &["config.json", "pytorch_model.bin"],
                "pytorch_model.bin are not read",
            ),
            (&["a.gguf", "b.gguf"], "name one of a.gguf, b.gguf"),
        ] {
            let message = refusal(folder(files).path());
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_folder_with_one_gguf_file_means_that_file() {
        let folder = folder(&["README.md", "m.gguf"]);
        assert_eq!(
            examine(folder.path()).unwrap(),
            ModelFiles::Gguf(folder.path().join("m.gguf"))
        );
    }

    #[test]
    fn a_missing_shard_is_named() {
        let folder = folder(&["config.json", "tokenizer.json", "a.safetensors"]);
        fs::write(
            folder.path().join(INDEX),
            r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}"#,
        )
        .unwrap();
        let message = refusal(folder.path());
        assert!(message.contains("1 of the 2"), "{message}");
        assert!(message.contains("b.safetensors"), "{message}");
        fs::write(folder.path().join("b.safetensors"), "").unwrap();
        assert!(matches!(examine(folder.path()), Ok(ModelFiles::Folder(_))));
    }

    #[test]
    fn any_piece_of_a_split_gguf_means_all_of_them() {
        let names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        let both = folder(&names);
        let expected =
            ModelFiles::SplitGguf(names.iter().map(|name| both.path().join(name)).collect());
        assert_eq!(examine(&both.path().join(names[1])).unwrap(), expected);
        assert_eq!(examine(both.path()).unwrap(), expected);
        let message = refusal(&folder(&names[..1]).path().join(names[0]));
        assert!(
            message.contains("00002-of-00002.gguf` is missing"),
            "{message}"
        );
    }
}
