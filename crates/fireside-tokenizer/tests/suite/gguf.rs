//! Reads the metadata of a GGUF file: enough for a test, on files that are known to be good.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use fireside_tokenizer::GgufVocab;

/// A metadata value.
#[derive(Debug)]
pub(crate) enum Meta {
    Number(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Meta>),
}

impl Meta {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

struct Reader(BufReader<File>);

impl Reader {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("the file goes on");
        bytes
    }

    fn size(&mut self) -> usize {
        u64::from_le_bytes(self.bytes()) as usize
    }

    fn text(&mut self) -> String {
        let mut bytes = vec![0; self.size()];
        self.0.read_exact(&mut bytes).expect("the file goes on");
        String::from_utf8(bytes).expect("text is UTF-8")
    }

    fn value(&mut self, kind: u32) -> Meta {
        match kind {
            0 => Meta::Number(i64::from(u8::from_le_bytes(self.bytes()))),
            1 => Meta::Number(i64::from(i8::from_le_bytes(self.bytes()))),
            2 => Meta::Number(i64::from(u16::from_le_bytes(self.bytes()))),
            3 => Meta::Number(i64::from(i16::from_le_bytes(self.bytes()))),
            4 => Meta::Number(i64::from(u32::from_le_bytes(self.bytes()))),
            5 => Meta::Number(i64::from(i32::from_le_bytes(self.bytes()))),
            6 => Meta::Float(f64::from(f32::from_le_bytes(self.bytes()))),
            7 => Meta::Bool(self.bytes::<1>() != [0]),
            8 => Meta::Text(self.text()),
            9 => {
                let kind = u32::from_le_bytes(self.bytes());
                let count = self.size();
                Meta::List((0..count).map(|_| self.value(kind)).collect())
            }
            10 | 11 => Meta::Number(i64::from_le_bytes(self.bytes())),
            12 => Meta::Float(f64::from_le_bytes(self.bytes())),
            _ => panic!("unknown value type {kind}"),
        }
    }
}

/// The metadata of a file.
pub(crate) fn metadata(path: &Path) -> HashMap<String, Meta> {
    let mut reader = Reader(BufReader::new(File::open(path).expect("the file exists")));
    assert_eq!(&reader.bytes::<4>(), b"GGUF");
    let _version = u32::from_le_bytes(reader.bytes());
    let _tensors = reader.size();
    let count = reader.size();
    (0..count)
        .map(|_| {
            let key = reader.text();
            let kind = u32::from_le_bytes(reader.bytes());
            (key, reader.value(kind))
        })
        .collect()
}

/// The vocabulary that a file's metadata has.
pub(crate) fn vocab(meta: &HashMap<String, Meta>) -> GgufVocab<'_> {
    let get = |key: &str| meta.get(&format!("tokenizer.ggml.{key}"));
    let list = |key: &str| get(key).map_or(&[][..], Meta::list).iter();
    let id = |key: &str| get(key).and_then(Meta::number).map(|id| id as u32);
    let flag = |key: &str| get(key).and_then(Meta::flag);
    GgufVocab {
        model: get("model").and_then(Meta::text).unwrap_or_default(),
        pre: get("pre").and_then(Meta::text),
        tokens: list("tokens").filter_map(Meta::text).collect(),
        scores: list("scores")
            .filter_map(|score| score.float().map(|score| score as f32))
            .collect(),
        token_types: list("token_type")
            .filter_map(|kind| kind.number().map(|kind| kind as i32))
            .collect(),
        merges: list("merges").filter_map(Meta::text).collect(),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        eot: id("eot_token_id"),
        eom: id("eom_token_id"),
        unk: id("unknown_token_id"),
        pad: id("padding_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
        remove_extra_whitespaces: flag("remove_extra_whitespaces"),
    }
}
