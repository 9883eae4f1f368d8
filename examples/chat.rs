//! Streams the answer to a chat message: `cargo run -p fireside-examples --example chat`.

use std::io::Write;
use std::ops::ControlFlow;

use fireside::{Event, GenerationParams, Message, blocking};

fn main() -> Result<(), fireside::Error> {
    let mut generator = blocking::pipeline("text-generation", "smollm2")?;
    let messages = vec![
        Message::new("system", "You answer in one sentence."),
        Message::new("user", "Why is the sky blue?"),
    ];
    let params = GenerationParams {
        temperature: Some(0.7),
        seed: Some(7),
        ..Default::default()
    };
    generator.stream(messages, &params, |_, event| {
        if let Event::Token(token) = event {
            print!("{}", token.text);
            // A closed pipe shows at the next write.
            let _ = std::io::stdout().flush();
        }
        ControlFlow::Continue(())
    })?;
    println!();
    Ok(())
}
