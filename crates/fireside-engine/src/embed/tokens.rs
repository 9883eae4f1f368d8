//! What a text, or a pair of texts, is to the model.

/// The tokens of a text, or of a pair of texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmbedTokens {
    /// The tokens, special ones included.
    pub ids: Vec<u32>,
    /// The type of each; empty where all are of the first one.
    pub types: Vec<u32>,
}

impl EmbedTokens {
    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl From<Vec<u32>> for EmbedTokens {
    fn from(ids: Vec<u32>) -> Self {
        Self {
            ids,
            types: Vec::new(),
        }
    }
}
