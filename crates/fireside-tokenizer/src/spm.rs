//! SentencePiece BPE: pairs are merged by the score of what they make, and what has no token is written in bytes.
//!
//! A space is written as U+2581 `▁`. Text between special tokens is one sequence of characters; the pair of neighbours
//! whose union is the token with the highest score is merged, the leftmost first among equals, until no union is a
//! token. Neighbours are kept in a linked list and candidates in a heap, so the time is `n log n` in the text's length.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use aho_corasick::{AhoCorasick, MatchKind};

use crate::decoder::{DecodeRules, fallback_byte};
use crate::gguf::TokenType;
use crate::table::TokenTable;
use crate::tokenizer::{Backend, Inner};
use crate::{Error, GgufVocab, SpecialText, Tokenizer};

/// How SentencePiece writes a space.
const SPACE: &str = "▁";

/// A SentencePiece BPE vocabulary, ready to encode.
#[derive(Debug)]
pub(crate) struct SpmModel {
    pieces: Vec<Box<str>>,
    ids: HashMap<Box<str>, u32>,
    /// Score of each token that merging can make; `None` for those that it cannot.
    scores: Vec<Option<f32>>,
    longest: usize,
    bytes: Option<Box<[u32; 256]>>,
    unk: Option<u32>,
    /// Tokens that are cut out of a text first.
    special: Matcher,
    /// The same without those that a user must not be able to write.
    plain: Matcher,
    /// Those of them that take the white space after them along, ascending.
    trimming: Vec<u32>,
    space_prefix: bool,
    join_spaces: bool,
}

/// Finds whole tokens in a text, the longest at the leftmost place.
#[derive(Debug)]
struct Matcher {
    automaton: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl Matcher {
    fn new(patterns: Vec<(String, u32)>) -> Result<Self, Error> {
        let (texts, ids): (Vec<String>, Vec<u32>) = patterns.into_iter().unzip();
        let automaton = match texts.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(texts)
                    .map_err(|_| Error::VocabularyTooLarge {
                        what: "the number of special tokens",
                        actual: ids.len() as u64,
                        limit: u64::from(u32::MAX >> 1),
                    })?,
            ),
        };
        Ok(Self { automaton, ids })
    }
}

/// One or more characters that are one token so far.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: u32,
    /// Length in bytes; 0 once it is merged into its left neighbour.
    length: u32,
    previous: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// Two neighbours whose union is a token.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    score: f32,
    left: u32,
    right: u32,
    /// Length of the union when it was found; if it no longer fits, one of the two has been merged since.
    length: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

pub(crate) fn build(vocab: &GgufVocab<'_>) -> Result<Tokenizer, Error> {
    // What SentencePiece itself uses where a file does not say.
    let special = vocab.special_tokens([Some(1), Some(2), Some(0)])?;
    let space_prefix = vocab.add_space_prefix.unwrap_or(true);
    let model = SpmModel::new(vocab, special.unk, space_prefix)?;

    let mut table = TokenTable::with_capacity(vocab.tokens.len());
    for (id, token) in vocab.tokens.iter().enumerate() {
        let kind = vocab.token_type(id);
        table.push(kind.kind(), |bytes| match (kind, fallback_byte(token)) {
            (TokenType::Byte, Some(byte)) => bytes.push(byte),
            (TokenType::Control | TokenType::Unknown, _) => {
                bytes.extend_from_slice(token.as_bytes())
            }
            _ => bytes.extend_from_slice(token.replace(SPACE, " ").as_bytes()),
        })?;
    }
    let inner = Inner {
        backend: Backend::Spm(Box::new(model)),
        table,
        rules: DecodeRules::sentencepiece(space_prefix),
        prefix: special.bos.filter(|_| vocab.add_bos.unwrap_or(true)),
        suffix: special.eos.filter(|_| vocab.add_eos.unwrap_or(false)),
    };
    Tokenizer::new(inner, special)
}

/// The special tokens that take the white space after them along: Phi-3's, which GGUF files do not mark.
///
/// The model is known by its placeholder tokens. Its tokenizer.json marks all special tokens but three so.
fn trimming(vocab: &GgufVocab<'_>) -> Vec<u32> {
    let has = |text: &str| vocab.tokens.contains(&text);
    if !(has("<|placeholder1|>") && has("<|end|>")) {
        return Vec::new();
    }
    let trims = |(id, token): (usize, &&str)| {
        let control = vocab.token_type(id) == TokenType::Control;
        let plain = ["<unk>", "<s>", "<|endoftext|>"].contains(token);
        (control && !plain || *token == "</s>").then_some(id as u32)
    };
    let tokens = vocab.tokens.iter().enumerate();
    tokens.filter_map(trims).collect()
}

impl SpmModel {
    fn new(vocab: &GgufVocab<'_>, unk: Option<u32>, space_prefix: bool) -> Result<Self, Error> {
        let count = vocab.tokens.len();
        let mut ids: HashMap<Box<str>, u32> = HashMap::with_capacity(count);
        let mut scores = vec![None; count];
        let mut byte_ids = [None; 256];
        let (mut special, mut plain) = (Vec::new(), Vec::new());
        let mut longest = 0;
        for (id, (index, &token)) in (0u32..).zip(vocab.tokens.iter().enumerate()) {
            let kind = vocab.token_type(index);
            let mergeable =
                matches!(kind, TokenType::Normal | TokenType::Unused) && !token.is_empty();
            if mergeable {
                let score = vocab.scores.get(index).copied().unwrap_or(0.0);
                scores[index] = Some(if score.is_nan() {
                    f32::NEG_INFINITY
                } else {
                    score
                });
                longest = longest.max(token.len());
            }
            // Where a text occurs twice, the token that merging can make is the one to find.
            match ids.get_mut(token) {
                Some(known) if mergeable || scores[*known as usize].is_none() => *known = id,
                Some(_) => {}
                None => {
                    ids.insert(token.into(), id);
                }
            }
            match kind {
                TokenType::Byte => {
                    if let Some(byte) = fallback_byte(token) {
                        byte_ids[usize::from(byte)] = Some(id);
                    }
                }
                TokenType::Control | TokenType::Unknown if !token.is_empty() => {
                    special.push((token.to_owned(), id))
                }
                TokenType::UserDefined if !token.is_empty() => {
                    // Files write the spaces in such a token either way; a text always has them as spaces.
                    let text = token.replace(SPACE, " ");
                    if text != token {
                        plain.push((text, id));
                    }
                    plain.push((token.to_owned(), id));
                }
                _ => {}
            }
        }
        special.extend(plain.iter().cloned());
        let bytes: Option<Vec<u32>> = byte_ids.into_iter().collect();
        let bytes = bytes.and_then(|ids| ids.try_into().ok()).map(Box::new);
        if bytes.is_none() && unk.is_none() {
            return Err(Error::NoFallback);
        }
        Ok(Self {
            pieces: vocab.tokens.iter().map(|&token| token.into()).collect(),
            ids,
            scores,
            longest,
            bytes,
            unk,
            special: Matcher::new(special)?,
            plain: Matcher::new(plain)?,
            trimming: trimming(vocab),
            space_prefix,
            join_spaces: vocab.remove_extra_whitespaces.unwrap_or(false),
        })
    }

    pub(crate) fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize).map(AsRef::as_ref)
    }

    pub(crate) fn id_of(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Appends the tokens of a text.
    pub(crate) fn encode(&self, text: &str, special: SpecialText, out: &mut Vec<u32>) {
        let matcher = match special {
            SpecialText::Parse => &self.special,
            SpecialText::Plain => &self.plain,
        };
        let mut start = 0;
        if let Some(automaton) = &matcher.automaton {
            for found in automaton.find_iter(text) {
                // A token of white space may lie in what the one before it took along.
                let Some(before) = text.get(start..found.start()) else {
                    continue;
                };
                self.encode_text(before, out);
                start = found.end();
                if let Some(&id) = matcher.ids.get(found.pattern().as_usize()) {
                    out.push(id);
                    if self.trimming.binary_search(&id).is_ok() {
                        start = text.len() - text[start..].trim_start().len();
                    }
                }
            }
        }
        self.encode_text(&text[start..], out);
    }

    /// Appends the tokens of a text without special tokens.
    fn encode_text(&self, text: &str, out: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + SPACE.len());
        if self.join_spaces {
            for word in text.split(' ').filter(|word| !word.is_empty()) {
                if !escaped.is_empty() || self.space_prefix {
                    escaped.push_str(SPACE);
                }
                escaped.push_str(word);
            }
        } else if !text.is_empty() {
            if self.space_prefix {
                escaped.push_str(SPACE);
            }
            escaped.push_str(&text.replace(' ', SPACE));
        }
        if !escaped.is_empty() {
            self.merge(&escaped, out);
        }
    }

    /// Appends the tokens of a text whose spaces are escaped.
    fn merge(&self, text: &str, out: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let index = symbols.len() as u32;
            symbols.push(Symbol {
                start: start as u32,
                length: c.len_utf8() as u32,
                previous: index.wrapping_sub(1),
                next: index + 1,
            });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }

        let mut heap = BinaryHeap::with_capacity(symbols.len());
        for left in 1..symbols.len() as u32 {
            heap.extend(self.candidate(text, &symbols, left - 1, left));
        }
        while let Some(Candidate {
            left,
            right,
            length,
            ..
        }) = heap.pop()
        {
            let (l, r) = (symbols[left as usize], symbols[right as usize]);
            if l.length == 0 || r.length == 0 || l.length + r.length != length {
                continue;
            }
            symbols[left as usize].length = length;
            symbols[left as usize].next = r.next;
            symbols[right as usize].length = 0;
            if r.next != NONE {
                symbols[r.next as usize].previous = left;
                heap.extend(self.candidate(text, &symbols, left, r.next));
            }
            if l.previous != NONE {
                heap.extend(self.candidate(text, &symbols, l.previous, left));
            }
        }

        let mut after_unknown = false;
        for symbol in symbols.iter().filter(|symbol| symbol.length > 0) {
            let piece = slice(text, symbol.start, symbol.length);
            match (self.mergeable(piece), &self.bytes, self.unk) {
                (Some((id, _)), _, _) => {
                    out.push(id);
                    after_unknown = false;
                }
                (None, Some(bytes), _) => {
                    out.extend(piece.bytes().map(|byte| bytes[usize::from(byte)]))
                }
                // Neighbouring unknown characters are one unknown token.
                (None, None, Some(unk)) => {
                    if !std::mem::replace(&mut after_unknown, true) {
                        out.push(unk);
                    }
                }
                (None, None, None) => {}
            }
        }
    }

    /// The token that merging makes of a text, and its score.
    fn mergeable(&self, text: &str) -> Option<(u32, f32)> {
        if text.len() > self.longest {
            return None;
        }
        let id = *self.ids.get(text)?;
        let score = *self.scores.get(id as usize)?;
        score.map(|score| (id, score))
    }

    fn candidate(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: u32,
        right: u32,
    ) -> Option<Candidate> {
        let (l, r) = (symbols[left as usize], symbols[right as usize]);
        let length = l.length + r.length;
        let (_, score) = self.mergeable(slice(text, l.start, length))?;
        Some(Candidate {
            score,
            left,
            right,
            length,
        })
    }
}

fn slice(text: &str, start: u32, length: u32) -> &str {
    &text[start as usize..(start + length) as usize]
}
