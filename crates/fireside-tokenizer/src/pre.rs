//! How byte-level BPE vocabularies split text before merging, by the name that GGUF files give.
//!
//! The patterns are those of the models' published tokenizers. Each one cuts the pieces that the one before it left:
//! a match becomes a piece of its own, and so does the text between matches.

use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use crate::Error;

/// One way to split.
#[derive(Debug)]
pub(crate) struct Pre {
    /// The names of `tokenizer.ggml.pre` that mean it.
    names: &'static [&'static str],
    /// Patterns, applied one after another.
    splits: &'static [&'static str],
    /// Whether a piece that is a token is taken whole, without merging.
    pub(crate) ignore_merges: bool,
    /// Whether a begin-of-sequence token is added if the file does not say.
    pub(crate) add_bos: bool,
    /// Whether text is brought to Unicode form NFC first.
    nfc: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const FALCON_PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const DEFAULT_PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
const CJK: &str = r"[\u{4E00}-\u{9FA5}\u{0800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
/// Letters with case, as the published pattern lists them.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[",
    r"A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}",
    r"\u{295}-\u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}",
    r"\u{38E}-\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}",
    r"\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}",
    r"\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}",
    r"\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}",
    r"\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}",
    r"\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}",
    r"\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}",
    r"\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}",
    r"\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}",
    r"\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}",
    r"\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}",
    r"\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}",
    "]+"
);
const DEEPSEEK_PUNCTUATION: &str =
    r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// A row of the table with the usual values.
const fn row(names: &'static [&'static str], splits: &'static [&'static str]) -> Pre {
    Pre {
        names,
        splits,
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    }
}

/// Every known way to split.
static TABLE: &[Pre] = &[
    row(
        &["default"],
        &[DEFAULT_PUNCTUATION, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    ),
    row(
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        &[GPT2],
    ),
    Pre {
        nfc: true,
        ..row(&["mpt", "olmo"], &[GPT2])
    },
    row(
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        &[r"\p{N}", GPT2],
    ),
    Pre {
        ignore_merges: true,
        add_bos: true,
        ..row(
            &[
                "llama-bpe",
                "llama3",
                "llama-v3",
                "falcon3",
                "falcon-h1",
                "pixtral",
                "midm-2.0",
                "lfm2",
                "jina-v5-nano",
            ],
            &[LLAMA3],
        )
    },
    row(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    Pre {
        ignore_merges: true,
        ..row(&["glm4", "glm5"], &[LLAMA3])
    },
    Pre {
        nfc: true,
        ..row(&["qwen2", "f2llmv2"], &[QWEN2])
    },
    row(
        &[
            "stablelm2",
            "deepseek-r1-qwen",
            "kormo",
            "megrez",
            "hunyuan",
            "grok-2",
            "solar-open",
        ],
        &[QWEN2],
    ),
    Pre {
        nfc: true,
        ..row(&["qwen35"], &[QWEN35])
    },
    row(
        &["gpt-4o", "llama4", "minimax-m2", "kanana2", "talkie"],
        &[O200K],
    ),
    Pre {
        ignore_merges: true,
        add_bos: true,
        ..row(&["tekken"], &[TEKKEN])
    },
    row(&["falcon"], &[FALCON_PUNCTUATION, GPT2, "[0-9][0-9][0-9]"]),
    row(
        &["deepseek-llm"],
        &[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            DEEPSEEK_PUNCTUATION,
            r"\s+$",
            CJK,
            r"\p{N}+",
        ],
    ),
    row(
        &["deepseek-coder"],
        &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
    ),
    row(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[
            r"\p{N}{1,3}",
            r"[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+",
            DEEPSEEK_V3,
        ],
    ),
    row(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM]),
    row(&["viking"], &[BLOOM, r"\p{N}"]),
    row(&["superbpe"], &[r"\p{N}+", r"(?=(\d{3})+(?!\d))"]),
    row(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    row(&["seed-coder"], &[SEED]),
    Pre {
        add_bos: true,
        ..row(
            &["chameleon"],
            &[
                "<sentinel:[0-9]+>",
                "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                r"([\t\n]|    |  )",
                r"\p{N}",
                r"[\p{P}!-/:-@\[-`{-~]",
                GPT2,
            ],
        )
    },
];

/// The way to split that a name means. A file without a name gets `default`, as in llama.cpp.
pub(crate) fn find(name: Option<&str>) -> Result<&'static Pre, Error> {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("default");
    TABLE
        .iter()
        .find(|pre| pre.names.contains(&name))
        .ok_or_else(|| Error::UnknownPreTokenizer {
            pre: crate::error::shorten(name, 60),
            known: TABLE
                .iter()
                .flat_map(|pre| pre.names)
                .copied()
                .collect::<Vec<_>>()
                .join(", "),
        })
}

impl Pre {
    /// The pre-tokenizer: the patterns, then bytes to characters.
    pub(crate) fn pre_tokenizer(&self) -> tokenizers::Result<PreTokenizerWrapper> {
        let mut steps = Vec::with_capacity(self.splits.len() + 1);
        for &pattern in self.splits {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps).into())
    }

    /// The normalizer, for those that have one.
    pub(crate) fn normalizer(&self) -> Option<NormalizerWrapper> {
        self.nfc.then(|| NFC.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn split(name: &str, text: &str) -> Vec<String> {
        let mut pieces = PreTokenizedString::from(text);
        find(Some(name))
            .unwrap()
            .pre_tokenizer()
            .unwrap()
            .pre_tokenize(&mut pieces)
            .unwrap();
        pieces
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(_, (start, end), _)| text[start..end].to_owned())
            .collect()
    }

    #[test]
    fn every_pattern_compiles_and_loses_no_text() {
        let text = "It's 12345 l'été,\n\n  日本語 <sentinel:3> IMGIMGABZ ÀB $x+1 !!\r\n\t🔥end   ";
        for pre in TABLE {
            for name in pre.names {
                assert_eq!(split(name, text).concat(), text, "{name}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for name in TABLE.iter().flat_map(|pre| pre.names) {
            assert!(seen.insert(name), "{name}");
        }
    }

    #[test]
    fn digits_are_grouped_as_each_family_does() {
        assert_eq!(split("gpt-2", "a 12345"), ["a", " 12345"]);
        assert_eq!(split("smollm", "a 123"), ["a", " ", "1", "2", "3"]);
        assert_eq!(split("llama-bpe", "a 12345"), ["a", " ", "123", "45"]);
        assert_eq!(split("qwen2", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(
            split("superbpe", "a 1234567 b"),
            ["a ", "1", "234", "567", " b"]
        );
    }

    #[test]
    fn case_and_contractions_are_split_as_each_family_does() {
        assert_eq!(split("gpt-2", "IT'S"), ["IT", "'", "S"]);
        assert_eq!(split("llama-bpe", "IT'S"), ["IT", "'S"]);
        assert_eq!(split("gpt-4o", "helloWorld's"), ["hello", "World's"]);
        assert_eq!(split("tekken", "helloWorld"), ["hello", "World"]);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = find(Some("no-such")).unwrap_err().to_string();
        assert!(
            message.contains("\"no-such\"") && message.contains("smollm, starcoder"),
            "{message}"
        );
        assert_eq!(find(None).unwrap().names, ["default"]);
    }
}
