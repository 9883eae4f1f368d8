//! SmolLM2-135M-Instruct, the real file, against transformers on the same weights in f32: greedy
//! tokens of every prompt, on the CPU twins and on the adapter, and the perplexity of a text. And what a KV
//! cache of bytes costs it in quality.

use fireside_model::KvDtype;
use fireside_model::path::load_path;
use fireside_tests::greedy::Greedy;
use fireside_tests::perplexity::check_perplexity;
use fireside_tests::{Runner, fixture, gpu, skip, smollm2};

#[test]
fn prompts_tokenize_and_render_as_the_reference() {
    let test = "prompts_tokenize_and_render_as_the_reference";
    let Some(path) = smollm2(test) else { return };
    let reference = Greedy::load("smollm2-greedy.json");
    assert!(reference.prompts.iter().any(|p| p.messages.is_some()));
    reference.check_texts(&path);
}

#[test]
fn greedy_tokens_equal_the_reference() {
    let test = "greedy_tokens_equal_the_reference";
    let Some(path) = smollm2(test) else { return };
    let reference = Greedy::load("smollm2-greedy.json");
    let prompts = &reference.prompts;
    assert!(prompts.len() >= 8);
    assert!(prompts.iter().any(|p| p.prompt_token_ids.len() > 600));
    reference.check_tokens(test, &path);
}

#[test]
fn the_perplexity_of_a_text_is_the_reference_s() {
    let test = "the_perplexity_of_a_text_is_the_reference_s";
    let Some(path) = smollm2(test) else { return };
    check_perplexity(&path, "smollm2-perplexity.json");
}

/// The best token of a row of logits, and the log-probability of another.
fn best_and_log_probability(logits: &[f32], token: u32) -> (usize, f64) {
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    let best = best.unwrap();
    let above = |logit: f32| f64::from(logit - logits[best]);
    let sum: f64 = logits.iter().map(|l| above(*l).exp()).sum();
    (best, above(logits[token as usize]) - sum.ln())
}

#[test]
fn a_cache_of_bytes_chooses_the_tokens_of_one_of_halves() {
    /// Tokens of the text, and of each step of its first part; what is left comes token by token.
    const TOKENS: usize = 513;
    const STEP: usize = 64;
    const PREFILL: usize = 384;
    let test = "a_cache_of_bytes_chooses_the_tokens_of_one_of_halves";
    let Some(path) = smollm2(test) else { return };
    let Some(device) = gpu() else {
        return skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    };
    let loaded = load_path(&path, device).unwrap();
    let text = std::fs::read_to_string(fixture("scandal.txt")).unwrap();
    let tokens = &loaded.text.tokenizer.encode(&text, true).unwrap()[..TOKENS];
    let runner = |kv| Runner::new(&loaded.model, TOKENS, kv).unwrap();
    let (mut halves, mut bytes) = (runner(KvDtype::F16), runner(KvDtype::Q8));
    // The text itself goes on, whatever was chosen, so that one difference does not hide or cause others.
    let (mut same, mut sum, mut most, mut lost) = (0, 0.0, 0.0f64, 0.0);
    let mut at = 0;
    while at + 1 < TOKENS {
        let count = if at < PREFILL { STEP } else { 1 };
        let step = &tokens[at..at + count];
        let rows = halves.logits(step).unwrap();
        for (own, other) in rows.iter().zip(bytes.logits(step).unwrap()) {
            at += 1;
            let (best, expected) = best_and_log_probability(own, tokens[at]);
            let (token, actual) = best_and_log_probability(&other, tokens[at]);
            same += usize::from(best == token);
            sum += (actual - expected).abs();
            most = most.max((actual - expected).abs());
            lost += expected - actual;
        }
    }
    let agreement = same as f64 / at as f64;
    let mean = sum / at as f64;
    let perplexity = (lost / at as f64).exp();
    println!(
        "{same} of {at} tokens the same, log-probabilities {mean:.5} off, at most {most:.5}, perplexity x {perplexity:.5}"
    );
    assert!(agreement >= 0.97, "{same} of {at} tokens the same");
    // The best token stays where few scales are wrong; this shows them.
    assert!(mean < 0.06, "log-probabilities are {mean} off");
}
