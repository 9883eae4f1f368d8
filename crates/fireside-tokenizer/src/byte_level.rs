//! The alphabet of byte-level BPE, in which each byte is written as one printable character.

use std::sync::LazyLock;

/// Character of each byte: printable Latin-1 stands for itself, the others follow from U+0100 on.
static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100u32;
    std::array::from_fn(|byte| {
        let code = match byte {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => byte as u32,
            _ => {
                next += 1;
                next - 1
            }
        };
        char::from_u32(code).unwrap_or('\u{FFFD}')
    })
});

/// Byte of each character below U+0144, the end of the alphabet.
static BYTES: LazyLock<[Option<u8>; 0x144]> = LazyLock::new(|| {
    let mut table = [None; 0x144];
    for (byte, &c) in (0u8..=255).zip(CHARS.iter()) {
        if let Some(slot) = table.get_mut(c as usize) {
            *slot = Some(byte);
        }
    }
    table
});

/// The byte that a character of the alphabet stands for.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    BYTES.get(c as usize).copied().flatten()
}

/// Appends the bytes of a token; a token with a character outside the alphabet stands for its own UTF-8.
pub(crate) fn append_bytes(token: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for c in token.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(start);
                out.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let mut seen = std::collections::BTreeSet::new();
        for byte in 0..=255u8 {
            let c = CHARS[usize::from(byte)];
            assert!(seen.insert(c));
            assert_eq!(byte_of(c), Some(byte));
            assert!(!c.is_whitespace() && !c.is_control());
        }
        assert_eq!(CHARS[usize::from(b' ')], 'Ġ');
        assert_eq!(CHARS[usize::from(b'\n')], 'Ċ');
    }

    #[test]
    fn a_token_outside_the_alphabet_stands_for_its_utf8() {
        let mut out = b"x".to_vec();
        append_bytes("a b", &mut out);
        assert_eq!(out, b"xa b");
        append_bytes("ĠÃ©", &mut out);
        assert_eq!(out, "xa b é".as_bytes());
    }
}
