//! Byte-level BPE from a GGUF vocabulary.

use std::collections::HashSet;

use tokenizers::models::bpe::{BpeBuilder, Merges, Vocab};
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use crate::decoder::DecodeRules;
use crate::error::{one_line, shorten};
use crate::gguf::TokenType;
use crate::hf::HfBackend;
use crate::table::TokenTable;
use crate::tokenizer::{Backend, Inner};
use crate::{Error, GgufVocab, Tokenizer, byte_level, pre};

const MERGES: &str = "tokenizer.ggml.merges";

pub(crate) fn build(vocab: &GgufVocab<'_>) -> Result<Tokenizer, Error> {
    let pre = pre::find(vocab.pre)?;
    if vocab.merges.is_empty() {
        return Err(Error::NoMerges { field: MERGES });
    }
    let special = vocab.special_tokens([None; 3])?;
    let rejected = |error: tokenizers::Error| Error::Encode {
        reason: one_line(&error.to_string()),
    };

    let model = BpeBuilder::new()
        .vocab_and_merges(ids(vocab), merges(vocab)?)
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(rejected)?;
    let mut tokenizer = HfTokenizer::new(model);
    tokenizer
        .with_normalizer(pre.normalizer())
        .map_err(rejected)?;
    tokenizer.with_pre_tokenizer(Some(pre.pre_tokenizer().map_err(rejected)?));
    tokenizer
        .add_tokens(added_tokens(vocab))
        .map_err(rejected)?;

    let mut table = TokenTable::with_capacity(vocab.tokens.len());
    for (id, token) in vocab.tokens.iter().enumerate() {
        let kind = vocab.token_type(id);
        table.push(kind.kind(), |bytes| match kind {
            TokenType::Normal | TokenType::Unused | TokenType::Byte => {
                byte_level::append_bytes(token, bytes)
            }
            TokenType::Unknown | TokenType::Control | TokenType::UserDefined => {
                bytes.extend_from_slice(token.as_bytes());
            }
        })?;
    }
    let inner = Inner {
        backend: Backend::Hf(Box::new(HfBackend::new(tokenizer))),
        table,
        rules: DecodeRules::byte_level(),
        prefix: special.bos.filter(|_| vocab.add_bos.unwrap_or(pre.add_bos)),
        suffix: special.eos.filter(|_| vocab.add_eos.unwrap_or(false)),
    };
    Tokenizer::new(inner, special)
}

/// The id of each token; the last one wins where a text occurs twice. Empty tokens cannot be encoded.
fn ids(vocab: &GgufVocab<'_>) -> Vocab {
    (0u32..)
        .zip(&vocab.tokens)
        .filter(|(_, token)| !token.is_empty())
        .map(|(id, token)| ((*token).to_owned(), id))
        .collect()
}

/// The merge rules as pairs, each checked to make a token out of two tokens.
fn merges(vocab: &GgufVocab<'_>) -> Result<Merges, Error> {
    let known: HashSet<&str> = vocab.tokens.iter().copied().collect();
    let mut joined = String::new();
    let mut merges = Merges::with_capacity(vocab.merges.len());
    for (index, merge) in vocab.merges.iter().enumerate() {
        let bad = |reason| Error::BadMerge {
            field: MERGES,
            index,
            merge: shorten(merge, 60),
            reason,
        };
        // A byte-level token has no space in it, so the only one parts the pair.
        let (left, right) = merge
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty())
            .ok_or_else(|| bad("is not two tokens separated by a space"))?;
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        if ![left, right, joined.as_str()]
            .into_iter()
            .all(|token| known.contains(token))
        {
            return Err(bad("uses or makes a token that is not in the vocabulary"));
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

/// The tokens that are found in a text before it is split.
fn added_tokens(vocab: &GgufVocab<'_>) -> Vec<AddedToken> {
    let token = |(id, text): (usize, &&str)| {
        let special = match vocab.token_type(id) {
            TokenType::Control | TokenType::Unknown => true,
            TokenType::UserDefined => false,
            TokenType::Normal | TokenType::Unused | TokenType::Byte => return None,
        };
        (!text.is_empty()).then(|| AddedToken::from(*text, special).normalized(false))
    };
    vocab.tokens.iter().enumerate().filter_map(token).collect()
}
