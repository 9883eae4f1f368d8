//! SmolLM2-135M-Instruct, the real file, against transformers on the same weights in f32: greedy
//! tokens of every prompt, on the CPU twins and on the adapter, and the perplexity of a text.

use fireside::{DeviceChoice, Loading, blocking};
use fireside_tests::greedy::Greedy;
use fireside_tests::{fixture, smollm2};

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
    let text = std::fs::read_to_string(fixture("scandal.txt")).unwrap();
    let paragraph = text.lines().next().unwrap();
    let reference = std::fs::read_to_string(fixture("smollm2-perplexity.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_str(&reference).unwrap();
    let window = reference["window"].as_u64().unwrap() as usize;
    let loading = Loading::new(path.to_str().unwrap())
        .device(DeviceChoice::Auto)
        .context(Some(window));
    let mut pipeline = blocking::load(loading).unwrap();
    let found = pipeline.perplexity(paragraph, window, |_| ()).unwrap();
    assert_eq!(Some(found.counted as u64), reference["counted"].as_u64());
    let expected = reference["perplexity"].as_f64().unwrap();
    let difference = (found.value / expected - 1.0).abs();
    println!("{:.5}, transformers {expected}", found.value);
    // Keys and values are halves here, and floats there.
    assert!(difference < 2e-3, "{} instead of {expected}", found.value);
}
