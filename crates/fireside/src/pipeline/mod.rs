//! A loaded model, for the task that it was loaded for.

mod feature_extraction;
mod perplexity;
mod reranking;
mod text_generation;

use std::ops::ControlFlow;

use fireside_engine::{EmbedParams, Event, RankParams, Ranked};
use fireside_model::device::ComputeDevice;

pub use feature_extraction::{Embedded, FeatureExtraction, Features};
pub use perplexity::Perplexity;
pub use reranking::Reranking;
pub use text_generation::{Output, TextGeneration};

use crate::{Error, GenerationParams, Input};

/// What a pipeline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Text from prompts or conversations.
    TextGeneration,
    /// Embeddings of texts.
    FeatureExtraction,
    /// Scores of texts for a query.
    Reranking,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 3] = [
        Self::TextGeneration,
        Self::FeatureExtraction,
        Self::Reranking,
    ];

    /// Its name, as Hugging Face call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TextGeneration => "text-generation",
            Self::FeatureExtraction => "feature-extraction",
            Self::Reranking => "text-ranking",
        }
    }

    /// What a model that is made for it makes.
    pub fn makes(self) -> &'static str {
        match self {
            Self::TextGeneration => "text",
            Self::FeatureExtraction => "embeddings",
            Self::Reranking => "scores of texts",
        }
    }
}

impl std::str::FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let named = |task: &Self| task.name() == name;
        Self::ALL
            .into_iter()
            .find(named)
            .ok_or_else(|| Error::UnknownTask {
                task: name.chars().take(60).collect(),
            })
    }
}

/// A pipeline of any task; the calls of other tasks than its own are errors.
#[derive(Debug)]
pub enum Pipeline {
    /// Text from prompts or conversations.
    TextGeneration(Box<TextGeneration>),
    /// Embeddings of texts.
    FeatureExtraction(Box<FeatureExtraction>),
    /// Scores of texts for a query.
    Reranking(Box<Reranking>),
}

impl Pipeline {
    /// What it is for.
    pub fn task(&self) -> Task {
        match self {
            Self::TextGeneration(_) => Task::TextGeneration,
            Self::FeatureExtraction(_) => Task::FeatureExtraction,
            Self::Reranking(_) => Task::Reranking,
        }
    }

    /// The device it runs on.
    pub fn device(&self) -> &ComputeDevice {
        match self {
            Self::TextGeneration(own) => own.device(),
            Self::FeatureExtraction(own) => own.device(),
            Self::Reranking(own) => own.device(),
        }
    }

    /// See [`TextGeneration::generate`].
    ///
    /// # Errors
    ///
    /// See there; another task.
    pub async fn generate(
        &mut self,
        input: impl Into<Input>,
        params: &GenerationParams,
    ) -> Result<Vec<Output>, Error> {
        self.text_generation()?.generate(input, params).await
    }

    /// See [`TextGeneration::stream`].
    ///
    /// # Errors
    ///
    /// See there; another task.
    pub async fn stream(
        &mut self,
        input: impl Into<Input>,
        params: &GenerationParams,
        on_event: impl FnMut(usize, Event) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.text_generation()?
            .stream(input, params, on_event)
            .await
    }

    /// See [`TextGeneration::perplexity`].
    ///
    /// # Errors
    ///
    /// See there; another task.
    pub async fn perplexity(
        &mut self,
        text: &str,
        window: usize,
        on_window: impl FnMut(&Perplexity),
    ) -> Result<Perplexity, Error> {
        self.text_generation()?
            .perplexity(text, window, on_window)
            .await
    }

    /// See [`FeatureExtraction::embed`].
    ///
    /// # Errors
    ///
    /// See there; another task.
    pub async fn embed<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
        params: &EmbedParams,
    ) -> Result<Vec<Embedded>, Error> {
        self.feature_extraction()?.embed(texts, params).await
    }

    /// See [`FeatureExtraction::features`].
    ///
    /// # Errors
    ///
    /// See there; another task.
    pub async fn features<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
        params: &EmbedParams,
    ) -> Result<Vec<Features>, Error> {
        self.feature_extraction()?.features(texts, params).await
    }

    /// See [`Reranking::rank`].
    ///
    /// # Errors
    ///
    /// See there; another task.
    pub async fn rank<T: AsRef<str>>(
        &mut self,
        query: &str,
        texts: &[T],
        params: RankParams,
    ) -> Result<Vec<Ranked>, Error> {
        self.reranking()?.rank(query, texts, params).await
    }

    fn wrong(&self, needs: Task) -> Error {
        Error::WrongTask {
            task: self.task().name(),
            needs: needs.name(),
        }
    }

    fn text_generation(&mut self) -> Result<&mut TextGeneration, Error> {
        let wrong = self.wrong(Task::TextGeneration);
        match self {
            Self::TextGeneration(own) => Ok(own),
            _ => Err(wrong),
        }
    }

    fn feature_extraction(&mut self) -> Result<&mut FeatureExtraction, Error> {
        let wrong = self.wrong(Task::FeatureExtraction);
        match self {
            Self::FeatureExtraction(own) => Ok(own),
            _ => Err(wrong),
        }
    }

    fn reranking(&mut self) -> Result<&mut Reranking, Error> {
        let wrong = self.wrong(Task::Reranking);
        match self {
            Self::Reranking(own) => Ok(own),
            _ => Err(wrong),
        }
    }
}
