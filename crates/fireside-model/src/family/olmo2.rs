//! OLMo 2: norms after attention and feed-forward layers only, and all query heads normed as one, as all
//! key heads are.

use super::{Family, HeadNorms, NormPlaces};

pub(super) const FAMILY: Family = Family {
    name: "olmo2",
    model_types: &["olmo2"],
    gguf_architectures: &["olmo2"],
    gguf_pairs_neighbours: false,
    norms: NormPlaces::After,
    head_norms: HeadNorms::Whole,
    eps: 1e-5,
    ..Family::LLAMA
};
