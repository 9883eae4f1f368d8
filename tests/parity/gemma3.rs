//! Gemma 3 270M, the real file, against transformers on the same weights in f32: its embedding table is
//! larger than a binding of 128 MiB, and one prompt is longer than its window.

use fireside::{DeviceChoice, Loading, blocking};
use fireside_tests::greedy::Greedy;
use fireside_tests::{fixture, gemma3};

#[test]
fn texts_become_the_tokens_of_sentencepiece() {
    let Some(path) = gemma3("texts_become_the_tokens_of_sentencepiece") else {
        return;
    };
    let reference = Greedy::load("gemma3-greedy.json");
    assert!(reference.tokenization.len() > 20);
    reference.check_texts(&path);
}

#[test]
fn greedy_tokens_of_gemma_equal_the_reference() {
    let test = "greedy_tokens_of_gemma_equal_the_reference";
    let Some(path) = gemma3(test) else { return };
    let reference = Greedy::load("gemma3-greedy.json");
    let prompts = &reference.prompts;
    assert!(prompts.iter().any(|p| p.prompt_token_ids.len() > 512));
    reference.check_tokens(test, &path);
}

#[test]
fn the_perplexity_of_a_text_is_the_reference_s() {
    let test = "the_perplexity_of_a_text_is_the_reference_s";
    let Some(path) = gemma3(test) else { return };
    let text = std::fs::read_to_string(fixture("scandal.txt")).unwrap();
    let paragraph = text.lines().next().unwrap();
    let reference = std::fs::read_to_string(fixture("gemma3-perplexity.json")).unwrap();
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
