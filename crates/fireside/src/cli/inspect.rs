//! `fireside inspect`: what a model file holds, without loading it.

use std::collections::BTreeMap;

use anyhow::Result;
use fireside_formats::TensorSource;
use fireside_model::path::OpenModel;
use fireside_model::rope::RopeScaling;
use fireside_model::{BLOCK, KvCache, KvDtype};

use super::output::human_bytes;

/// Prints architecture, sizes, quantization mix, context and template.
pub(super) fn run(path: &std::path::Path) -> Result<()> {
    let open = OpenModel::open(path)?;
    let config = &open.description.config;
    let text = &open.description.text;

    let mut mix: BTreeMap<String, (usize, u64, u64)> = BTreeMap::new();
    let mut elements = 0u64;
    let mut bytes = 0u64;
    for tensor in open.weights.tensors() {
        let entry = mix.entry(tensor.dtype.to_string()).or_default();
        entry.0 += 1;
        entry.1 += tensor.elements() as u64;
        entry.2 += tensor.byte_len();
        elements += tensor.elements() as u64;
        bytes += tensor.byte_len();
    }

    println!("file           {}", path.display());
    println!("architecture   {}", config.family.name);
    println!(
        "parameters     {:.1} M in {} tensors, {}",
        elements as f64 / 1e6,
        open.weights.tensors().len(),
        human_bytes(bytes)
    );
    println!(
        "layers         {}, hidden {}, feed-forward {}",
        config.layers, config.hidden, config.intermediate
    );
    if let Some(experts) = config.experts {
        println!(
            "experts        {} of {} a token, feed-forward {}",
            experts.chosen, experts.count, experts.width
        );
    }
    println!(
        "heads          {} of {}, {} for keys and values",
        config.heads, config.head_dim, config.kv_heads
    );
    println!(
        "vocabulary     {} rows, {} tokens, {} head",
        config.vocab,
        text.tokenizer.vocab_size(),
        if config.tied { "tied" } else { "separate" }
    );
    println!(
        "context        {} positions, rope base {}, scaling {}",
        config.context,
        config.rope.theta,
        scaling(&config.rope.scaling)
    );
    let cache = [KvDtype::F16, KvDtype::Q8].map(|kv| {
        let bytes = KvCache::block_bytes(config, kv) * 1000 / BLOCK as u64;
        format!("{} in {}", human_bytes(bytes), kv.name())
    });
    println!("kv cache       {} per 1000 positions", cache.join(", "));
    println!("quantization");
    for (dtype, (count, elements, bytes)) in &mix {
        println!(
            "  {dtype:<6} {count:>4} tensors  {:>8.1} M weights  {:>10}  {:.2} bits each",
            *elements as f64 / 1e6,
            human_bytes(*bytes),
            *bytes as f64 * 8.0 / (*elements).max(1) as f64
        );
    }
    let special = text.tokenizer.special_tokens();
    let name = |id: Option<u32>| {
        id.and_then(|id| {
            text.tokenizer
                .id_to_token(id)
                .map(|t| format!("{id} {t:?}"))
        })
        .unwrap_or_else(|| "none".into())
    };
    println!(
        "begin, end     {}, {}",
        name(special.bos),
        name(special.eos)
    );
    match &text.template {
        None => println!("chat template  none: use it for completion"),
        Some(template) => {
            println!("chat template");
            for line in template.source().lines() {
                println!("  {line}");
            }
        }
    }
    Ok(())
}

fn scaling(scaling: &RopeScaling) -> String {
    match scaling {
        RopeScaling::None => "none".into(),
        RopeScaling::Linear { factor } => format!("linear x{factor}"),
        RopeScaling::Dynamic { factor, .. } => format!("dynamic x{factor}"),
        RopeScaling::Llama3 { factor, .. } => format!("llama3 x{factor}"),
        RopeScaling::Long { .. } => "long".into(),
        RopeScaling::Factors { .. } => "by factors".into(),
        RopeScaling::Yarn { factor, .. } => format!("yarn x{factor}"),
    }
}
