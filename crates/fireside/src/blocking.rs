//! The pipeline without `async`: each call waits on the thread it is made on.
//!
//! ```no_run
//! use fireside::{GenerationParams, blocking};
//!
//! let mut generator = blocking::pipeline("text-generation", "smollm2")?;
//! let outputs = generator.generate("Once upon a time", &GenerationParams::default())?;
//! println!("{}", outputs[0].text);
//! # Ok::<(), fireside::Error>(())
//! ```

use std::ops::ControlFlow;

use crate::{
    EmbedParams, Embedded, Error, Event, Features, GenerationParams, Input, Loading, Output,
    Perplexity, RankParams, Ranked,
};

/// A pipeline whose calls wait.
#[derive(Debug)]
pub struct Pipeline(crate::Pipeline);

/// As [`crate::pipeline`].
///
/// # Errors
///
/// As [`crate::pipeline`].
pub fn pipeline(task: &str, model: &str) -> Result<Pipeline, Error> {
    pollster::block_on(crate::pipeline(task, model)).map(Pipeline)
}

/// As [`Loading::load`].
///
/// # Errors
///
/// As [`Loading::load`].
pub fn load(loading: Loading) -> Result<Pipeline, Error> {
    pollster::block_on(loading.load()).map(Pipeline)
}

impl Pipeline {
    /// As [`crate::Pipeline::generate`].
    ///
    /// # Errors
    ///
    /// As [`crate::Pipeline::generate`].
    pub fn generate(
        &mut self,
        input: impl Into<Input>,
        params: &GenerationParams,
    ) -> Result<Vec<Output>, Error> {
        pollster::block_on(self.0.generate(input, params))
    }

    /// As [`crate::Pipeline::stream`].
    ///
    /// # Errors
    ///
    /// As [`crate::Pipeline::stream`].
    pub fn stream(
        &mut self,
        input: impl Into<Input>,
        params: &GenerationParams,
        on_event: impl FnMut(usize, Event) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        pollster::block_on(self.0.stream(input, params, on_event))
    }

    /// As [`crate::Pipeline::embed`].
    ///
    /// # Errors
    ///
    /// As [`crate::Pipeline::embed`].
    pub fn embed<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
        params: &EmbedParams,
    ) -> Result<Vec<Embedded>, Error> {
        pollster::block_on(self.0.embed(texts, params))
    }

    /// As [`crate::Pipeline::features`].
    ///
    /// # Errors
    ///
    /// As [`crate::Pipeline::features`].
    pub fn features<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
        params: &EmbedParams,
    ) -> Result<Vec<Features>, Error> {
        pollster::block_on(self.0.features(texts, params))
    }

    /// As [`crate::Pipeline::rank`].
    ///
    /// # Errors
    ///
    /// As [`crate::Pipeline::rank`].
    pub fn rank<T: AsRef<str>>(
        &mut self,
        query: &str,
        texts: &[T],
        params: RankParams,
    ) -> Result<Vec<Ranked>, Error> {
        pollster::block_on(self.0.rank(query, texts, params))
    }

    /// As [`crate::Pipeline::perplexity`].
    ///
    /// # Errors
    ///
    /// As [`crate::Pipeline::perplexity`].
    pub fn perplexity(
        &mut self,
        text: &str,
        window: usize,
        on_window: impl FnMut(&Perplexity),
    ) -> Result<Perplexity, Error> {
        pollster::block_on(self.0.perplexity(text, window, on_window))
    }

    /// The pipeline whose calls are `async`.
    pub fn into_inner(self) -> crate::Pipeline {
        self.0
    }
}
