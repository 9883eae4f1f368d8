//! Embeddings for many requests at once: their texts share steps.

use std::collections::VecDeque;

use super::{EmbedTexts, EmbedTokens, Embedder};
use crate::{Error, RequestId};

/// Takes requests for embeddings, and runs the texts of all of them in steps that are as full as they can be.
///
/// As with the [`Engine`](crate::Engine) nothing runs by itself, requests may come and go between any two
/// steps, and what comes of one does not depend on the others.
#[derive(Debug)]
pub struct EmbedEngine {
    embedder: Embedder,
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    next: u64,
    steps: u64,
}

/// A request of which some texts have run.
#[derive(Debug)]
struct Waiting {
    id: RequestId,
    texts: Vec<EmbedTokens>,
    done: Vec<Result<Vec<f32>, Error>>,
}

impl Waiting {
    fn left(&self) -> &[EmbedTokens] {
        self.texts.get(self.done.len()..).unwrap_or_default()
    }
}

/// A request that has come to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// The request.
    pub request: RequestId,
    /// The pooled hidden states of each of its texts, or why one of them has none.
    pub states: Result<Vec<Vec<f32>>, Error>,
}

impl EmbedEngine {
    /// An engine without requests.
    pub fn new(embedder: Embedder) -> Self {
        Self {
            embedder,
            waiting: VecDeque::new(),
            next: 0,
            steps: 0,
        }
    }

    /// The embedder.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    /// The host's side of it.
    pub fn texts(&self) -> &EmbedTexts {
        self.embedder.texts()
    }

    /// Takes the tokens of a request's texts; what comes of them is in the steps that follow.
    ///
    /// # Errors
    ///
    /// A text that [`Embedder::check`] refuses.
    pub fn submit(&mut self, texts: Vec<EmbedTokens>) -> Result<RequestId, Error> {
        for text in &texts {
            self.embedder.check(text)?;
        }
        let id = RequestId(self.next);
        self.next += 1;
        self.waiting.push_back(Waiting {
            id,
            texts,
            done: Vec::new(),
        });
        Ok(id)
    }

    /// Forgets a request.
    pub fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// Whether any request is under way.
    pub fn has_work(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Texts that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(|w| w.left().len()).sum()
    }

    /// Their tokens.
    pub fn waiting_tokens(&self) -> usize {
        let left = self.waiting.iter().flat_map(Waiting::left);
        left.map(EmbedTokens::len).sum()
    }

    /// Steps that succeeded so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Runs one step and gives the requests that ended with it. Dropping the future loses nothing: the next
    /// call runs the same texts again.
    ///
    /// # Errors
    ///
    /// A failing device. All requests are then ended.
    pub async fn step(&mut self) -> Result<Vec<Pooled>, Error> {
        let texts: Vec<&EmbedTokens> = self.waiting.iter().flat_map(Waiting::left).collect();
        let mut ended = Vec::new();
        if !texts.is_empty() {
            let count = self.embedder.fill(texts.iter().map(|text| text.len()));
            let outcome = self.embedder.embed(&texts[..count]).await;
            let mut states = outcome.inspect_err(|_| self.waiting.clear())?.into_iter();
            self.steps += 1;
            for waiting in &mut self.waiting {
                let left = waiting.left().len();
                waiting.done.extend(states.by_ref().take(left));
            }
        }
        while let Some(whole) = self.waiting.pop_front_if(|w| w.left().is_empty()) {
            ended.push(Pooled {
                request: whole.id,
                states: whole.done.into_iter().collect(),
            });
        }
        Ok(ended)
    }
}
