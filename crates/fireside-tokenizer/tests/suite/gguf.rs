//! Reads the metadata of a GGUF file: enough for a test, on files that are known to be good.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// A metadata value.
#[derive(Debug)]
pub(crate) enum Meta {
    Number(i64),
    Float,
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
            6 => {
                self.bytes::<4>();
                Meta::Float
            }
            7 => Meta::Bool(self.bytes::<1>() != [0]),
            8 => Meta::Text(self.text()),
            9 => {
                let kind = u32::from_le_bytes(self.bytes());
                let count = self.size();
                Meta::List((0..count).map(|_| self.value(kind)).collect())
            }
            10 | 11 => Meta::Number(i64::from_le_bytes(self.bytes())),
            12 => {
                self.bytes::<8>();
                Meta::Float
            }
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
