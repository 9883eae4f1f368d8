//! Loads a model from a path: a GGUF file (any part of a split one), or a folder with config.json,
//! tokenizer.json and safetensors.

use std::path::Path;

use fireside_formats::{Mapping, WeightFile};
use fireside_kernels::device::ComputeDevice;

use crate::config::DecoderConfig;
use crate::embedding::EmbeddingFiles;
use crate::error::ModelError;
use crate::family::Naming;
use crate::load::{
    Description, FolderFiles, LoadedModel, compile, describe_folder, describe_gguf, load,
};
use crate::lora::Lora;
use crate::{Compiling, KvDtype, OnProgress, device};

/// A model's files, opened and described but not uploaded.
#[derive(Debug)]
pub struct OpenModel {
    /// The weights, memory-mapped.
    pub weights: WeightFile<Mapping>,
    /// Config, tokenizer, template.
    pub description: Description,
    naming: Naming,
}

impl OpenModel {
    /// Opens a GGUF file, with its siblings if it is one part of a split model, or a model folder.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is broken; see [`ModelError`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if path.is_dir() {
            let read = |name: &str| std::fs::read(path.join(name));
            let need = |name: &str| {
                read(name).map_err(|error| ModelError::File {
                    path: path.join(name).display().to_string(),
                    reason: error.to_string(),
                })
            };
            let files = FolderFiles {
                config: need("config.json")?,
                tokenizer: need("tokenizer.json")?,
                tokenizer_config: read("tokenizer_config.json").ok(),
                generation_config: read("generation_config.json").ok(),
                chat_template: std::fs::read_to_string(path.join("chat_template.jinja")).ok(),
                embedding: EmbeddingFiles::read(|name| read(name).ok()),
            };
            let description = describe_folder(&files)?;
            return Ok(Self {
                weights: WeightFile::open(path)?,
                description,
                naming: Naming::HuggingFace,
            });
        }
        let weights = WeightFile::open(path)?;
        let description = describe_gguf(&weights)?;
        Ok(Self {
            weights,
            description,
            naming: Naming::Gguf,
        })
    }

    /// Begins to make the pipelines of the model's steps; see [`compile`].
    ///
    /// # Errors
    ///
    /// See [`compile`].
    pub fn compile(
        &self,
        device: &ComputeDevice,
        kv: KvDtype,
        generates: bool,
    ) -> Result<Compiling, ModelError> {
        let (description, weights) = (&self.description, &self.weights);
        compile(description, weights, self.naming, device, kv, generates)
    }

    /// Uploads the weights.
    ///
    /// # Errors
    ///
    /// See [`load`].
    pub fn load(
        self,
        device: device::ComputeDevice,
        progress: OnProgress<'_>,
    ) -> Result<LoadedModel, ModelError> {
        load(
            self.description,
            &self.weights,
            self.naming,
            device,
            progress,
        )
    }
}

/// Opens and uploads in one go.
///
/// # Errors
///
/// See [`OpenModel::open`] and [`load`].
pub fn load_path(path: &Path, device: ComputeDevice) -> Result<LoadedModel, ModelError> {
    OpenModel::open(path)?.load(device, &mut |_, _| {})
}

/// Reads a LoRA adapter for a model from a folder with `adapter_config.json` and `adapter_model.safetensors`.
///
/// # Errors
///
/// A file that cannot be read or is broken, or an adapter for another model; see [`Lora::read`].
pub fn open_lora(path: &Path, model: &DecoderConfig) -> Result<Lora, ModelError> {
    let file = path.join("adapter_config.json");
    let config = std::fs::read(&file).map_err(|error| ModelError::File {
        path: file.display().to_string(),
        reason: error.to_string(),
    })?;
    let weights = path.join("adapter_model.safetensors");
    let pickle = path.join("adapter_model.bin");
    if !weights.exists() && pickle.exists() {
        return Err(ModelError::File {
            path: pickle.display().to_string(),
            reason: "pickled tensors are not read; save the adapter as adapter_model.safetensors"
                .into(),
        });
    }
    // Not mapped: a training may write the file anew while it is read.
    let name = weights.display().to_string();
    let bytes = std::fs::read(&weights).map_err(|error| ModelError::File {
        path: name.clone(),
        reason: error.to_string(),
    })?;
    Lora::read(
        model,
        &config,
        &WeightFile::from_safetensors([(name, bytes)])?,
    )
}
