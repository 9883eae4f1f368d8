//! Reads what a user wrote for a model and decides which kind of place it names.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::known::{self, KnownModel};

/// Which files of a repository are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The safetensors, or the GGUF file that suits most people.
    Any,
    /// The GGUF file of this quantization.
    Quant(String),
    /// The GGUF file of this name.
    File(String),
}

/// A repository on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubSpec {
    /// The repository as `owner/name`.
    pub(crate) repo: String,
    /// A branch, tag or commit.
    pub(crate) revision: String,
    /// Which of its files are wanted.
    pub(crate) pick: Pick,
}

/// The place a specification names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    /// A model of the table.
    Known(&'static KnownModel),
    /// A file or folder that exists.
    Local(PathBuf),
    /// A repository.
    Hub(HubSpec),
}

/// Decides what `spec` names.
///
/// A short name of the table comes first, so that it means the same in every folder; then what
/// exists on this disk; then the table's full names; then the hub.
pub(crate) fn classify(spec: &str) -> Result<Spec, Error> {
    let spec = spec.trim();
    let bad = |reason: &str| Error::BadSpec {
        spec: crate::error::one_line(spec),
        reason: reason.to_owned(),
    };
    if spec.is_empty() {
        return Err(bad("it is empty"));
    }
    if spec.chars().any(char::is_control) {
        return Err(bad("it has control characters"));
    }
    if spec.contains("://") {
        return Err(bad("addresses are not taken"));
    }
    if !spec.contains('/')
        && let Some(model) = known::by_alias(spec)
    {
        return Ok(Spec::Known(model));
    }
    let path = expand_home(spec);
    if path.exists() {
        return Ok(Spec::Local(path));
    }
    if looks_like_path(spec) {
        return Err(Error::PathNotFound { path });
    }
    if let Some(model) = known::by_alias(spec) {
        return Ok(Spec::Known(model));
    }
    match parse_hub(spec) {
        Parsed::Repository(hub) => Ok(Spec::Hub(hub)),
        Parsed::NotHub => Err(Error::PathNotFound { path }),
        Parsed::Malformed(reason) => Err(bad(reason)),
    }
}

/// A leading `~/` as the user's home, which shells leave alone in `--model=~/x`.
fn expand_home(spec: &str) -> PathBuf {
    match (spec.strip_prefix("~/"), dirs::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(spec),
    }
}

fn looks_like_path(spec: &str) -> bool {
    spec == "."
        || spec == ".."
        || ["./", "../", "~", "/"]
            .iter()
            .any(|start| spec.starts_with(start))
        || spec.ends_with('/')
        || spec.contains('\\')
        || Path::new(spec).is_absolute()
}

enum Parsed {
    Repository(HubSpec),
    /// It has not the form of a hub id, so a mistyped path is likelier.
    NotHub,
    Malformed(&'static str),
}

/// Reads `owner/name[/file.gguf][:quant][@revision]`, the last two in either order.
fn parse_hub(spec: &str) -> Parsed {
    let end = spec.find(['@', ':']).unwrap_or(spec.len());
    let (id, mut rest) = spec.split_at(end);
    let mut quant = None;
    let mut revision = None;
    while let Some(mark) = rest.chars().next() {
        let value = &rest[1..];
        let end = value.find(['@', ':']).unwrap_or(value.len());
        let (value, next) = value.split_at(end);
        let slot = if mark == ':' {
            &mut quant
        } else {
            &mut revision
        };
        if slot.replace(value).is_some() {
            return Parsed::Malformed("`:quant` and `@revision` may come once each");
        }
        rest = next;
    }

    let mut parts = id.splitn(3, '/');
    let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
        return Parsed::NotHub;
    };
    let file = parts.next();
    let file_is_gguf = file.is_some_and(is_gguf_name);
    if is_gguf_name(name) || (file.is_some() && !file_is_gguf) {
        return Parsed::NotHub;
    }
    if !is_repo_part(owner) || !is_repo_part(name) {
        return Parsed::Malformed("a hub id is `owner/name` of letters, digits, `-`, `_` and `.`");
    }
    if file.is_some_and(|file| !is_safe_file_name(file)) {
        return Parsed::Malformed("the file's name leaves the repository");
    }
    if quant.is_some_and(|q| q.is_empty() || !q.bytes().all(is_name_byte)) {
        return Parsed::Malformed("a quantization is named like `Q4_K_M`");
    }
    if revision.is_some_and(|r| !is_revision(r)) {
        return Parsed::Malformed("a revision is a branch, a tag or a commit");
    }
    let pick = match (file, quant) {
        (Some(_), Some(_)) => {
            return Parsed::Malformed("a file and a quantization exclude each other");
        }
        (Some(file), None) => Pick::File(file.to_owned()),
        (None, Some(quant)) => Pick::Quant(quant.to_owned()),
        (None, None) => Pick::Any,
    };
    Parsed::Repository(HubSpec {
        repo: format!("{owner}/{name}"),
        revision: revision.unwrap_or("main").to_owned(),
        pick,
    })
}

/// True if the name ends in `.gguf`, whatever its case.
pub(crate) fn is_gguf_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 5 && bytes[bytes.len() - 5..].eq_ignore_ascii_case(b".gguf")
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// The hub's own rules, which also make a safe folder name of it.
fn is_repo_part(part: &str) -> bool {
    (1..=96).contains(&part.len())
        && part.bytes().all(is_name_byte)
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !part.contains("--")
        && !part.contains("..")
}

fn is_revision(revision: &str) -> bool {
    (1..=200).contains(&revision.len())
        && revision.bytes().all(|b| is_name_byte(b) || b == b'/')
        && !revision.starts_with(['-', '/', '.'])
        && !revision.ends_with('/')
        && !revision.contains("..")
        && !revision.contains("//")
}

/// True if a file's name inside a repository stays inside the folder it is joined to, on every
/// platform.
pub(crate) fn is_safe_file_name(name: &str) -> bool {
    (1..=400).contains(&name.len())
        && !name.contains(['\\', ':'])
        && !name.chars().any(char::is_control)
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(spec: &str) -> HubSpec {
        match classify(spec) {
            Ok(Spec::Hub(hub)) => hub,
            other => panic!("{spec}: {other:?}"),
        }
    }

    #[test]
    fn hub_ids_take_a_file_a_quantization_and_a_revision() {
        let plain = hub("owner/some-model.v1");
        assert_eq!(plain.repo, "owner/some-model.v1");
        assert_eq!(plain.revision, "main");
        assert_eq!(plain.pick, Pick::Any);
        assert_eq!(hub("owner/name:q8_0").pick, Pick::Quant("q8_0".into()));
        assert_eq!(
            hub("owner/name/sub/a.Q4_0.gguf").pick,
            Pick::File("sub/a.Q4_0.gguf".into())
        );
        assert_eq!(hub("owner/name@refs/pr/1").revision, "refs/pr/1");
        for both in ["owner/name:Q4_0@v2", "owner/name@v2:Q4_0"] {
            assert_eq!(hub(both).revision, "v2");
            assert_eq!(hub(both).pick, Pick::Quant("Q4_0".into()));
        }
    }

    #[test]
    fn the_default_models_names_are_known() {
        for name in ["smollm2", "SmolLM2", "HuggingFaceTB/SmolLM2-135M-Instruct"] {
            assert!(
                matches!(classify(name), Ok(Spec::Known(model)) if model == &known::DEFAULT_MODEL),
                "{name}"
            );
        }
        // A revision or quantization asks for the repository itself.
        assert_eq!(
            hub("HuggingFaceTB/SmolLM2-135M-Instruct@main").pick,
            Pick::Any
        );
    }

    #[test]
    fn what_exists_is_local_and_what_looks_like_a_path_is_never_sent_to_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(classify(path).unwrap(), Spec::Local(folder.path().into()));
        for missing in [
            "./owner/name",
            "/nowhere/model",
            "model.gguf",
            "models/model.gguf",
            "nothing-here",
            "a/b/c",
            "owner/name/",
            r"C:\models\m",
        ] {
            assert!(
                matches!(classify(missing), Err(Error::PathNotFound { .. })),
                "{missing}"
            );
        }
        let message = classify("model.gguf").unwrap_err().to_string();
        for kind in ["GGUF file", "config.json", "smollm2", "owner/name"] {
            assert!(message.contains(kind), "{message}");
        }
    }

    #[test]
    fn malformed_specifications_are_errors() {
        for bad in [
            "",
            "  ",
            "a\u{0}b",
            "https://example.com/x",
            "own er/name",
            "owner/na..me",
            "owner/name:",
            "owner/name@",
            "owner/name@../../x",
            "owner/name:Q4_0:Q8_0",
            "owner/name/a.gguf:Q4_0",
            "owner/name/../../a.gguf",
        ] {
            assert!(
                matches!(classify(bad), Err(Error::BadSpec { .. })),
                "{bad:?}: {:?}",
                classify(bad)
            );
        }
    }

    #[test]
    fn unsafe_file_names_are_seen() {
        for bad in ["", "/a", "a//b", "../a", "a/..", "a\\b", "C:a", "a\n"] {
            assert!(!is_safe_file_name(bad), "{bad:?}");
        }
        assert!(is_safe_file_name("Q4_K_M/model-00001-of-00002.gguf"));
    }
}
