//! Completes a batch of prompts: `cargo run -p fireside-examples --example complete`.

use fireside::{GenerationParams, blocking};

fn main() -> Result<(), fireside::Error> {
    let mut generator = blocking::pipeline("text-generation", "smollm2")?;
    let params = GenerationParams {
        max_new_tokens: Some(16),
        ..Default::default()
    };
    let prompts = ["The capital of France is", "Water boils at"];
    for output in generator.generate(prompts, &params)? {
        println!("{}{}", prompts[output.input], output.text);
    }
    Ok(())
}
