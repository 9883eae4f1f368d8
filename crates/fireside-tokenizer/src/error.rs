//! The one error type of the crate.

/// What can go wrong in building a tokenizer or a chat template, or in using one.
///
/// Each message is one line: what happened, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The GGUF vocabulary is of a kind that this crate cannot encode with.
    #[error("tokenizer model \"{model}\" is not supported; known models: {known}")]
    UnknownModel {
        /// The value of `tokenizer.ggml.model`.
        model: String,
        /// The supported values, separated by commas.
        known: String,
    },
    /// The byte-level BPE vocabulary names a pre-tokenizer that is not in the table.
    #[error(
        "pre-tokenizer \"{pre}\" (tokenizer.ggml.pre) is not known; known pre-tokenizers: {known}"
    )]
    UnknownPreTokenizer {
        /// The value of `tokenizer.ggml.pre`.
        pre: String,
        /// All known names, separated by commas.
        known: String,
    },
    /// A BPE vocabulary has more than its base alphabet but no merges to reach it.
    #[error("the BPE tokenizer has no merges; expected a list of token pairs in {field}")]
    NoMerges {
        /// Where the merges should have been.
        field: &'static str,
    },
    /// One merge rule cannot be used.
    #[error("merge {index} (\"{merge}\") of {field} {reason}")]
    BadMerge {
        /// Where the merges are.
        field: &'static str,
        /// Position in the list, from 0.
        index: usize,
        /// The rule as written, shortened if long.
        merge: String,
        /// Why it cannot be used.
        reason: &'static str,
    },
    /// There are no tokens at all.
    #[error("the tokenizer has no tokens ({field} is empty or missing)")]
    EmptyVocabulary {
        /// Where the tokens should have been.
        field: &'static str,
    },
    /// Two arrays that describe the same tokens have different lengths.
    #[error("{field} has {actual} entries, but the vocabulary has {expected} tokens")]
    LengthMismatch {
        /// The array with the wrong length.
        field: &'static str,
        /// Number of tokens.
        expected: usize,
        /// Length of the array.
        actual: usize,
    },
    /// A special token's id does not exist in the vocabulary.
    #[error("{field} is {id}, but the vocabulary has {vocab_size} tokens")]
    TokenOutOfRange {
        /// The field that holds the id.
        field: &'static str,
        /// The id.
        id: u32,
        /// Number of ids.
        vocab_size: usize,
    },
    /// A vocabulary is larger than the lookup tables are allowed to be.
    #[error("{what} is {actual}, above the limit of {limit}")]
    VocabularyTooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        actual: u64,
        /// The limit.
        limit: u64,
    },
    /// A SentencePiece vocabulary has no way to write a character that it does not know.
    #[error(
        "the SentencePiece vocabulary has neither an unknown token nor all 256 byte tokens (<0x00> to <0xFF>)"
    )]
    NoFallback,
    /// A JSON file is not what it should be.
    #[error("{file}: {reason}")]
    Json {
        /// The name by which the file is known, such as `tokenizer.json`.
        file: &'static str,
        /// What is wrong, with line and column where known.
        reason: String,
    },
    /// The decoder of a tokenizer.json cannot be run as a stream.
    #[error("tokenizer.json: decoder \"{decoder}\" is not supported; known decoders: {known}")]
    UnsupportedDecoder {
        /// The decoder's type, or what about it is not supported.
        decoder: String,
        /// The supported types, separated by commas.
        known: &'static str,
    },
    /// The tokenizer failed on a text.
    #[error("the text could not be tokenized: {reason}")]
    Encode {
        /// What the tokenizer said.
        reason: String,
    },
    /// The text is longer than [`MAX_TEXT_BYTES`](crate::MAX_TEXT_BYTES).
    #[error("the text has {bytes} bytes; one call takes at most {limit}")]
    TextTooLong {
        /// Length of the text in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A stop string is empty, which would stop before the first character.
    #[error("stop string {index} is empty; a stop string needs at least one character")]
    EmptyStopString {
        /// Position in the list, from 0.
        index: usize,
    },
    /// The model has no chat template.
    #[error(
        "the model has no chat template; give one, or pass the prompt as plain text to complete"
    )]
    NoChatTemplate,
    /// The chat template does not compile, or uses something that does not exist.
    #[error("chat template, line {line}: {reason}")]
    TemplateSyntax {
        /// Line in the template, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The chat template failed on these messages.
    #[error("chat template, line {line}: {reason}")]
    TemplateRender {
        /// Line in the template, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The chat template itself refused the messages by calling `raise_exception`.
    #[error("the chat template refused the messages: {message}")]
    TemplateRaised {
        /// The text that the template passed to `raise_exception`.
        message: String,
    },
    /// The chat template ran for too long or built too much data.
    #[error("the chat template took more than {fuel} steps; it may contain an endless loop")]
    TemplateFuel {
        /// The number of steps that were granted.
        fuel: u64,
    },
    /// The chat template wrote too much.
    #[error("the chat template wrote more than {limit} bytes")]
    TemplateOutput {
        /// The limit in bytes.
        limit: usize,
    },
    /// The messages are not a list of objects.
    #[error("message {index}: {reason}")]
    BadMessage {
        /// Position of the message, from 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Makes one line of a text that may have several, and cuts it at 300 characters.
pub(crate) fn one_line(text: &str) -> String {
    shorten(text, 300)
}

/// Makes one line of a text and cuts it at `limit` characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut line: String = text
        .split(|c: char| c.is_control())
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if let Some((at, _)) = line.char_indices().nth(limit) {
        line.truncate(at);
        line.push('…');
    }
    line
}
