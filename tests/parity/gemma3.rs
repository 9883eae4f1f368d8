//! Gemma 3 270M, the real file, against transformers on the same weights in f32: its embedding table is
//! larger than a binding of 128 MiB, and one prompt is longer than its window.

use fireside_tests::gemma3;
use fireside_tests::greedy::Greedy;
use fireside_tests::perplexity::check_perplexity;

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
    check_perplexity(&path, "gemma3-perplexity.json");
}
