//! Mixtures of experts in company, whose files are broken, or have experts in several formats.

use std::borrow::Cow;
use std::path::Path;

use fireside_formats::write::GgufWriter;
use fireside_formats::{DType, FormatError, TensorInfo, TensorSource, WeightFile, dequantize};
use fireside_model::device::ComputeDevice;
use fireside_model::load::{Description, load};
use fireside_model::path::{OpenModel, load_path};
use fireside_model::step::{Chunk, RowSelection, Step};
use fireside_model::{BLOCK, DecoderConfig, KvDtype, LoadedModel, Model, ModelError, Naming};
use fireside_tests::{Runner, devices, fixture};

/// A model file that lacks a tensor.
struct Without<'a, S>(&'a WeightFile<S>, &'a str);

impl<S: fireside_formats::ByteSource> TensorSource for Without<'_, S> {
    fn tensors(&self) -> &[TensorInfo] {
        self.0.tensors()
    }

    fn get(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        if name == self.1 {
            let tensor = name.to_owned();
            return Err(FormatError::MissingTensor { tensor });
        }
        self.0.get(name)
    }

    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, FormatError> {
        self.0.bytes(name)
    }

    fn release(&self, name: &str) {
        self.0.release(name);
    }
}

fn naming(path: &Path) -> Naming {
    match path.is_dir() {
        true => Naming::HuggingFace,
        false => Naming::Gguf,
    }
}

/// What is said of a fixture whose config is changed and which lacks a tensor.
fn refused(name: &str, without: &str, change: impl Fn(&mut DecoderConfig)) -> String {
    let path = fixture("families").join(name);
    let mut open = OpenModel::open(&path).unwrap();
    change(&mut open.description.config);
    let source = Without(&open.weights, without);
    let device = ComputeDevice::cpu();
    let loaded = load(
        open.description,
        &source,
        naming(&path),
        device,
        &mut |_, _| {},
    );
    loaded.unwrap_err().to_string()
}

#[test]
fn experts_without_a_router_or_of_other_counts_are_refused_by_name() {
    let same = |_: &mut DecoderConfig| {};
    let count = |count: usize| {
        move |config: &mut DecoderConfig| config.experts.as_mut().unwrap().count = count
    };
    let wider = |config: &mut DecoderConfig| config.experts.as_mut().unwrap().width = 21;
    let router = "model.layers.1.mlp.gate.weight";
    assert_eq!(
        refused("qwen3-moe", router, same),
        "layer 1 has experts and no router: there is no tensor \"model.layers.1.mlp.gate.weight\""
    );
    let router = "blk.0.ffn_gate_inp.weight";
    assert_eq!(
        refused("mixtral/model.gguf", router, same),
        "layer 0 has experts and no router: there is no tensor \"blk.0.ffn_gate_inp.weight\""
    );
    for wrong in [4, 6] {
        let expected = format!(
            "tensor \"model.layers.0.mlp.gate.weight\" has shape [5, 48], the config makes it [{wrong}, 48]"
        );
        assert_eq!(refused("qwen3-moe", "", count(wrong)), expected);
    }
    assert_eq!(
        refused("olmoe/model.gguf", "", count(8)),
        "tensor \"blk.0.ffn_gate_inp.weight\" has shape [7, 48], the config makes it [8, 48]"
    );
    let missing = "model.layers.1.block_sparse_moe.experts.2.w3.weight";
    let message = refused("mixtral", missing, same);
    assert!(message.contains(missing), "{message}");
    assert_eq!(
        refused("qwen3-moe", "", wider),
        "tensor \"model.layers.0.mlp.experts.0.gate_proj.weight\" has shape [20, 48], the config makes it [21, 48]"
    );
    assert_eq!(
        refused("qwen3-moe/model.gguf", "", wider),
        "tensor \"blk.0.ffn_gate_exps.weight\" has shape [5, 20, 48], the config makes it [5, 21, 48]"
    );
}

#[test]
fn a_gguf_files_experts_are_described_and_unlikely_ones_refused() {
    let described = |name: &str| {
        let open = OpenModel::open(&fixture("families").join(name)).unwrap();
        open.description.config.experts.unwrap()
    };
    let own = described("mixtral/model.gguf");
    assert_eq!((own.count, own.chosen, own.width), (3, 2, 40));
    assert!(own.normalized);
    let own = described("olmoe/model.gguf");
    assert_eq!((own.count, own.chosen, own.width), (7, 3, 20));
    assert!(!own.normalized);

    let metadata = |more: &[(&str, u32)]| {
        let mut all = vec![
            ("llama.block_count", 1),
            ("llama.attention.head_count", 2),
            ("llama.embedding_length", 8),
            ("llama.feed_forward_length", 8),
            ("llama.context_length", 64),
            ("llama.vocab_size", 9),
            ("llama.expert_count", 4),
        ];
        all.extend(more);
        let mut writer = GgufWriter::new();
        writer.metadata("general.architecture", "llama").unwrap();
        let eps = "llama.attention.layer_norm_rms_epsilon";
        writer.metadata(eps, 1e-5f32).unwrap();
        for (key, value) in all {
            writer.metadata(key, value).unwrap();
        }
        let file = WeightFile::from_gguf("m.gguf", writer.to_bytes(&[]).unwrap()).unwrap();
        DecoderConfig::from_gguf(file.gguf().unwrap())
    };
    let message = |more: &[(&str, u32)]| metadata(more).unwrap_err().to_string();
    let used = "llama.expert_used_count";
    assert!(metadata(&[(used, 2)]).is_ok());
    assert_eq!(
        message(&[(used, 5)]),
        "the model's sizes are wrong: a token takes 5 experts, a layer has 4"
    );
    assert!(message(&[]).contains(used), "{}", message(&[]));
    assert_eq!(
        message(&[(used, 2), ("llama.expert_gating_func", 2)]),
        "llama.expert_gating_func is 2, it must be 1, a softmax"
    );
}

/// A fixed stream of bytes.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 56) as u8
    }

    /// A made-up tensor of weights of about unit size or below.
    fn tensor(&mut self, dtype: DType, elements: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..elements / dtype.block_len() {
            let mut block: Vec<u8> = (0..dtype.block_bytes()).map(|_| self.next()).collect();
            // Scales of blocks and halves: 2^-7 to 2^-3, and never not a number.
            let halves = match dtype {
                DType::F32 => {
                    let value = f32::from(self.next() as i8) / 256.0;
                    block.copy_from_slice(&value.to_le_bytes());
                    0
                }
                DType::F16 | DType::Q8_0 | DType::Q4_0 => 1,
                DType::Q4_1 => 2,
                other => panic!("no made-up {other:?}"),
            };
            for half in 0..halves {
                let sign = if dtype == DType::F16 {
                    block[1] & 0x80
                } else {
                    0
                };
                let exponent = if dtype == DType::Q8_0 { 0x18 } else { 0x24 };
                block[2 * half + 1] = exponent | sign | block[2 * half + 1] & 3;
            }
            all.extend(block);
        }
        all
    }
}

/// A model of made-up weights whose gates, up rows and down rows have formats of their own; all as floats
/// where `plain`.
fn made_up(formats: [DType; 3], plain: bool, device: ComputeDevice) -> LoadedModel {
    let [gate, up, down] = formats;
    let (hidden, width, experts, vocab) = (64, 32, 5, 96);
    let tensors: [(&str, &[usize], DType); 12] = [
        ("token_embd.weight", &[vocab, hidden], DType::F32),
        ("output.weight", &[vocab, hidden], DType::F32),
        ("output_norm.weight", &[hidden], DType::F32),
        ("blk.0.attn_norm.weight", &[hidden], DType::F32),
        ("blk.0.attn_q.weight", &[hidden, hidden], DType::F32),
        ("blk.0.attn_k.weight", &[hidden, hidden], DType::F32),
        ("blk.0.attn_v.weight", &[hidden, hidden], DType::F32),
        ("blk.0.attn_output.weight", &[hidden, hidden], DType::F32),
        ("blk.0.ffn_norm.weight", &[hidden], DType::F32),
        ("blk.0.ffn_gate_inp.weight", &[experts, hidden], DType::F32),
        (
            "blk.0.ffn_gate_exps.weight",
            &[experts, width, hidden],
            gate,
        ),
        ("blk.0.ffn_up_exps.weight", &[experts, width, hidden], up),
    ];
    let down = (
        "blk.0.ffn_down_exps.weight",
        &[experts, hidden, width][..],
        down,
    );
    let mut random = Bytes(7);
    let mut writer = GgufWriter::new();
    let mut data = Vec::new();
    for (name, shape, dtype) in tensors.into_iter().chain([down]) {
        let elements = shape.iter().product();
        let mut bytes = random.tensor(dtype, elements);
        if plain {
            let mut values = vec![0.0; elements];
            dequantize(dtype, &bytes, &mut values).unwrap();
            bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        }
        let dtype = if plain { DType::F32 } else { dtype };
        writer.tensor(name, shape, dtype).unwrap();
        data.push(bytes);
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let source = WeightFile::from_gguf("m.gguf", writer.to_bytes(&data).unwrap()).unwrap();
    let config = format!(
        r#"{{"model_type": "mixtral", "hidden_size": {hidden}, "intermediate_size": {width},
        "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": {vocab},
        "max_position_embeddings": 64, "num_local_experts": {experts}, "num_experts_per_tok": 2}}"#
    );
    let text = OpenModel::open(&fixture("families/mixtral")).unwrap();
    let description = Description {
        config: DecoderConfig::from_json(config.as_bytes()).unwrap(),
        text: text.description.text,
        packing: None,
        embedding: None,
        ranking: None,
        quantize: None,
    };
    let loaded: Result<_, ModelError> =
        load(description, &source, Naming::Gguf, device, &mut |_, _| {});
    loaded.unwrap()
}

/// Runs sequences of tokens side by side, a prompt of four and then token by token; the token that each step
/// chooses for each sequence, and its log-probability.
fn side_by_side(model: &Model, sequences: &[Vec<u32>]) -> Vec<Vec<(u32, f32)>> {
    let each = sequences[0].len().div_ceil(BLOCK);
    let mut cache = model.cache(each * sequences.len(), KvDtype::F32).unwrap();
    let mut found = vec![Vec::new(); sequences.len()];
    let mut start = 0;
    while start < sequences[0].len() {
        let end = if start == 0 { 4 } else { start + 1 };
        let chunk = |(number, tokens): (usize, &Vec<u32>)| Chunk {
            tokens: tokens[start..end].to_vec(),
            start,
            blocks: (number * each..(number + 1) * each)
                .map(|b| b as u32)
                .collect(),
            rows: vec![(end - start - 1, RowSelection::default())],
            ..Chunk::default()
        };
        let chunks = sequences.iter().enumerate().map(chunk).collect();
        let step =
            pollster::block_on(model.step(&mut cache, &Step { chunks, next: None })).unwrap();
        for (found, selected) in found.iter_mut().zip(step) {
            let best = selected.selection;
            found.push((best.token, best.max - best.log_sum_exp));
        }
        start = end;
    }
    found
}

#[test]
fn a_sequence_takes_the_same_experts_in_any_company() {
    let test = "a_sequence_takes_the_same_experts_in_any_company";
    for (place, device) in devices(test) {
        for name in ["qwen3-moe", "qwen3-moe-sparse", "mixtral/model.gguf"] {
            let path = fixture("families").join(name);
            let model = load_path(&path, device.clone()).unwrap().model;
            let sequence = |seed: u32| (0..11).map(|at| (seed * 31 + at * 17) % 96).collect();
            let sequences: Vec<Vec<u32>> = (0..6).map(sequence).collect();
            let together = side_by_side(&model, &sequences);
            for (sequence, together) in sequences.iter().zip(together) {
                let alone = side_by_side(&model, std::slice::from_ref(sequence));
                for (a, t) in alone[0].iter().zip(&together) {
                    assert_eq!(a.0, t.0, "{name} on {place}");
                    assert!((a.1 - t.1).abs() <= 1e-4, "{name} on {place}: {a:?}, {t:?}");
                }
            }
        }
    }
}

#[test]
fn experts_whose_parts_have_formats_of_their_own_keep_their_values() {
    let test = "experts_whose_parts_have_formats_of_their_own_keep_their_values";
    for (place, device) in devices(test) {
        for formats in [
            [DType::Q4_0, DType::Q4_0, DType::Q8_0],
            [DType::Q4_0, DType::Q8_0, DType::Q4_1],
            [DType::F16, DType::Q4_1, DType::F16],
        ] {
            let logits = |plain| {
                let model = made_up(formats, plain, device.clone()).model;
                let mut runner = Runner::new(&model, 12, KvDtype::F32).unwrap();
                let tokens: Vec<u32> = (0..9).map(|i| 5 + i * 7).collect();
                let mut all = runner.logits(&tokens).unwrap();
                all.extend(runner.logits(&[3]).unwrap());
                all.concat()
            };
            let (own, plain) = (logits(false), logits(true));
            assert!(plain.iter().any(|v| v.abs() > 0.1));
            for (a, e) in own.iter().zip(&plain) {
                assert!((a - e).abs() <= 1e-4, "{formats:?} on {place}: {a} for {e}");
            }
        }
    }
}
