//! Models of random weights, as `cargo xtask synth` writes them, run like any other.

use std::fs;

use fireside::{GenerationParams, Loading};
use fireside_tests::devices;
use xtask::synth::Synthetic;

#[test]
fn a_model_of_random_weights_loads_and_generates() {
    let test = "a_model_of_random_weights_loads_and_generates";
    let folder = std::env::temp_dir().join(format!("fireside-synthetic-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for dtype in ["q4_0", "q4_1", "q8_0", "f16"] {
        let mut model = Synthetic::named("tiny").unwrap();
        model.set("type", dtype).unwrap();
        model.tied = dtype != "q8_0";
        let path = folder.join(format!("{dtype}.gguf"));
        model.write(&path).unwrap();
        let params = GenerationParams {
            max_new_tokens: Some(4),
            do_sample: Some(false),
            ignore_eos: Some(true),
            ..Default::default()
        };
        for (name, _) in devices(test) {
            let loading = Loading::new(path.to_str().unwrap()).device(name.parse().unwrap());
            let mut pipeline = pollster::block_on(loading.text_generation()).unwrap();
            let answer = pollster::block_on(pipeline.generate("the hearth", &params)).unwrap();
            assert_eq!(answer[0].completion.token_ids.len(), 4, "{dtype} on {name}");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}
