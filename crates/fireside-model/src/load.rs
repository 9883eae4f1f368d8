//! Loads a whole model: weights, config, tokenizer, chat template, generation defaults.

use fireside_formats::{ByteSource, Gguf, Packed, Scheme, TensorSource, WeightFile};
use fireside_kernels::compile::Compiling;
use fireside_kernels::device::ComputeDevice;
use fireside_kernels::params::KvDtype;
use fireside_tokenizer::{ChatTemplate, GgufVocab, Tokenizer, TokenizerConfig};
use serde_json::Value;

use crate::build::{Builder, OnProgress};
use crate::config::{DecoderConfig, long_attention};
use crate::embedding::{Embedding, EmbeddingFiles};
use crate::error::ModelError;
use crate::family::{HeadNorms, Naming, Part};
use crate::hollow::Hollow;
use crate::model::Model;
use crate::quantize::Quantize;
use crate::ranking::{Ranking, RankingHead};
use crate::rope::RopeScaling;

/// The small files of a Hugging Face model folder, as bytes.
#[derive(Debug, Clone, Default)]
pub struct FolderFiles {
    /// `config.json`.
    pub config: Vec<u8>,
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`, where there is one.
    pub tokenizer_config: Option<Vec<u8>>,
    /// `generation_config.json`, where there is one.
    pub generation_config: Option<Vec<u8>>,
    /// `chat_template.jinja`, where there is one.
    pub chat_template: Option<String>,
    /// sentence-transformers' files.
    pub embedding: EmbeddingFiles,
}

/// A model ready to run, with everything that turns text into tokens and back.
#[derive(Debug)]
pub struct LoadedModel {
    /// The decoder on its device.
    pub model: Model,
    /// What surrounds it.
    pub text: TextSide,
    /// How it makes embeddings, where it is made for them.
    pub embedding: Option<Embedding>,
    /// How it scores pairs of texts, where it is made for that.
    pub ranking: Option<RankingHead>,
}

/// Tokenizer, template and defaults of a model.
#[derive(Debug)]
pub struct TextSide {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, where the model has one.
    pub template: Option<ChatTemplate>,
    /// The content of generation_config.json, or an empty object.
    pub generation_config: Value,
}

/// What a model is, without its weights being loaded: for `inspect` and for checks.
#[derive(Debug)]
pub struct Description {
    /// The decoder's shape.
    pub config: DecoderConfig,
    /// Tokenizer, template and defaults.
    pub text: TextSide,
    /// How the weights are packed over several tensors; `None` where each is one.
    pub packing: Option<Scheme>,
    /// How the model makes embeddings, where it is made for them.
    pub embedding: Option<Embedding>,
    /// How it scores pairs of texts, where it is made for that.
    pub ranking: Option<Ranking>,
    /// What float weights become while they are loaded; `None`, as it is described, leaves them.
    pub quantize: Option<Quantize>,
}

/// Reads the description out of a GGUF file.
///
/// # Errors
///
/// See [`ModelError`].
pub fn describe_gguf<S: ByteSource>(file: &WeightFile<S>) -> Result<Description, ModelError> {
    let gguf = file.gguf().ok_or_else(|| ModelError::Contradiction {
        what: "the file is not a gguf file".into(),
    })?;
    let mut config = DecoderConfig::from_gguf(gguf)?;
    let head = Naming::Gguf.tensors(config.family, Part::Head, 0, "weight");
    config.tied = !head.iter().any(|name| file.contains(name));
    for layer in 0..config.layers {
        let up = Naming::Gguf.tensors(config.family, Part::Up, layer, "weight");
        config.kinds[layer].experts &= !up.iter().any(|name| file.contains(name));
    }
    take_norms(file, &mut config)?;
    if file.contains("rope_freqs.weight") {
        let divisors: Vec<f64> = file
            .read_f32("rope_freqs.weight")?
            .into_iter()
            .map(f64::from)
            .collect();
        if divisors.len() != config.rope.rotary / 2 || divisors.iter().any(|d| *d <= 0.0) {
            return Err(ModelError::Shape {
                tensor: "rope_freqs.weight".into(),
                found: vec![divisors.len()],
                expected: vec![config.rope.rotary / 2],
            });
        }
        config.rope.scaling = RopeScaling::Factors { divisors };
    }
    if file.contains("rope_factors_long.weight") {
        config.rope.scaling = long_rope(file, gguf, &config)?;
    }
    let vocab = gguf_vocab(gguf)?;
    let tokenizer = Tokenizer::from_gguf(&vocab)?;
    let text_of = |id: Option<u32>| id.and_then(|id| vocab.tokens.get(id as usize).copied());
    let variables = [
        ("bos_token", text_of(vocab.bos)),
        ("eos_token", text_of(vocab.eos)),
        ("unk_token", text_of(vocab.unk)),
        ("pad_token", text_of(vocab.pad)),
    ];
    let variables = variables
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)));
    let template = match gguf.find::<&str>("tokenizer.chat_template")? {
        Some(source) => Some(ChatTemplate::new(source, variables)?),
        None => None,
    };
    check_vocabulary(&tokenizer, &config)?;
    Ok(Description {
        config,
        text: TextSide {
            tokenizer,
            template,
            generation_config: Value::Object(serde_json::Map::new()),
        },
        packing: None,
        embedding: None,
        ranking: None,
        quantize: None,
    })
}

/// Takes from the tensors of the first layer what a GGUF file's metadata leave unsaid of its norms.
fn take_norms<S: ByteSource>(
    file: &WeightFile<S>,
    config: &mut DecoderConfig,
) -> Result<(), ModelError> {
    let family = config.family;
    let there = |part| {
        let names = Naming::Gguf.tensors(family, part, 0, "weight");
        names.into_iter().find(|name| file.contains(name))
    };
    if family.shares_norm {
        config.parallel = there(Part::FeedForwardNorm).is_none();
    }
    match there(Part::QueryNorm).or_else(|| there(Part::KeyNorm)) {
        Some(tensor) if family.head_norms == HeadNorms::None => Err(ModelError::HeadNorms {
            family: family.name,
            tensor,
        }),
        _ => Ok(()),
    }
}

/// The long rope of a GGUF file: divisors as tensors, the rest as metadata.
fn long_rope<S: ByteSource>(
    file: &WeightFile<S>,
    gguf: &Gguf,
    config: &DecoderConfig,
) -> Result<RopeScaling, ModelError> {
    let arch = gguf.str("general.architecture")?;
    let divisors = |name: &str| -> Result<Vec<f64>, ModelError> {
        let own = file.read_f32(name)?;
        let expected = config.rope.rotary / 2;
        if own.len() == expected && own.iter().all(|d| *d > 0.0 && d.is_finite()) {
            return Ok(own.into_iter().map(f64::from).collect());
        }
        Err(ModelError::Shape {
            tensor: name.into(),
            found: vec![own.len()],
            expected: vec![expected],
        })
    };
    let key = |name: &str| format!("{arch}.rope.scaling.{name}");
    let original = gguf.find::<u32>(&key("original_context_length"))?;
    let original = original.map_or(config.context as f64, f64::from);
    let attention = match gguf.find::<f32>(&key("attn_factor"))? {
        Some(attention) => f64::from(attention),
        None => long_attention(config.context as f64 / original, original),
    };
    Ok(RopeScaling::Long {
        short: divisors("rope_factors_short.weight")?,
        long: divisors("rope_factors_long.weight")?,
        original,
        attention,
    })
}

fn gguf_vocab(gguf: &Gguf) -> Result<GgufVocab<'_>, ModelError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let id = |name: &str| gguf.find::<u32>(&key(name));
    let flag = |name: &str| gguf.find::<bool>(&key(name));
    Ok(GgufVocab {
        model: gguf.str("tokenizer.ggml.model")?,
        pre: gguf.find("tokenizer.ggml.pre")?,
        tokens: gguf.str_array("tokenizer.ggml.tokens")?,
        scores: gguf.find("tokenizer.ggml.scores")?.unwrap_or_default(),
        token_types: gguf.find("tokenizer.ggml.token_type")?.unwrap_or_default(),
        merges: gguf.find("tokenizer.ggml.merges")?.unwrap_or_default(),
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?,
        eot: id("eot_token_id")?,
        eom: id("eom_token_id")?,
        unk: id("unknown_token_id")?,
        pad: id("padding_token_id")?,
        add_bos: flag("add_bos_token")?,
        add_eos: flag("add_eos_token")?,
        add_space_prefix: flag("add_space_prefix")?,
        remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
    })
}

/// Reads the description out of a model folder's small files.
///
/// # Errors
///
/// See [`ModelError`].
pub fn describe_folder(files: &FolderFiles) -> Result<Description, ModelError> {
    let config = DecoderConfig::from_json(&files.config)?;
    let tokenizer_config = match &files.tokenizer_config {
        Some(bytes) => Some(TokenizerConfig::from_json(bytes)?),
        None => None,
    };
    let generation_config: Value = match &files.generation_config {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|e| ModelError::Json {
            file: "generation_config.json",
            reason: e.to_string(),
        })?,
        None => Value::Object(serde_json::Map::new()),
    };
    let mut tokenizer = Tokenizer::from_json(&files.tokenizer, tokenizer_config.as_ref())?;
    // Ends of text stand in generation_config.json, else in config.json.
    let json: Value = serde_json::from_slice(&files.config).unwrap_or_default();
    let ends = [&generation_config, &json]
        .into_iter()
        .find_map(|v| v.get("eos_token_id").filter(|v| !v.is_null()));
    if let Some(ends) = ends {
        let ids = match ends {
            Value::Array(all) => all.iter().filter_map(Value::as_u64).collect(),
            one => Vec::from_iter(one.as_u64()),
        };
        tokenizer =
            tokenizer.with_stop_tokens(ids.into_iter().filter_map(|id| u32::try_from(id).ok()))?;
    }
    let source = files.chat_template.as_deref().or_else(|| {
        tokenizer_config
            .as_ref()
            .and_then(|c| c.chat_template(false))
    });
    let variables = tokenizer_config
        .as_ref()
        .map(TokenizerConfig::template_variables)
        .unwrap_or_default();
    let template = match source {
        Some(source) => Some(ChatTemplate::new(source, variables)?),
        None => None,
    };
    check_vocabulary(&tokenizer, &config)?;
    let own = files.tokenizer_config.as_deref();
    let ranking = Ranking::from_files(config.family, &json, own, &files.embedding)?;
    let mut embedding = None;
    if ranking.is_some() {
        check_pairs(&tokenizer, &config)?;
    } else {
        embedding = Embedding::from_files(&files.embedding)?;
        if config.family.encoder {
            embedding.get_or_insert_with(Embedding::of_encoder);
        }
    }
    Ok(Description {
        config,
        embedding,
        ranking,
        text: TextSide {
            tokenizer,
            template,
            generation_config,
        },
        packing: Scheme::from_config(&json)?,
        quantize: None,
    })
}

/// Every token that text becomes must have a row in the embedding table; the table may be larger, models pad
/// it. Special tokens of what a model cannot do (images, for one) may lie past it: a prompt that names one is
/// refused.
fn check_vocabulary(tokenizer: &Tokenizer, config: &DecoderConfig) -> Result<(), ModelError> {
    let past = config.vocab..tokenizer.vocab_size();
    let mut past = past.map(|id| u32::try_from(id).unwrap_or(u32::MAX));
    if past.any(|id| !tokenizer.is_special(id)) {
        return Err(ModelError::Vocabulary {
            tokenizer: tokenizer.vocab_size(),
            model: config.vocab,
        });
    }
    Ok(())
}

/// What joins two texts must be of tokens and token types that the model has.
fn check_pairs(tokenizer: &Tokenizer, config: &DecoderConfig) -> Result<(), ModelError> {
    let (first, second) = (tokenizer.encode_part("a")?, tokenizer.encode_part("a a")?);
    let once = first.len() + second.len() + tokenizer.pair_overhead();
    let joined = tokenizer.join(&first, second, usize::MAX)?;
    if joined.ids.len() != once {
        return Err(ModelError::Json {
            file: "tokenizer.json",
            reason: "its post_processor does not have each text of a pair once".into(),
        });
    }
    let most = joined.types.iter().copied().max().unwrap_or(0) as usize;
    if most >= config.types {
        return Err(ModelError::ConfigField {
            field: "type_vocab_size".into(),
            found: config.types.to_string(),
            wanted: "above the token types of a pair in tokenizer.json",
        });
    }
    match joined.ids.iter().find(|id| **id as usize >= config.vocab) {
        None => Ok(()),
        Some(_) => Err(ModelError::Vocabulary {
            tokenizer: tokenizer.vocab_size(),
            model: config.vocab,
        }),
    }
}

/// A model's weights as the decoder takes them: unpacked where they are packed.
struct Weights<'a> {
    config: DecoderConfig,
    source: &'a dyn TensorSource,
    packed: Option<Packed<'a>>,
    naming: Naming,
    quantize: Option<Quantize>,
}

impl<'a> Weights<'a> {
    fn new(
        description: &Description,
        source: &'a dyn TensorSource,
        naming: Naming,
    ) -> Result<Self, ModelError> {
        let mut config = description.config.clone();
        // A model that makes embeddings has no use for a head, and its files need have none.
        config.tied |= description.embedding.is_some();
        let packed = match &description.packing {
            Some(scheme) => Some(Packed::new(source, scheme)?),
            None => None,
        };
        Ok(Self {
            config,
            source,
            packed,
            naming,
            quantize: description.quantize,
        })
    }

    fn source(&self) -> &dyn TensorSource {
        match &self.packed {
            Some(packed) => packed,
            None => self.source,
        }
    }

    fn builder<'s>(
        &'s self,
        source: &'s dyn TensorSource,
        device: &'s ComputeDevice,
    ) -> Builder<'s> {
        Builder {
            source,
            config: &self.config,
            naming: self.naming,
            device,
            quantize: self.quantize,
            hollow: false,
        }
    }
}

/// Begins to make the pipelines of a described model's steps, over a KV cache of elements of that type, while
/// its weights are uploaded, or fetched: names, shapes and types of its tensors are all that is read. A model that
/// does not generate has steps for hidden states.
///
/// # Errors
///
/// A missing or misshapen tensor, or a device that cannot hold it.
pub fn compile(
    description: &Description,
    source: &dyn TensorSource,
    naming: Naming,
    device: &ComputeDevice,
    kv: KvDtype,
    generates: bool,
) -> Result<Compiling, ModelError> {
    let weights = Weights::new(description, source, naming)?;
    let hollow = Hollow(weights.source());
    let builder = Builder {
        hollow: true,
        ..weights.builder(&hollow, device)
    };
    let decoder = builder.decoder(&mut |_, _| {})?;
    Model::new(weights.config.clone(), decoder, device.clone()).compile(kv, generates)
}

/// Uploads the weights of a described model.
///
/// # Errors
///
/// A missing or misshapen tensor, or a device that cannot hold it.
pub fn load(
    description: Description,
    source: &dyn TensorSource,
    naming: Naming,
    device: ComputeDevice,
    progress: OnProgress<'_>,
) -> Result<LoadedModel, ModelError> {
    let weights = Weights::new(&description, source, naming)?;
    let builder = weights.builder(weights.source(), &device);
    let decoder = builder.decoder(progress)?;
    let ranking = match description.ranking {
        Some(ranking) => Some(builder.ranking(ranking)?),
        None => None,
    };
    Ok(LoadedModel {
        model: Model::new(weights.config, decoder, device),
        text: description.text,
        embedding: description.embedding,
        ranking,
    })
}
