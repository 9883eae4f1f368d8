//! Turns a stream of bytes into text without ever cutting a character.

/// How many U+FFFD stand for bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// One for each broken sequence, as byte-level BPE decoders do (Unicode's "maximal subpart").
    PerSequence,
    /// One for each byte, as SentencePiece does.
    PerByte,
}

/// Decodes UTF-8 that arrives in pieces; keeps at most three bytes of an unfinished character.
#[derive(Debug, Clone)]
pub(crate) struct Utf8Stream {
    tail: [u8; 4],
    tail_len: usize,
    replacement: Replacement,
}

impl Utf8Stream {
    pub(crate) fn new(replacement: Replacement) -> Self {
        Self {
            tail: [0; 4],
            tail_len: 0,
            replacement,
        }
    }

    /// Appends to `out` the characters that `bytes` completes.
    pub(crate) fn push(&mut self, mut bytes: &[u8], out: &mut String) {
        while self.tail_len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return;
            };
            self.tail[self.tail_len] = byte;
            match std::str::from_utf8(&self.tail[..=self.tail_len]) {
                Ok(text) => {
                    out.push_str(text);
                    self.tail_len = 0;
                    bytes = rest;
                }
                // The byte belongs to the character, which needs still more.
                Err(error) if error.error_len().is_none() => {
                    self.tail_len += 1;
                    bytes = rest;
                }
                // The byte does not belong to it: the tail is broken, and the byte starts anew.
                Err(_) => self.replace_tail(out),
            }
        }
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => return out.push_str(text),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    match error.error_len() {
                        Some(length) => {
                            self.replace(length, out);
                            bytes = &rest[length..];
                        }
                        None => {
                            // At most three bytes: the beginning of a character.
                            self.tail[..rest.len()].copy_from_slice(rest);
                            self.tail_len = rest.len();
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Appends replacement characters for an unfinished character, if there is one.
    pub(crate) fn finish(&mut self, out: &mut String) {
        if self.tail_len > 0 {
            self.replace_tail(out);
        }
    }

    fn replace_tail(&mut self, out: &mut String) {
        let length = std::mem::take(&mut self.tail_len);
        self.replace(length, out);
    }

    fn replace(&self, length: usize, out: &mut String) {
        let count = match self.replacement {
            Replacement::PerSequence => 1,
            Replacement::PerByte => length,
        };
        out.extend(std::iter::repeat_n('\u{FFFD}', count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(chunks: &[&[u8]], replacement: Replacement) -> String {
        let mut stream = Utf8Stream::new(replacement);
        let mut out = String::new();
        for chunk in chunks {
            stream.push(chunk, &mut out);
        }
        stream.finish(&mut out);
        out
    }

    #[test]
    fn an_unfinished_character_is_held_back() {
        let mut stream = Utf8Stream::new(Replacement::PerSequence);
        let mut out = String::new();
        for byte in "🔥".bytes().take(3) {
            stream.push(&[byte], &mut out);
            assert_eq!(out, "");
        }
        stream.push(&"🔥".as_bytes()[3..], &mut out);
        assert_eq!(out, "🔥");
    }

    #[test]
    fn broken_bytes_are_counted_as_each_kind_of_decoder_does() {
        let bytes: &[u8] = b"\xF0\x9F\x94a\xFF";
        assert_eq!(
            decode(&[bytes], Replacement::PerSequence),
            "\u{FFFD}a\u{FFFD}"
        );
        assert_eq!(
            decode(&[bytes], Replacement::PerByte),
            "\u{FFFD}\u{FFFD}\u{FFFD}a\u{FFFD}"
        );
    }

    /// Bytes that are often almost UTF-8.
    fn near_utf8() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(
            prop_oneof![
                any::<u8>().prop_map(|byte| vec![byte]),
                any::<char>().prop_map(|c| c.to_string().into_bytes()),
                (any::<char>(), 0usize..4).prop_map(|(c, keep)| {
                    let mut bytes = c.to_string().into_bytes();
                    bytes.truncate(keep);
                    bytes
                }),
            ],
            0..12,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn chunks_decode_as_the_whole_does(bytes in near_utf8(), cuts in prop::collection::vec(0usize..40, 0..6)) {
            prop_assert_eq!(
                decode(&[&bytes], Replacement::PerSequence),
                String::from_utf8_lossy(&bytes).into_owned()
            );
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut start = 0;
            let chunks: Vec<&[u8]> = cuts
                .into_iter()
                .map(|end| {
                    let chunk = &bytes[start..end];
                    start = end;
                    chunk
                })
                .collect();
            for replacement in [Replacement::PerSequence, Replacement::PerByte] {
                prop_assert_eq!(decode(&chunks, replacement), decode(&[&bytes], replacement));
            }
        }
    }
}
