//! Models in several GGUF files, as `gguf-split` writes them: their names, and what each part says of
//! the whole.

use std::collections::BTreeMap;

use crate::{FormatError, Gguf};

/// More parts than any published model has.
const MAX_PARTS: u32 = 4096;

const NUMBER_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSORS_KEY: &str = "split.tensors.count";

/// A name of the form `PREFIX-00001-of-00003.gguf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitName<'a> {
    prefix: &'a str,
    number: u32,
    count: u32,
}

impl<'a> SplitName<'a> {
    /// Reads a file's name or path; `None` if the file is not a part of several.
    ///
    /// ```
    /// use fireside_formats::SplitName;
    ///
    /// let name = SplitName::parse("model-00002-of-00003.gguf").unwrap();
    /// assert_eq!((name.prefix(), name.number(), name.count()), ("model", 2, 3));
    /// assert_eq!(name.all().last().unwrap(), "model-00003-of-00003.gguf");
    /// assert!(SplitName::parse("model.gguf").is_none());
    /// ```
    pub fn parse(name: &'a str) -> Option<Self> {
        let stem = name.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| -> Option<u32> {
            (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse().ok())?
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (number >= 1 && number <= count && count <= MAX_PARTS).then_some(Self {
            prefix,
            number,
            count,
        })
    }

    /// The name without the numbers and the ending.
    pub fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// Which part it is, counted from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How many parts there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The names of all parts in order.
    pub fn all(&self) -> impl Iterator<Item = String> + use<'a> {
        let (prefix, count) = (self.prefix, self.count);
        (1..=count).map(move |number| format!("{prefix}-{number:05}-of-{count:05}.gguf"))
    }
}

/// How many parts the model of a file has, by the file's metadata; 1 for a whole model.
pub(crate) fn parts_of(gguf: &Gguf) -> Result<u64, FormatError> {
    Ok(gguf.find(COUNT_KEY)?.unwrap_or(1))
}

/// What a part says of itself and of the whole.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// Which one it is, counted from 0.
    pub(crate) number: u64,
    count: u64,
    /// Tensors of all parts together, where it says so.
    tensors: Option<u64>,
}

impl Part {
    /// Reads it from the metadata of a file.
    ///
    /// # Errors
    ///
    /// The file is no part.
    pub(crate) fn of(gguf: &Gguf) -> Result<Self, FormatError> {
        let count = gguf.find(COUNT_KEY)?.ok_or(FormatError::NotAPart)?;
        let number = gguf.require(NUMBER_KEY)?;
        if number >= count {
            return Err(FormatError::PartNumber { number, count });
        }
        let tensors = gguf.find(TENSORS_KEY)?;
        Ok(Self {
            number,
            count,
            tensors,
        })
    }
}

/// The parts of one model, collected in any order and held against each other.
pub(crate) struct Parts<T> {
    /// The first one that came: the others must agree with it.
    first: Option<(String, Part)>,
    found: BTreeMap<u64, (String, T)>,
}

impl<T> Parts<T> {
    pub(crate) fn new() -> Self {
        Self {
            first: None,
            found: BTreeMap::new(),
        }
    }

    /// Takes in the part in `file`, with what is to be kept of it.
    ///
    /// # Errors
    ///
    /// It is of another model, or there already.
    pub(crate) fn add(&mut self, file: &str, part: Part, kept: T) -> Result<(), FormatError> {
        let (first, said) = self.first.get_or_insert_with(|| (file.to_owned(), part));
        let pairs = [
            (COUNT_KEY, Some(part.count), Some(said.count)),
            (TENSORS_KEY, part.tensors, said.tensors),
        ];
        for (key, found, expected) in pairs {
            if found != expected {
                let shown = |value: Option<u64>| value.map_or("missing".into(), |v| v.to_string());
                return Err(FormatError::ForeignPart {
                    key,
                    found: shown(found),
                    expected: shown(expected),
                    first: first.clone(),
                });
            }
        }
        if let Some((first, _)) = self.found.get(&part.number) {
            return Err(FormatError::DuplicatePart {
                part: part.number + 1,
                count: part.count,
                first: first.clone(),
            });
        }
        self.found.insert(part.number, (file.to_owned(), kept));
        Ok(())
    }

    /// How many tensors they should have together, where they say so.
    pub(crate) fn tensors(&self) -> Option<u64> {
        self.first.as_ref().and_then(|(_, part)| part.tensors)
    }

    /// The parts in their order.
    ///
    /// # Errors
    ///
    /// One is missing.
    pub(crate) fn whole(self) -> Result<Vec<(String, T)>, FormatError> {
        let Some((_, said)) = self.first else {
            return Err(FormatError::NoParts);
        };
        // However many it claims, the first gap comes after as many as there are.
        if let Some(missing) = (0..said.count).find(|number| !self.found.contains_key(number)) {
            return Err(FormatError::MissingPart {
                part: missing + 1,
                count: said.count,
            });
        }
        Ok(self.found.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_recognized_by_name() {
        let name = SplitName::parse("dir/m-Q4_0-00002-of-00003.gguf").unwrap();
        assert_eq!((name.number(), name.count()), (2, 3));
        assert_eq!(
            name.all().collect::<Vec<_>>(),
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
            assert_eq!(SplitName::parse(whole), None, "{whole}");
        }
    }
}
