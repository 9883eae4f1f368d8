//! What a load does before the weights are here: it opens the adapter and has the shaders compiled.

use fireside_engine::Embedder;
use fireside_formats::{FormatError, TensorSource, WeightFile};
use fireside_model::device::{ComputeDevice, DeviceError, PowerPreference};
use fireside_model::load::{Description, compile, describe_gguf};
use fireside_model::{Compiling, KvDtype, ModelError, Naming};
use serde_json::Value;
use wasm_bindgen::prelude::*;

use crate::failure::{failure, model_failure};
use crate::source::{ByteReader, PageSource};

/// What the page says of a load.
pub(crate) struct LoadOptions {
    /// The model's name.
    pub(crate) name: String,
    /// What the page knows of the adapter.
    pub(crate) adapter: String,
    pub(crate) power: PowerPreference,
    /// Positions of the KV cache; 0 for the default.
    pub(crate) context: usize,
    /// Element type of the KV cache of a model that generates text.
    pub(crate) kv: KvDtype,
}

impl LoadOptions {
    /// Reads `{"name", "adapter", "power", "context", "kvCacheType"}`.
    pub(crate) fn from_json(text: &str) -> Result<Self, JsValue> {
        let bad = |param: &str, message: String| failure("bad_option", message, Some(param));
        let all: Value = serde_json::from_str(text)
            .map_err(|error| failure("server_error", format!("load options: {error}"), None))?;
        let text = |name: &str| all[name].as_str().unwrap_or_default().to_owned();
        let power = match text("power").as_str() {
            "high-performance" => PowerPreference::HighPerformance,
            "low-power" => PowerPreference::LowPower,
            other => {
                let message =
                    format!("adapter is {other:?}; expected \"high-performance\" or \"low-power\"");
                return Err(bad("adapter", message));
            }
        };
        let kv = match text("kvCacheType").as_str() {
            "f16" => KvDtype::F16,
            "q8" => KvDtype::Q8,
            other => return Err(bad("kvCacheType", format!("kvCacheType is {other:?}"))),
        };
        let context = all["context"].as_u64().map(usize::try_from);
        let Some(Ok(context)) = context else {
            let found = &all["context"];
            let message = format!("contextSize is {found}; expected a whole number of tokens");
            return Err(bad("contextSize", message));
        };
        Ok(Self {
            name: text("name"),
            adapter: text("adapter"),
            power,
            context,
            kv,
        })
    }
}

/// The device of one engine, whose memory goes with it.
pub(crate) struct OwnDevice(pub(crate) ComputeDevice);

impl Drop for OwnDevice {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

/// An open adapter that compiles a model's shaders. Freeing it gives the adapter's memory back.
#[wasm_bindgen]
pub struct Prepared {
    // In this order: the device goes last.
    pub(crate) compiling: Option<Compiling>,
    pub(crate) device: OwnDevice,
}

impl Prepared {
    /// Opens the adapter and begins to compile.
    pub(crate) async fn of(
        options: &LoadOptions,
        description: &Description,
        source: &dyn TensorSource,
        naming: Naming,
    ) -> Result<Self, JsValue> {
        let opened = ComputeDevice::open(&options.adapter, options.power).await;
        let device = opened.map(OwnDevice).map_err(|error| {
            let code = match &error {
                DeviceError::NoAdapter => "no_adapter",
                _ => "adapter_refused",
            };
            failure(code, error, None)
        })?;
        let generates = description.embedding.is_none() && description.ranking.is_none();
        let kv = match generates {
            true => options.kv,
            false => Embedder::kv_dtype(&description.config),
        };
        // What is wrong with the model is said by its load.
        let compiling = compile(description, source, naming, &device.0, kv, generates).ok();
        Ok(Self { compiling, device })
    }
}

#[wasm_bindgen]
impl Prepared {
    /// Prepares for a model by the first bytes of its GGUF file, with the options of its load; `head` throws where
    /// it is read past what is here. `undefined` where the header is not whole yet.
    ///
    /// # Errors
    ///
    /// Nothing can be prepared for it: the load says why, if it cannot be loaded either.
    #[wasm_bindgen(js_name = forGguf)]
    pub async fn for_gguf(options: &str, head: ByteReader) -> Result<Option<Prepared>, JsValue> {
        console_error_panic_hook::set_once();
        let options = LoadOptions::from_json(options)?;
        let parts = [("the model".to_owned(), PageSource(head))];
        let read = || {
            let file = WeightFile::from_gguf_parts(parts)?;
            let description = describe_gguf(&file)?;
            Ok::<_, ModelError>((file, description))
        };
        match read() {
            Ok((file, description)) => {
                let prepared = Self::of(&options, &description, &file, Naming::Gguf);
                prepared.await.map(Some)
            }
            Err(ModelError::Format(error)) if is_not_here(&error) => Ok(None),
            Err(error) => Err(model_failure(&error)),
        }
    }
}

/// Whether bytes could not be read, of a file of which not all are here.
fn is_not_here(error: &FormatError) -> bool {
    match error {
        FormatError::Io { .. } => true,
        FormatError::InFile { error, .. } => is_not_here(error),
        _ => false,
    }
}
