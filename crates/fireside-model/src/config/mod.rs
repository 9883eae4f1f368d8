//! The shape of a model, read from config.json or from GGUF metadata.

mod gguf;
mod json;

use fireside_kernels::params::{Activation, MOST_CHOSEN};

use crate::error::ModelError;
use crate::family::{Caps, Family, NormPlaces};
use crate::rope::{Rope, RopeScaling};

/// Everything about a model that is not a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// The family: names and switches.
    pub family: &'static Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Token types, whose embeddings are added; 0 where there are none.
    pub types: usize,
    /// Positions the model can attend to.
    pub context: usize,
    /// Added to the mean square of norms.
    pub norm_eps: f32,
    /// The function of the feed-forward layer's gate, or of its middle where it has none.
    pub activation: Activation,
    /// Attention and feed-forward layer of a layer see the same.
    pub parallel: bool,
    /// The rotary embedding.
    pub rope: Rope,
    /// That of layers with a window, where it is another; it rotates as many dimensions.
    pub local_rope: Option<Rope>,
    /// The head is the embedding table.
    pub tied: bool,
    /// What differs from layer to layer, one for each.
    pub kinds: Vec<LayerKind>,
    /// Factors on what goes in, on, and out.
    pub scales: Scales,
    /// Bounds of scores and logits.
    pub caps: Caps,
    /// What layers with experts have, where there are any.
    pub experts: Option<Experts>,
}

/// The experts of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many of them a token takes.
    pub chosen: usize,
    /// Width of each.
    pub width: usize,
    /// The weights of those that a token takes add up to one.
    pub normalized: bool,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKind {
    /// Positions that a query sees, its own included; 0 for all before it.
    pub window: usize,
    /// Queries and keys have a rotary embedding.
    pub rotates: bool,
    /// The feed-forward layer has experts.
    pub experts: bool,
}

/// Factors of a decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// On embeddings.
    pub embedding: f32,
    /// On what a layer adds to the residual stream.
    pub residual: f32,
    /// On scores, in place of one over the square root of the head's size.
    pub attention: Option<f32>,
    /// Divides logits.
    pub logits: f32,
}

impl Default for Scales {
    fn default() -> Self {
        Self {
            embedding: 1.0,
            residual: 1.0,
            attention: None,
            logits: 1.0,
        }
    }
}

/// Most layers of a decoder.
const MAX_LAYERS: usize = 1 << 12;
/// Most experts of a layer.
const MAX_EXPERTS: usize = 1 << 10;

impl DecoderConfig {
    /// Refuses sizes that contradict each other or that no device could hold.
    fn check(&self) -> Result<(), ModelError> {
        let wrong = |what: String| Err(ModelError::Contradiction { what });
        let sizes = [
            ("hidden size", self.hidden, 1 << 18),
            ("intermediate size", self.intermediate, 1 << 20),
            ("layer count", self.layers, MAX_LAYERS),
            ("head count", self.heads, 1 << 12),
            ("kv head count", self.kv_heads, 1 << 12),
            ("head size", self.head_dim, 1 << 10),
            ("vocabulary", self.vocab, 1 << 24),
            ("context length", self.context, 1 << 28),
        ];
        for (what, value, most) in sizes {
            if value == 0 || value > most {
                return wrong(format!(
                    "the {what} is {value}, it must be from 1 to {most}"
                ));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(format!(
                "{} heads cannot share {} kv heads evenly",
                self.heads, self.kv_heads
            ));
        }
        if self.heads / self.kv_heads > 16 {
            return wrong(format!(
                "{} heads share one kv head, the kernels take at most 16",
                self.heads / self.kv_heads
            ));
        }
        if self.kinds.len() != self.layers {
            return wrong(format!(
                "{} layers are described, the model has {}",
                self.kinds.len(),
                self.layers
            ));
        }
        let scales = self.scales;
        let attention = scales.attention.unwrap_or(1.0);
        for (what, scale) in [
            ("embedding multiplier", scales.embedding),
            ("residual multiplier", scales.residual),
            ("attention multiplier", attention),
            ("logits scaling", scales.logits),
        ] {
            if !(scale > 0.0 && scale.is_finite()) {
                return wrong(format!("the {what} is {scale}, it must be above zero"));
            }
        }
        for (what, cap) in [
            ("cap of scores", self.caps.attention),
            ("cap of logits", self.caps.logits),
        ] {
            if let Some(cap) = cap.filter(|cap| !(*cap > 0.0 && cap.is_finite())) {
                return wrong(format!("the {what} is {cap}, it must be above zero"));
            }
        }
        if let Some(experts) = self.experts {
            for (what, value, most) in [
                ("expert count", experts.count, MAX_EXPERTS),
                ("width of an expert", experts.width, 1 << 20),
                (
                    "number of experts that a token takes",
                    experts.chosen,
                    MOST_CHOSEN,
                ),
            ] {
                if value == 0 || value > most {
                    return wrong(format!(
                        "the {what} is {value}, it must be from 1 to {most}"
                    ));
                }
            }
            if experts.chosen > experts.count {
                return wrong(format!(
                    "a token takes {} experts, a layer has {}",
                    experts.chosen, experts.count
                ));
            }
            if !self.family.gated || self.family.encoder {
                return wrong("experts need a decoder whose feed-forward layers have gates".into());
            }
        }
        let after = matches!(self.family.norms, NormPlaces::After | NormPlaces::Onto);
        if after && scales.residual != 1.0 {
            return wrong("a residual multiplier needs norms before attention".into());
        }
        if self.family.encoder && self.kinds.iter().any(|kind| kind.window > 0) {
            return wrong("an encoder's layers have no window here".into());
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return wrong("the norm epsilon is out of range".into());
        }
        self.check_rope(&self.rope)?;
        self.local_rope
            .as_ref()
            .map_or(Ok(()), |rope| self.check_rope(rope))
    }

    fn check_rope(&self, rope: &Rope) -> Result<(), ModelError> {
        let wrong = |what: String| Err(ModelError::Contradiction { what });
        if rope.rotary > self.head_dim || rope.rotary % 2 == 1 || rope.rotary < 2 {
            return wrong(format!(
                "{} rotary dimensions do not fit a head of {}: an even number from 2 up to it would",
                rope.rotary, self.head_dim
            ));
        }
        if !(rope.theta > 1.0 && rope.theta.is_finite()) {
            return wrong(format!(
                "the rope base is {}, it must be above one",
                rope.theta
            ));
        }
        if let RopeScaling::Long {
            original,
            attention,
            ..
        } = rope.scaling
            && !(original > 1.0 && attention > 0.0 && attention.is_finite())
        {
            return wrong(format!(
                "long rope has a trained length of {original} and an attention factor of {attention}; \
                 they must be above one and above zero"
            ));
        }
        if let RopeScaling::Linear { factor } | RopeScaling::Yarn { factor, .. } = rope.scaling
            && !(factor > 0.0 && factor.is_finite())
        {
            return wrong(format!(
                "the rope scaling factor is {factor}, it must be above zero"
            ));
        }
        Ok(())
    }

    /// What differs in a layer.
    pub fn kind(&self, layer: usize) -> LayerKind {
        self.kinds.get(layer).copied().unwrap_or(LayerKind {
            window: 0,
            rotates: true,
            experts: false,
        })
    }

    /// The experts of a layer, where it has any.
    pub fn experts(&self, layer: usize) -> Option<Experts> {
        self.experts.filter(|_| self.kind(layer).experts)
    }

    /// Whether a layer of that kind has the rotary embedding of layers with a window.
    pub(crate) fn rotates_locally(&self, kind: LayerKind) -> bool {
        kind.window > 0 && self.local_rope.is_some()
    }

    /// Whether positions depend on how long a sequence is, so that what is cached fits no other.
    pub fn depends_on_length(&self) -> bool {
        let local = self.local_rope.iter();
        local.chain([&self.rope]).any(Rope::depends_on_length)
    }

    /// Factor on the scores of attention.
    pub fn score_scale(&self) -> f32 {
        let usual = 1.0 / (self.head_dim as f32).sqrt();
        self.scales.attention.unwrap_or(usual)
    }

    /// Elements of a head as they are stored: a multiple of 4.
    pub fn stored_head_dim(&self) -> usize {
        self.head_dim.next_multiple_of(4)
    }
}

/// Whether a layer is none of those that are one in so many, the last of them.
fn but(every: Option<usize>, layer: usize) -> bool {
    every.is_none_or(|every| !(layer + 1).is_multiple_of(every))
}

/// The factor on embeddings where the file does not say.
fn embedding_scale(family: &Family, hidden: usize) -> f32 {
    if family.scales_embeddings {
        (hidden as f32).sqrt()
    } else {
        1.0
    }
}

/// The factor on attention of a context stretched by `stretch`, where no file says it.
pub(crate) fn long_attention(stretch: f64, original: f64) -> f64 {
    if stretch <= 1.0 {
        1.0
    } else {
        (1.0 + stretch.ln() / original.ln()).sqrt()
    }
}
