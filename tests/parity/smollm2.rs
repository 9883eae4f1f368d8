//! SmolLM2-135M-Instruct, the real file, against transformers on the same weights in f32: greedy
//! tokens of every prompt, on the CPU twins and on the adapter, and the perplexity of a text.

use fireside_tests::greedy::Greedy;
use fireside_tests::perplexity::check_perplexity;
use fireside_tests::smollm2;

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
