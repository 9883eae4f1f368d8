//! A model that generates text.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fireside_engine::{Engine, Event, ModelExecutor, Request};
use fireside_model::Lora;
use fireside_model::device::ComputeDevice;
use fireside_model::path::open_lora;
use fireside_tokenizer::{ChatInput, ChatTemplate, Tokenizer};

use crate::{Completion, Error, GenerationParams, Input};

/// The task `text-generation`: a model, its tokenizer and its template on a device.
#[derive(Debug)]
pub struct TextGeneration {
    engine: Engine<ModelExecutor>,
    template: Option<ChatTemplate>,
    /// The LoRA adapter that is used.
    adapter: Option<Arc<str>>,
}

/// One generated sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Which of the inputs it continues, from 0.
    pub input: usize,
    /// The tokens of its prompt, special ones included.
    pub prompt_token_ids: Vec<u32>,
    /// The generated text, without the prompt.
    pub text: String,
    /// Everything else about it.
    pub completion: Completion,
}

impl TextGeneration {
    pub(crate) fn new(engine: Engine<ModelExecutor>, template: Option<ChatTemplate>) -> Self {
        Self {
            engine,
            template,
            adapter: None,
        }
    }

    /// The device it runs on.
    pub fn device(&self) -> &ComputeDevice {
        self.engine.executor().model().device()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.engine.tokenizer()
    }

    /// The chat template, where the model has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// The engine, for requests of one's own.
    pub fn engine(&mut self) -> &mut Engine<ModelExecutor> {
        &mut self.engine
    }

    /// The engine and the template, for an owner that runs requests by itself.
    pub fn into_parts(self) -> (Engine<ModelExecutor>, Option<ChatTemplate>) {
        (self.engine, self.template)
    }

    /// Loads a LoRA adapter, as PEFT saves it, from a folder, and gives it a name. It is used once
    /// [`set_adapter`](Self::set_adapter) says so.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read, an adapter for another model, a name that is taken.
    pub fn load_adapter(&mut self, name: &str, folder: impl AsRef<Path>) -> Result<(), Error> {
        let lora = self.open(folder.as_ref())?;
        Ok(self.engine.add_lora(name, lora)?)
    }

    /// Loads the adapters of a model that has none.
    pub(crate) fn load_adapters(&mut self, all: &[(String, PathBuf)]) -> Result<(), Error> {
        let open =
            |(name, folder): &(String, PathBuf)| Ok((name.as_str().into(), self.open(folder)?));
        let loras = all.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        Ok(self.engine.set_loras(loras)?)
    }

    fn open(&self, folder: &Path) -> Result<Arc<Lora>, Error> {
        let config = self.engine.executor().model().config();
        Ok(Arc::new(open_lora(folder, config)?))
    }

    /// Has what follows generated with a loaded adapter, or with the model alone.
    ///
    /// # Errors
    ///
    /// There is no adapter of that name.
    pub fn set_adapter(&mut self, name: Option<&str>) -> Result<(), Error> {
        if let Some(name) = name {
            self.engine.check_lora(name)?;
        }
        self.adapter = name.map(Arc::from);
        Ok(())
    }

    /// Forgets an adapter; where it is used, the model alone is from now on.
    ///
    /// # Errors
    ///
    /// There is no adapter of that name.
    pub fn delete_adapter(&mut self, name: &str) -> Result<(), Error> {
        self.engine.remove_lora(name)?;
        if self.adapter.as_deref() == Some(name) {
            self.adapter = None;
        }
        Ok(())
    }

    /// The tokens of each prompt or conversation of an input.
    ///
    /// # Errors
    ///
    /// Text that cannot be encoded, messages for a model without a template or that the template
    /// refuses.
    pub fn tokens(&self, input: impl Into<Input>) -> Result<Vec<Vec<u32>>, Error> {
        let tokenizer = self.engine.tokenizer();
        match input.into() {
            Input::Prompts(prompts) => prompts
                .iter()
                .map(|text| Ok(tokenizer.encode(text, true)?))
                .collect(),
            Input::Chats(chats) => {
                let template = self
                    .template
                    .as_ref()
                    .ok_or(fireside_tokenizer::Error::NoChatTemplate)?;
                chats
                    .into_iter()
                    .map(|chat| {
                        let messages: Vec<_> = chat.into_iter().map(|m| m.into_json()).collect();
                        let input = ChatInput::new(&messages).with_generation_prompt();
                        // The template writes the special tokens itself.
                        Ok(tokenizer.encode(&template.render(&input)?, false)?)
                    })
                    .collect()
            }
        }
    }

    /// Generates for every prompt of the input, as a batch, and gives the sequences in the order of
    /// the inputs.
    ///
    /// # Errors
    ///
    /// Those of [`TextGeneration::tokens`], a parameter that means nothing, a prompt longer than the
    /// context, a failing device.
    pub async fn generate(
        &mut self,
        input: impl Into<Input>,
        params: &GenerationParams,
    ) -> Result<Vec<Output>, Error> {
        let prompts = self.tokens(input)?;
        let requests = self.requests(&prompts, params);
        let all = self.engine.generate(&requests).await?;
        let mut outputs = Vec::new();
        for (index, (prompt, completions)) in prompts.into_iter().zip(all).enumerate() {
            for completion in completions {
                outputs.push(Output {
                    input: index,
                    prompt_token_ids: prompt.clone(),
                    text: completion.text.clone(),
                    completion,
                });
            }
        }
        Ok(outputs)
    }

    /// Generates and hands over each event as it happens, with the number of its input; stops when
    /// `on_event` breaks.
    ///
    /// # Errors
    ///
    /// Those of [`TextGeneration::generate`].
    pub async fn stream(
        &mut self,
        input: impl Into<Input>,
        params: &GenerationParams,
        on_event: impl FnMut(usize, Event) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let prompts = self.tokens(input)?;
        let requests = self.requests(&prompts, params);
        Ok(self.engine.run(&requests, on_event).await?)
    }

    fn requests(&self, prompts: &[Vec<u32>], params: &GenerationParams) -> Vec<Request> {
        let request = |prompt: &Vec<u32>| Request {
            lora: self.adapter.clone(),
            ..Request::new(prompt.clone()).with_params(params.clone())
        };
        prompts.iter().map(request).collect()
    }
}
