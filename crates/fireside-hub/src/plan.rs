//! Chooses which files of a repository make up the model.

use fireside_formats::SplitName;

use crate::error::Error;
use crate::listing::{Listing, RemoteFile};
use crate::local::{INDEX, WEIGHTS, join_names};
use crate::spec::{Pick, is_gguf_name};

/// The quantizations that are taken when none was asked for, best compromise first.
const PREFERRED: [&str; 4] = ["Q4_K_M", "Q4_0", "Q4_1", "Q8_0"];

/// Files beside the weights that a folder model needs or may have.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
const OPTIONAL: [&str; 9] = [
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// The files to have before the model can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan<'a> {
    /// A GGUF file, or the pieces of one in order.
    Gguf(Vec<&'a RemoteFile>),
    /// A folder: these files, and if the last one is an index also the shards it names.
    Folder(Vec<&'a RemoteFile>),
}

/// Chooses the files of `repo` that `pick` asks for.
pub(crate) fn plan<'a>(repo: &str, listing: &'a Listing, pick: &Pick) -> Result<Plan<'a>, Error> {
    match pick {
        Pick::File(name) => {
            let file = listing
                .find(name)
                .ok_or_else(|| lacks(repo, listing, &format!("has no file {name}")))?;
            pieces(repo, listing, file).map(Plan::Gguf)
        }
        Pick::Quant(quant) => {
            let found: Vec<_> = candidates(listing)
                .into_iter()
                .filter(|file| has_quant(&file.name, quant))
                .collect();
            match found.as_slice() {
                [only] => pieces(repo, listing, only).map(Plan::Gguf),
                [] => Err(lacks(repo, listing, &format!("has no {quant} GGUF file"))),
                many => Err(Error::Repository {
                    repo: repo.to_owned(),
                    reason: format!(
                        "has more than one {quant} GGUF file; name one of {} as {repo}/FILE",
                        join_names(many.iter().map(|file| file.name.as_str()))
                    ),
                }),
            }
        }
        Pick::Any => any(repo, listing),
    }
}

fn any<'a>(repo: &str, listing: &'a Listing) -> Result<Plan<'a>, Error> {
    let weights = listing.find(INDEX).or_else(|| listing.find(WEIGHTS));
    if let Some(weights) = weights {
        let mut files = Vec::new();
        for name in REQUIRED {
            let file = listing.find(name).ok_or_else(|| Error::Repository {
                repo: repo.to_owned(),
                reason: format!("has weights but no {name}"),
            })?;
            files.push(file);
        }
        files.extend(OPTIONAL.iter().filter_map(|name| listing.find(name)));
        files.push(weights);
        return Ok(Plan::Folder(files));
    }
    let candidates = candidates(listing);
    if let [only] = candidates.as_slice() {
        return pieces(repo, listing, only).map(Plan::Gguf);
    }
    for quant in PREFERRED {
        if let Some(file) = candidates.iter().find(|file| has_quant(&file.name, quant)) {
            return pieces(repo, listing, file).map(Plan::Gguf);
        }
    }
    let reason = if candidates.is_empty() {
        format!("has no {WEIGHTS}, no {INDEX} and no GGUF file")
    } else {
        format!(
            "has no GGUF file of the usual kinds ({})",
            PREFERRED.join(", ")
        )
    };
    Err(lacks(repo, listing, &reason))
}

/// The GGUF files that hold a language model, each split one by its first piece.
fn candidates(listing: &Listing) -> Vec<&RemoteFile> {
    listing
        .files
        .iter()
        .filter(|file| is_gguf_name(&file.name))
        .filter(|file| {
            let name = file.name.rsplit('/').next().unwrap_or(&file.name);
            let name = name.to_ascii_lowercase();
            // Vision projectors and calibration data are GGUF files too.
            !name.starts_with("mmproj") && !name.contains("imatrix")
        })
        .filter(|file| SplitName::parse(&file.name).is_none_or(|piece| piece.number() == 1))
        .collect()
}

/// True if the file's name, without its ending and piece numbers, ends in the quantization.
fn has_quant(name: &str, quant: &str) -> bool {
    let stem = match SplitName::parse(name) {
        Some(piece) => piece.prefix(),
        None => &name[..name.len().saturating_sub(".gguf".len())],
    };
    let (stem, quant) = (stem.to_ascii_lowercase(), quant.to_ascii_lowercase());
    stem.strip_suffix(&quant)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '_', '.', '/']))
}

/// The file with the other pieces that its name promises.
fn pieces<'a>(
    repo: &str,
    listing: &'a Listing,
    file: &'a RemoteFile,
) -> Result<Vec<&'a RemoteFile>, Error> {
    let Some(piece) = SplitName::parse(&file.name) else {
        return Ok(vec![file]);
    };
    piece
        .all()
        .map(|name| {
            listing.find(&name).ok_or_else(|| Error::Repository {
                repo: repo.to_owned(),
                reason: format!("lacks the piece {name}"),
            })
        })
        .collect()
}

/// An error that ends with the GGUF files that there are.
fn lacks(repo: &str, listing: &Listing, what: &str) -> Error {
    let candidates = candidates(listing);
    let choices = if candidates.is_empty() {
        String::new()
    } else {
        format!(
            "; it has {}",
            join_names(candidates.iter().map(|file| file.name.as_str()))
        )
    };
    Error::Repository {
        repo: repo.to_owned(),
        reason: format!("{what}{choices}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        Listing {
            commit: "c".repeat(40),
            files: names
                .iter()
                .map(|name| RemoteFile {
                    name: (*name).to_owned(),
                    size: None,
                    promise: None,
                })
                .collect(),
        }
    }

    fn chosen(names: &[&str], pick: &Pick) -> Result<Vec<String>, String> {
        let listing = listing(names);
        let (Plan::Gguf(files) | Plan::Folder(files)) =
            plan("o/n", &listing, pick).map_err(|e| e.to_string())?;
        Ok(files.iter().map(|file| file.name.clone()).collect())
    }

    #[test]
    fn a_quantization_is_found_whatever_its_case_and_separator() {
        let names = [
            "m-Q4_K_M.gguf",
            "m.Q4_0.gguf",
            "m-iq4_xs.gguf",
            "m_f16.gguf",
        ];
        for (quant, expected) in [
            ("q4_k_m", "m-Q4_K_M.gguf"),
            ("Q4_0", "m.Q4_0.gguf"),
            ("IQ4_XS", "m-iq4_xs.gguf"),
            ("F16", "m_f16.gguf"),
        ] {
            let pick = Pick::Quant(quant.into());
            assert_eq!(chosen(&names, &pick).unwrap(), [expected]);
        }
        let message = chosen(&names, &Pick::Quant("Q8_0".into())).unwrap_err();
        assert!(message.contains("no Q8_0 GGUF file; it has m-Q4_K_M.gguf, "));
        // `Q4` is not the whole of any quantization's name.
        assert!(chosen(&names, &Pick::Quant("Q4".into())).is_err());
    }

    #[test]
    fn the_default_is_the_best_compromise_there_is() {
        let pick = &Pick::Any;
        let names = [
            "m.Q8_0.gguf",
            "m.Q4_1.gguf",
            "mmproj-m-f16.gguf",
            "m.Q2_K.gguf",
        ];
        assert_eq!(chosen(&names, pick).unwrap(), ["m.Q4_1.gguf"]);
        assert_eq!(
            chosen(&["odd.gguf", "README.md"], pick).unwrap(),
            ["odd.gguf"]
        );
        let message = chosen(&["a.Q2_K.gguf", "a.Q3_K_S.gguf"], pick).unwrap_err();
        assert!(message.contains("a.Q2_K.gguf, a.Q3_K_S.gguf"), "{message}");
        let message = chosen(&["README.md"], pick).unwrap_err();
        assert!(message.contains("no GGUF file"), "{message}");
    }

    #[test]
    fn two_files_of_one_quantization_are_an_error_that_names_both() {
        let names = ["a-Q4_0.gguf", "b-Q4_0.gguf"];
        let message = chosen(&names, &Pick::Quant("Q4_0".into())).unwrap_err();
        assert!(message.contains("a-Q4_0.gguf, b-Q4_0.gguf"), "{message}");
    }

    #[test]
    fn safetensors_come_with_configuration_and_tokenizer() {
        let names = [
            "README.md",
            "config.json",
            "model.safetensors",
            "model.Q4_0.gguf",
            "onnx/model.onnx",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(
            chosen(&names, &Pick::Any).unwrap(),
            [
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "model.safetensors"
            ]
        );
        let message = chosen(&["config.json", "model.safetensors"], &Pick::Any).unwrap_err();
        assert!(message.contains("no tokenizer.json"), "{message}");
        let sharded = ["config.json", "tokenizer.json", INDEX, "a.safetensors"];
        assert_eq!(chosen(&sharded, &Pick::Any).unwrap().last().unwrap(), INDEX);
    }

    #[test]
    fn a_split_file_needs_all_of_its_pieces() {
        let names = [
            "q/m-Q4_0-00001-of-00002.gguf",
            "q/m-Q4_0-00002-of-00002.gguf",
        ];
        for pick in [
            Pick::Any,
            Pick::Quant("q4_0".into()),
            Pick::File(names[1].into()),
        ] {
            assert_eq!(chosen(&names, &pick).unwrap(), names);
        }
        let message = chosen(&names[..1], &Pick::Any).unwrap_err();
        assert!(
            message.contains("lacks the piece q/m-Q4_0-00002"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_file_is_answered_with_the_choices() {
        let message = chosen(&["a.gguf"], &Pick::File("b.gguf".into())).unwrap_err();
        assert!(
            message.contains("has no file b.gguf; it has a.gguf"),
            "{message}"
        );
    }
}
