//! Llama 2 and 3, and what is built like them: SmolLM2, TinyLlama, Falcon 3, the Llama distills of
//! DeepSeek-R1.

use super::Family;

pub(super) const FAMILY: Family = Family::LLAMA;
