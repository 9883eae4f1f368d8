//! What loading a model or generating can fail with.

/// An error of the pipeline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The task is not one that there is.
    #[error(
        "unknown task {task:?}: the known ones are \"text-generation\", \"feature-extraction\" and \"text-ranking\""
    )]
    UnknownTask {
        /// The task asked for.
        task: String,
    },
    /// The pipeline is for another task.
    #[error("the pipeline's task is {task}; this call needs one for {needs}")]
    WrongTask {
        /// The pipeline's.
        task: &'static str,
        /// The one that the call belongs to.
        needs: &'static str,
    },
    /// The model does something else.
    #[error("{model} makes {makes}; the task {task} needs a model that makes {needs}")]
    WrongModel {
        /// The model, as it was named.
        model: String,
        /// What it makes.
        makes: &'static str,
        /// The task.
        task: &'static str,
        /// What the task makes.
        needs: &'static str,
    },
    /// The model cannot draft for the other one.
    #[error("{draft} cannot draft for {model}: {reason}")]
    DraftModel {
        /// The model that is to draft, as it was named.
        draft: String,
        /// The other one.
        model: String,
        /// Why, and what would be right.
        reason: String,
    },
    /// The model that is to draft could not be loaded.
    #[error(
        "the draft model {draft} cannot be loaded: {error}; choose another one or leave it out"
    )]
    DraftLoading {
        /// The model, as it was named.
        draft: String,
        /// What happened; the message has all of it.
        error: Box<Error>,
    },
    /// The model's files could not be found or fetched.
    #[error(transparent)]
    Hub(#[from] fireside_hub::Error),
    /// The model could not be loaded or run.
    #[error(transparent)]
    Model(#[from] fireside_model::ModelError),
    /// A request was refused or failed.
    #[error(transparent)]
    Engine(#[from] fireside_engine::Error),
    /// Text could not be turned into tokens.
    #[error(transparent)]
    Tokenizer(#[from] fireside_tokenizer::Error),
    /// The chosen context cannot be had.
    #[error("context is {asked}; expected 1 to {most} positions, the model's own")]
    Context {
        /// Positions asked for.
        asked: usize,
        /// Positions the model has.
        most: usize,
    },
    /// A window too short to count any of its tokens.
    #[error("the window is of {asked} tokens; expected {least} or more")]
    Window {
        /// Tokens asked for.
        asked: usize,
        /// Fewest tokens.
        least: usize,
    },
    /// A text that does not fill a window.
    #[error(
        "the text has {tokens} tokens, less than a window of {window}: use a longer text or a smaller context"
    )]
    ShortText {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of a window.
        window: usize,
    },
    /// generation_config.json is broken.
    #[error("generation_config.json is not valid: {reason}")]
    GenerationConfig {
        /// What the parser said.
        reason: String,
    },
}

impl From<fireside_model::device::DeviceError> for Error {
    fn from(error: fireside_model::device::DeviceError) -> Self {
        Self::Model(error.into())
    }
}
