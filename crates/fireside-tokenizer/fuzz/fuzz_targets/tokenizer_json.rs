//! Any bytes as a tokenizer.json: an error, or a tokenizer that encodes and decodes.
//!
//! Good seeds: the `*_tokenizer.json` files in `tests/fixtures`.

#![no_main]

use fireside_tokenizer::{SpecialText, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(tokenizer) = Tokenizer::from_json(json, None) else {
        return;
    };
    for special in [SpecialText::Parse, SpecialText::Plain] {
        if let Ok(ids) = tokenizer.encode_with("a <s> é日🔥\n  12\u{0}</s>ab", true, special) {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            let mut stream = tokenizer.stream(false);
            let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
            text.extend(stream.finish());
            assert_eq!(text, tokenizer.decode(&ids, false));
        }
    }
});
