//! Any vocabulary of a GGUF file: an error, or a tokenizer that encodes and decodes.

#![no_main]

use arbitrary::Arbitrary;
use fireside_tokenizer::{GgufVocab, SpecialText, Tokenizer};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    sentencepiece: bool,
    pre: u8,
    tokens: Vec<(&'a str, f32, i8)>,
    merges: Vec<(u8, u8)>,
    bos: Option<u8>,
    eos: Option<u8>,
    unk: Option<u8>,
    flags: [Option<bool>; 4],
    text: &'a str,
    ids: Vec<u16>,
}

fuzz_target!(|input: Input<'_>| {
    let token = |index: u8| input.tokens.get(usize::from(index)).map_or("", |token| token.0);
    let merges: Vec<String> = input.merges.iter().map(|&(l, r)| format!("{} {}", token(l), token(r))).collect();
    let pres = ["gpt-2", "llama-bpe", "qwen2", "falcon", "superbpe", "deepseek-llm", "tekken"];
    let vocab = GgufVocab {
        model: if input.sentencepiece { "llama" } else { "gpt2" },
        pre: pres.get(usize::from(input.pre)).copied(),
        tokens: input.tokens.iter().map(|token| token.0).collect(),
        scores: input.tokens.iter().map(|token| token.1).collect(),
        token_types: input.tokens.iter().map(|token| i32::from(token.2)).collect(),
        merges: merges.iter().map(String::as_str).collect(),
        bos: input.bos.map(u32::from),
        eos: input.eos.map(u32::from),
        unk: input.unk.map(u32::from),
        add_bos: input.flags[0],
        add_eos: input.flags[1],
        add_space_prefix: input.flags[2],
        remove_extra_whitespaces: input.flags[3],
        ..GgufVocab::default()
    };
    let Ok(tokenizer) = Tokenizer::from_gguf(&vocab) else {
        return;
    };
    let mut ids: Vec<u32> = input.ids.iter().map(|&id| u32::from(id)).collect();
    for special in [SpecialText::Parse, SpecialText::Plain] {
        ids.extend(tokenizer.encode_with(input.text, true, special).unwrap_or_default());
    }
    for skip in [false, true] {
        let mut stream = tokenizer.stream(skip);
        let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        text.extend(stream.finish());
        assert_eq!(text, tokenizer.decode(&ids, skip));
    }
});
