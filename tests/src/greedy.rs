//! A real model file against what transformers computed with the same weights in f32: its prompts' tokens,
//! and greedy tokens under forced decoding.

use std::collections::HashMap;
use std::path::Path;

use fireside_model::path::{OpenModel, load_path};
use fireside_model::step::RowSelection;
use fireside_model::{KvDtype, LoadedModel};
use serde::Deserialize;

use crate::{Runner, devices, fixture};

/// Where the reference's two best logits are closer than this, another token is not an error.
const NEAR_TIE: f64 = 0.05;

/// What a script of `reference/` wrote.
#[derive(Debug, Deserialize)]
pub struct Greedy {
    /// The prompts and what follows them.
    pub prompts: Vec<Prompt>,
    /// Texts and their tokens, without those that a model wants around a text.
    #[serde(default)]
    pub tokenization: Vec<(String, Vec<u32>)>,
}

/// A prompt and the reference's greedy tokens.
#[derive(Debug, Deserialize)]
pub struct Prompt {
    /// What messages call it.
    pub name: String,
    /// The prompt, rendered where it is a chat.
    pub text: String,
    /// The chat's messages.
    pub messages: Option<Vec<serde_json::Value>>,
    /// The prompt's tokens.
    pub prompt_token_ids: Vec<u32>,
    /// The tokens that follow.
    pub generated_token_ids: Vec<u32>,
    /// Per step: best token, its logit, second token, its logit.
    pub top2: Vec<(u32, f64, u32, f64)>,
}

impl Greedy {
    /// The content of a fixture.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    pub fn load(name: &str) -> Self {
        let text = std::fs::read_to_string(fixture(name)).expect("the fixture is there");
        serde_json::from_str(&text).expect("the fixture is of this form")
    }

    /// Asserts that texts and prompts of the file at `path` become the reference's tokens, and chats its texts.
    ///
    /// # Panics
    ///
    /// When one differs.
    pub fn check_texts(&self, path: &Path) {
        let open = OpenModel::open(path).unwrap_or_else(|error| panic!("{error}"));
        let text = &open.description.text;
        let encode = |of: &str, special| text.tokenizer.encode(of, special).expect("a text");
        for (own, ids) in &self.tokenization {
            assert_eq!(&encode(own, false), ids, "{own:?}");
        }
        for prompt in &self.prompts {
            let ids = encode(&prompt.text, true);
            assert_eq!(ids, prompt.prompt_token_ids, "{}", prompt.name);
            if let Some(messages) = &prompt.messages {
                let template = text.template.as_ref().expect("a chat template");
                let input = fireside_tokenizer::ChatInput::new(messages).with_generation_prompt();
                let rendered = template.render(&input).expect("a chat");
                assert_eq!(rendered, prompt.text, "{}", prompt.name);
            }
        }
    }

    /// Asserts that the file at `path` chooses the reference's tokens on the CPU and on the adapter, near ties
    /// aside.
    ///
    /// # Panics
    ///
    /// When it chooses another where the reference is sure.
    pub fn check_tokens(&self, test: &str, path: &Path) {
        for (place, device) in devices(test) {
            let loaded = load_path(path, device).unwrap_or_else(|error| panic!("{error}"));
            let mut near = HashMap::new();
            for prompt in &self.prompts {
                let ties = prompt.check(&loaded, place);
                if ties > 0 {
                    near.insert(&prompt.name, ties);
                }
            }
            let all: usize = near.values().sum();
            println!("{place}: {all} near ties went the other way {near:?}");
        }
    }
}

impl Prompt {
    /// Runs a prompt and gives the number of near ties that went the other way.
    fn check(&self, loaded: &LoadedModel, place: &str) -> usize {
        let reference = &self.generated_token_ids;
        let positions = self.prompt_token_ids.len() + reference.len();
        let mut runner = Runner::new(&loaded.model, positions, KvDtype::F16).expect("a cache");
        let greedy = RowSelection::default();
        // Forced decoding: each step continues the reference, so that one difference does
        // not hide or cause others. The twins have one path for a step and for many tokens at
        // once (checkpoints.rs compares the two), so the CPU takes the quicker.
        let mut tokens = Vec::new();
        let mut run = |next: &[u32]| {
            let rows = runner.run(next, !tokens.is_empty(), &greedy);
            tokens.extend(rows.expect("a step").iter().map(|row| row.selection.token));
        };
        run(&self.prompt_token_ids);
        let forced = &reference[..reference.len() - 1];
        if place == "cpu" {
            if !forced.is_empty() {
                run(forced);
            }
        } else {
            forced.iter().for_each(|token| run(&[*token]));
        }
        assert_eq!(tokens.len(), reference.len());
        let mut ties = 0;
        for (step, ((token, expected), top)) in
            tokens.iter().zip(reference).zip(&self.top2).enumerate()
        {
            if token != expected {
                let gap = top.1 - top.3;
                assert!(
                    gap < NEAR_TIE,
                    "{} on {place}: step {step} gives {token}, the reference {expected} by {gap}",
                    self.name
                );
                ties += 1;
            }
        }
        ties
    }
}
