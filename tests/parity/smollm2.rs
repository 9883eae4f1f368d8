//! SmolLM2-135M-Instruct, the real file, against transformers on the same weights in f32: greedy
//! tokens of every prompt, on the CPU twins and on the adapter.

use std::collections::HashMap;

use fireside_model::KvDtype;
use fireside_model::path::{OpenModel, load_path};
use fireside_model::step::RowSelection;
use fireside_tests::{Runner, devices, fixture, smollm2};
use serde::Deserialize;

/// Where the reference's two best logits are closer than this, another token is not an error.
const NEAR_TIE: f64 = 0.05;

#[derive(Deserialize)]
struct Fixture {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    name: String,
    text: String,
    messages: Option<Vec<serde_json::Value>>,
    prompt_token_ids: Vec<u32>,
    generated_token_ids: Vec<u32>,
    /// Per step: best token, its logit, second token, its logit.
    top2: Vec<(u32, f64, u32, f64)>,
}

fn prompts() -> Vec<Prompt> {
    let text = std::fs::read_to_string(fixture("smollm2-greedy.json")).unwrap();
    serde_json::from_str::<Fixture>(&text).unwrap().prompts
}

#[test]
fn prompts_tokenize_and_render_as_the_reference() {
    let test = "prompts_tokenize_and_render_as_the_reference";
    let Some(path) = smollm2(test) else { return };
    let open = OpenModel::open(&path).unwrap();
    let text = &open.description.text;
    for prompt in prompts() {
        let ids = text.tokenizer.encode(&prompt.text, true).unwrap();
        assert_eq!(ids, prompt.prompt_token_ids, "{}", prompt.name);
        if let Some(messages) = &prompt.messages {
            let template = text.template.as_ref().unwrap();
            let input = fireside_tokenizer::ChatInput::new(messages).with_generation_prompt();
            assert_eq!(
                template.render(&input).unwrap(),
                prompt.text,
                "{}",
                prompt.name
            );
        }
    }
}

#[test]
fn greedy_tokens_equal_the_reference() {
    let test = "greedy_tokens_equal_the_reference";
    let Some(path) = smollm2(test) else { return };
    let prompts = prompts();
    assert!(prompts.len() >= 8);
    assert!(prompts.iter().any(|p| p.prompt_token_ids.len() > 600));
    for (place, device) in devices(test) {
        let loaded = load_path(&path, device).unwrap();
        let mut near = HashMap::new();
        for prompt in &prompts {
            let reference = &prompt.generated_token_ids;
            let positions = prompt.prompt_token_ids.len() + reference.len();
            let mut runner = Runner::new(&loaded.model, positions, KvDtype::F16).unwrap();
            let greedy = RowSelection::default();
            // Forced decoding: each step continues the reference, so that one difference does
            // not hide or cause others. The twins have one path for a step and for many tokens at
            // once (checkpoints.rs compares the two), so the CPU takes the quicker.
            let mut tokens = Vec::new();
            let mut run = |next: &[u32]| {
                let rows = runner.run(next, !tokens.is_empty(), &greedy).unwrap();
                tokens.extend(rows.iter().map(|row| row.selection.token));
            };
            run(&prompt.prompt_token_ids);
            let forced = &reference[..reference.len() - 1];
            if place == "cpu" {
                run(forced);
            } else {
                forced.iter().for_each(|token| run(&[*token]));
            }
            assert_eq!(tokens.len(), reference.len());
            let steps = tokens.iter().zip(reference).zip(&prompt.top2).enumerate();
            for (step, ((token, expected), top)) in steps {
                if token != expected {
                    let gap = top.1 - top.3;
                    assert!(
                        gap < NEAR_TIE,
                        "{} on {place}: step {step} gives {token}, the reference {expected} by {gap}",
                        prompt.name
                    );
                    *near.entry(prompt.name.clone()).or_insert(0) += 1;
                }
            }
        }
        println!(
            "{place}: {} near ties went the other way {near:?}",
            near.values().sum::<i32>()
        );
    }
}
