//! LoRA adapters for JavaScript.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use fireside_engine::{Engine, ModelExecutor};
use fireside_formats::WeightFile;
use fireside_model::Lora;
use wasm_bindgen::prelude::*;

use crate::engine::{Core, WebEngine};
use crate::failure::{api_failure, failure};

/// The adapters of an engine, known while it is taken out for a step too.
#[derive(Default)]
pub(crate) struct Loras {
    names: RefCell<BTreeSet<String>>,
    /// Whether there ever was one: from then on the names of models in requests are looked at.
    ever: Cell<bool>,
}

#[wasm_bindgen]
impl WebEngine {
    /// Gives the model a LoRA adapter under a name, which requests then give as their `model`: the text of
    /// PEFT's `adapter_config.json` and the bytes of `adapter_model.safetensors`.
    ///
    /// # Errors
    ///
    /// `busy` while a step runs; an adapter for another model, a name that is taken, a model that makes
    /// embeddings.
    #[wasm_bindgen(js_name = addLora)]
    pub fn add_lora(&self, name: &str, config: &str, weights: Vec<u8>) -> Result<(), JsValue> {
        self.with_generator(|engine| {
            let bad = |error: &dyn ToString| failure("bad_adapter", error.to_string(), None);
            if name == self.model {
                let message = format!("name is {name:?}, the model's; expected another one");
                return Err(failure("bad_option", message, Some("name")));
            }
            let files = [("adapter_model.safetensors".to_owned(), weights)];
            let file = WeightFile::from_safetensors(files).map_err(|e| bad(&e))?;
            let model = engine.executor().model().config();
            let lora = Lora::read(model, config.as_bytes(), &file).map_err(|e| bad(&e))?;
            let added = engine.add_lora(name, Arc::new(lora));
            added.map_err(|e| api_failure(&e.into()))?;
            self.loras.names.borrow_mut().insert(name.to_owned());
            self.loras.ever.set(true);
            Ok(())
        })
    }

    /// Takes a LoRA adapter from the model.
    ///
    /// # Errors
    ///
    /// `busy` while a step runs; there is none of that name, or a request has it.
    #[wasm_bindgen(js_name = removeLora)]
    pub fn remove_lora(&self, name: &str) -> Result<(), JsValue> {
        self.with_generator(|engine| {
            let removed = engine.remove_lora(name);
            removed.map_err(|e| api_failure(&e.into()))?;
            self.loras.names.borrow_mut().remove(name);
            Ok(())
        })
    }

    /// The LoRA adapter that a request means by the name of its model.
    pub(crate) fn lora(&self, model: Option<&str>) -> Result<Option<String>, JsValue> {
        let named =
            model.filter(|name| self.loras.ever.get() && !name.is_empty() && *name != self.model);
        let Some(name) = named else {
            return Ok(None);
        };
        let loras = self.loras.names.borrow();
        let own = loras.get(name).cloned();
        own.map(Some).ok_or_else(|| {
            let known: Vec<&str> = loras.iter().map(String::as_str).collect();
            let message = format!(
                "model is {:?}; expected {:?} or one of its LoRA adapters ({})",
                name.chars().take(80).collect::<String>(),
                self.model,
                known.join(", ")
            );
            failure("model_not_found", message, Some("model"))
        })
    }

    fn with_generator(
        &self,
        work: impl FnOnce(&mut Engine<ModelExecutor>) -> Result<(), JsValue>,
    ) -> Result<(), JsValue> {
        match self.engine.borrow_mut().as_mut() {
            Some(Core::Generate(engine)) => work(engine),
            Some(Core::Embed(_)) => Err(self.wrong_model("no text, and takes no LoRA adapters")),
            None => Err(failure("busy", "a step is running", None)),
        }
    }
}
