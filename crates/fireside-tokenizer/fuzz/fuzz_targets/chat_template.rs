//! Any text as a chat template: an error, or a prompt of bounded size.

#![no_main]

use fireside_tokenizer::{ChatInput, ChatTemplate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    if let Ok(template) = ChatTemplate::new(source, [("bos_token", "<s>")]) {
        if let Ok(prompt) = template.render(&ChatInput::new(&[]).with_generation_prompt()) {
            assert!(prompt.len() < 8 << 20);
        }
    }
});
