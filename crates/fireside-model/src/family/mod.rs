//! Model families as data: what they are called, what their tensors are called, how they differ.
//!
//! A family is one [`Family`] value in a file of its own, listed in [`FAMILIES`]; the layers themselves know
//! none of them. What models of a family differ in stands in their files; what a family's files leave
//! unsaid stands here.

mod bert;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod granite;
mod llama;
mod mistral;
mod mixtral;
mod nomic_bert;
mod olmo2;
mod olmoe;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod smollm3;
mod stablelm;
mod starcoder2;

use fireside_kernels::params::Activation;

use crate::error::ModelError;

/// A model family.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// Its name in messages.
    pub name: &'static str,
    /// `model_type` values of config.json that mean it.
    pub model_types: &'static [&'static str],
    /// `general.architecture` values of GGUF that mean it.
    pub gguf_architectures: &'static [&'static str],
    /// Its GGUF files pair neighbouring rows of queries and keys for the rotary embedding,
    /// instead of the halves of a head as its safetensors do.
    pub gguf_pairs_neighbours: bool,
    /// The gate where the file does not say.
    pub activation: Activation,
    /// A config.json that says `gelu` means the tanh form.
    pub gelu_is_tanh: bool,
    /// Whether the head is the embedding table where config.json does not say.
    pub tied_by_default: bool,
    /// How query, key and value rows stand in one tensor.
    pub fused: Fused,
    /// Gate and up rows stand in one tensor.
    pub fused_gate: bool,
    /// The feed-forward layer has a gate.
    pub gated: bool,
    /// Attention and feed-forward layer see the same, and both are added, where the file does not say.
    pub parallel: bool,
    /// Where they see the same, it went through one norm. GGUF files tell it by the norm that they leave out:
    /// converters call every model parallel whose config.json does not say.
    pub shares_norm: bool,
    /// Norms are layer norms, with biases.
    pub layer_norms: bool,
    /// What is added to a norm's mean square where the file does not say.
    pub eps: f64,
    /// The feed-forward layer is so many times as wide as the residual stream where the file does not say.
    pub widens: Option<usize>,
    /// Fields of config.json that may have other names than the usual ones, which come first.
    pub fields: &'static [(&'static str, &'static str)],
    /// The share of a head that rotates where the file does not say.
    pub rotary_share: f64,
    /// A table of learned positions is added to embeddings.
    pub learned_positions: bool,
    /// An encoder: every token sees its whole text, embeddings are normed, and there is no head.
    pub encoder: bool,
    /// Its files may have a pooler and a classifier, which make it score pairs of texts.
    pub scores_pairs: bool,
    /// Safetensors have the matrices of layers transposed.
    pub transposed: bool,
    /// What may stand before the names of transformers' modules.
    pub roots: &'static [&'static str],
    /// What stands before the number of a layer.
    pub layers: &'static str,
    /// Modules of transformers that have other names than Llama's; of several for a part any may be there.
    pub modules: &'static [(Part, &'static str)],
    /// Where the norms of a layer stand.
    pub norms: NormPlaces,
    /// Safetensors hold the gains of norms less one; GGUF files hold them whole.
    pub gains_less_one: bool,
    /// How queries and keys are normed before they rotate.
    pub head_norms: HeadNorms,
    /// One layer in so many has no rotary embedding, the last of them, where the file does not say.
    pub rotates_but_every: Option<usize>,
    /// One layer in so many has no window, the last of them, where the file does not say.
    pub windows_but_every: Option<usize>,
    /// The base of the rotary embedding where the file does not say.
    pub theta: f64,
    /// Layers with a window have a rotary embedding of their own; its base where the file does not say.
    pub local_theta: Option<f64>,
    /// Embeddings are multiplied by the square root of the hidden size where the file does not say.
    pub scales_embeddings: bool,
    /// Scores of a model with so many layers are divided by the square root of hidden size over heads, which
    /// its GGUF files do not say.
    pub gguf_wide_scores: Option<usize>,
    /// Bounds of scores and logits where the file does not say.
    pub caps: Caps,
    /// The weights of a token's experts add up to one where config.json does not say.
    pub normalizes_experts: bool,
    /// The same where a GGUF file does not say.
    pub gguf_normalizes_experts: bool,
}

/// How the rows of several projections stand in one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fused {
    /// They do not.
    No,
    /// One part after the other.
    PartByPart,
    /// A head of each part, then the next head of each; in GGUF files one part after the other.
    HeadByHead,
}

/// Where the norms of a layer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlaces {
    /// Before attention and before the feed-forward layer.
    Before,
    /// Before and after each of the two.
    Around,
    /// After each of the two, before its result is added to the residual stream.
    After,
    /// After each of the two, on the residual stream with its result.
    Onto,
}

/// How queries and keys are normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    /// Not at all.
    None,
    /// Each head by itself.
    Each,
    /// All query heads as one, and all key heads.
    Whole,
}

/// Soft caps: a value `v` becomes `cap * tanh(v / cap)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caps {
    /// On the scores of attention.
    pub attention: Option<f32>,
    /// On logits.
    pub logits: Option<f32>,
}

impl Family {
    /// What others differ from.
    const LLAMA: Self = Self {
        name: "llama",
        model_types: &["llama"],
        gguf_architectures: &["llama"],
        gguf_pairs_neighbours: true,
        activation: Activation::Silu,
        gelu_is_tanh: false,
        tied_by_default: false,
        fused: Fused::No,
        fused_gate: false,
        gated: true,
        parallel: false,
        shares_norm: false,
        layer_norms: false,
        eps: 1e-6,
        widens: None,
        fields: &[],
        rotary_share: 1.0,
        learned_positions: false,
        encoder: false,
        scores_pairs: false,
        transposed: false,
        roots: &["model.", ""],
        layers: "layers",
        modules: &[],
        norms: NormPlaces::Before,
        gains_less_one: false,
        head_norms: HeadNorms::None,
        rotates_but_every: None,
        windows_but_every: None,
        theta: 10_000.0,
        local_theta: None,
        scales_embeddings: false,
        gguf_wide_scores: None,
        caps: Caps {
            attention: None,
            logits: None,
        },
        normalizes_experts: true,
        gguf_normalizes_experts: true,
    };
}

/// Every known family.
pub const FAMILIES: &[Family] = &[
    llama::FAMILY,
    mistral::FAMILY,
    mixtral::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    qwen3_moe::FAMILY,
    phi3::FAMILY,
    smollm3::FAMILY,
    granite::FAMILY,
    gemma::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    olmo2::FAMILY,
    olmoe::FAMILY,
    starcoder2::FAMILY,
    stablelm::FAMILY,
    gpt_neox::FAMILY,
    gpt2::FAMILY,
    bert::FAMILY,
    nomic_bert::FAMILY,
];

fn known(names: impl Fn(&Family) -> &'static [&'static str]) -> String {
    let all: Vec<_> = FAMILIES
        .iter()
        .flat_map(|f| names(f).iter().copied())
        .collect();
    all.join(", ")
}

/// The family of a config.json's `model_type`.
///
/// # Errors
///
/// None of that name; the known ones are named.
pub fn by_model_type(name: &str) -> Result<&'static Family, ModelError> {
    FAMILIES
        .iter()
        .find(|f| f.model_types.contains(&name))
        .ok_or_else(|| ModelError::UnknownArchitecture {
            found: name.chars().take(60).collect(),
            known: known(|f| f.model_types),
        })
}

/// The family of a GGUF's `general.architecture`.
///
/// # Errors
///
/// None of that name; the known ones are named.
pub fn by_gguf_architecture(name: &str) -> Result<&'static Family, ModelError> {
    FAMILIES
        .iter()
        .find(|f| f.gguf_architectures.contains(&name))
        .ok_or_else(|| ModelError::UnknownArchitecture {
            found: name.chars().take(60).collect(),
            known: known(|f| f.gguf_architectures),
        })
}

/// The matrices and vectors of a model, by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Embedding table.
    Embedding,
    /// Table of learned positions.
    Positions,
    /// Table of token types.
    Types,
    /// Norm of embeddings.
    EmbeddingNorm,
    /// Norm before the head.
    FinalNorm,
    /// The head.
    Head,
    /// Norm before attention.
    AttentionNorm,
    /// Query projection.
    Query,
    /// Key projection.
    Key,
    /// Value projection.
    Value,
    /// Output projection of attention.
    AttentionOut,
    /// Norm before the feed-forward layer.
    FeedForwardNorm,
    /// Gate projection.
    Gate,
    /// Up projection.
    Up,
    /// Down projection.
    Down,
    /// Query, key and value projections in one.
    QueryKeyValue,
    /// Gate and up projections in one.
    GateUp,
    /// Norm of queries.
    QueryNorm,
    /// Norm of keys.
    KeyNorm,
    /// Norm after attention.
    AttentionPostNorm,
    /// Norm before the feed-forward layer, where there are others after.
    FeedForwardPreNorm,
    /// Norm after the feed-forward layer.
    FeedForwardPostNorm,
    /// What chooses experts.
    Router,
    /// Gate projection of an expert.
    ExpertGate,
    /// Up projection of an expert.
    ExpertUp,
    /// Down projection of an expert.
    ExpertDown,
    /// What a cross-encoder makes of the first token.
    Pooler,
    /// What it makes a score of that with.
    Classifier,
}

/// What stands for an expert's number in the names of transformers' modules; GGUF files have all experts of a
/// layer in one tensor.
pub(crate) const EXPERT: &str = "{expert}";

/// How the tensors of a file are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// As transformers' modules.
    HuggingFace,
    /// As llama.cpp's GGUF files.
    Gguf,
}

impl Naming {
    /// The names that a part's weight or bias may have, the usual one first; `layer` counts for the parts of a
    /// layer. An expert's have `{expert}` for its number.
    pub fn tensors(self, family: &Family, part: Part, layer: usize, kind: &str) -> Vec<String> {
        let global = matches!(
            part,
            Part::Embedding
                | Part::Positions
                | Part::Types
                | Part::EmbeddingNorm
                | Part::FinalNorm
                | Part::Head
                | Part::Pooler
                | Part::Classifier
        );
        if self == Self::Gguf {
            let name = part.gguf();
            return vec![match global {
                true => format!("{name}.{kind}"),
                false => format!("blk.{layer}.{name}.{kind}"),
            }];
        }
        let own = family.modules.iter().filter(|(own, _)| *own == part);
        let mut names: Vec<&str> = own.map(|(_, name)| *name).collect();
        if names.is_empty() {
            names.push(part.module());
        }
        if matches!(part, Part::Head | Part::Classifier) {
            return names.iter().map(|name| format!("{name}.{kind}")).collect();
        }
        let layers = family.layers;
        let under = |root: &&str| -> Vec<String> {
            let full = |name: &&str| match global {
                true => format!("{root}{name}.{kind}"),
                false => format!("{root}{layers}.{layer}.{name}.{kind}"),
            };
            names.iter().map(full).collect()
        };
        family.roots.iter().flat_map(under).collect()
    }
}

impl Part {
    /// The module of transformers.
    fn module(self) -> &'static str {
        match self {
            Self::Embedding => "embed_tokens",
            Self::Positions => "embed_positions",
            Self::Types => "token_type_embeddings",
            Self::EmbeddingNorm => "embed_norm",
            Self::FinalNorm => "norm",
            Self::Head => "lm_head",
            Self::AttentionNorm => "input_layernorm",
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::AttentionOut => "self_attn.o_proj",
            Self::FeedForwardNorm | Self::AttentionPostNorm => "post_attention_layernorm",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
            Self::QueryKeyValue => "self_attn.qkv_proj",
            Self::GateUp => "mlp.gate_up_proj",
            Self::QueryNorm => "self_attn.q_norm",
            Self::KeyNorm => "self_attn.k_norm",
            Self::FeedForwardPreNorm => "pre_feedforward_layernorm",
            Self::FeedForwardPostNorm => "post_feedforward_layernorm",
            Self::Router => "mlp.gate",
            Self::ExpertGate => "mlp.experts.{expert}.gate_proj",
            Self::ExpertUp => "mlp.experts.{expert}.up_proj",
            Self::ExpertDown => "mlp.experts.{expert}.down_proj",
            Self::Pooler => "pooler.dense",
            Self::Classifier => "classifier",
        }
    }

    /// The name in llama.cpp's files.
    fn gguf(self) -> &'static str {
        match self {
            Self::Embedding => "token_embd",
            Self::Positions => "position_embd",
            Self::Types => "token_types",
            Self::EmbeddingNorm => "token_embd_norm",
            Self::FinalNorm => "output_norm",
            Self::Head => "output",
            Self::AttentionNorm => "attn_norm",
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::AttentionOut => "attn_output",
            Self::FeedForwardNorm | Self::FeedForwardPreNorm => "ffn_norm",
            Self::Gate => "ffn_gate",
            // Where gate and up are one tensor, the gate's rows come first.
            Self::Up | Self::GateUp => "ffn_up",
            Self::Down => "ffn_down",
            Self::QueryKeyValue => "attn_qkv",
            Self::QueryNorm => "attn_q_norm",
            Self::KeyNorm => "attn_k_norm",
            Self::AttentionPostNorm => "post_attention_norm",
            Self::FeedForwardPostNorm => "post_ffw_norm",
            Self::Router => "ffn_gate_inp",
            Self::ExpertGate => "ffn_gate_exps",
            Self::ExpertUp => "ffn_up_exps",
            Self::ExpertDown => "ffn_down_exps",
            Self::Pooler => "cls",
            Self::Classifier => "cls.output",
        }
    }
}
