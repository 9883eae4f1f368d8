//! `fireside quantize`, `--quantize` and `fireside perplexity` as a user meets them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use fireside_formats::write::{GgufWriter, MetaValue};
use fireside_formats::{DType, Mapping, TensorSource, WeightFile};

use common::fireside;

/// A tiny llama with widths that are blocks; its matrices are Q8_0.
const TINY: &str = "../../tests/fixtures/tiny-gguf/whole.gguf";

fn run(arguments: &[&str]) -> Output {
    fireside()
        .args(arguments)
        .env("FIRESIDE_DEVICE", "cpu")
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap()
}

/// What the command prints where it succeeds.
#[track_caller]
fn says(arguments: &[&str]) -> String {
    let output = run(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The command fails with this code and says `expected`, in one line where it is about content.
#[track_caller]
fn fails(arguments: &[&str], code: i32, expected: &str) {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.starts_with("error: "), "{said}");
    assert!(code == 2 || said.lines().count() == 1, "{said}");
    assert!(said.contains(expected), "wanted {expected:?}, got {said}");
}

/// The tiny model with the floats that its blocks stand for, in a folder that goes away.
struct Float {
    folder: PathBuf,
    path: PathBuf,
}

impl Drop for Float {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Float {
    /// `edit` may change the values of a tensor.
    fn edited(edit: impl Fn(&str, &mut Vec<f32>)) -> Self {
        let file = WeightFile::open(Path::new(TINY)).unwrap();
        let mut writer = GgufWriter::new();
        for (key, value) in file.gguf().unwrap().metadata() {
            writer.metadata(key, MetaValue::from(value)).unwrap();
        }
        writer.metadata("general.file_type", 0_u32).unwrap();
        writer.metadata("general.author", "nobody").unwrap();
        let mut data: Vec<Vec<u8>> = Vec::new();
        for info in file.tensors() {
            writer.tensor(&info.name, &info.shape, DType::F32).unwrap();
            let mut values = file.read_f32(&info.name).unwrap();
            edit(&info.name, &mut values);
            data.push(values.iter().flat_map(|v| v.to_le_bytes()).collect());
        }
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fireside-quantize-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("float.gguf");
        fs::write(&path, writer.to_bytes(&data).unwrap()).unwrap();
        Self { folder, path }
    }

    fn new() -> Self {
        Self::edited(|_, _| ())
    }

    fn model(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn out(&self, name: &str) -> String {
        let path = self.folder.join(name);
        path.to_str().unwrap().to_owned()
    }

    /// The names of all files in the folder.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn open(path: &str) -> WeightFile<Mapping> {
    WeightFile::open(Path::new(path)).unwrap()
}

const SAMPLING: [&str; 5] = ["--temperature", "0", "--ignore-eos", "-n", "12"];

fn answer(model: &str, more: &[&str]) -> String {
    let arguments = ["generate", "the weather", "--model", model];
    says(&[&arguments[..], &SAMPLING, more].concat())
}

#[test]
fn a_quantized_file_has_the_types_asked_for_and_all_metadata() {
    let float = Float::new();
    for (name, of_projections, of_tables, file_type) in [
        ("q8_0", DType::Q8_0, DType::Q8_0, 7),
        ("q4_0", DType::Q4_0, DType::Q8_0, 2),
        ("q4_1", DType::Q4_1, DType::Q8_0, 3),
        ("f16", DType::F16, DType::F16, 1),
    ] {
        let out = float.out(&format!("{name}.gguf"));
        let said = says(&["quantize", float.model(), &out, "--type", name]);
        assert!(said.contains("15 tensors quantized, 5 copied"), "{said}");
        let (before, after) = (open(float.model()), open(&out));
        for (info, old) in after.tensors().iter().zip(before.tensors()) {
            assert_eq!((&info.name, &info.shape), (&old.name, &old.shape));
            let expected = match info.name.as_str() {
                "token_embd.weight" => of_tables,
                own if own.contains("norm") => DType::F32,
                _ => of_projections,
            };
            assert_eq!(info.dtype, expected, "{name}: {}", info.name);
        }
        let gguf = after.gguf().unwrap();
        assert_eq!(gguf.find::<u32>("general.file_type"), Ok(Some(file_type)));
        assert_eq!(
            gguf.find::<u32>("general.quantization_version"),
            Ok(Some(2))
        );
        for (key, value) in before.gguf().unwrap().metadata() {
            if key != "general.file_type" {
                let found = gguf.get(key).map(MetaValue::from);
                assert_eq!(found, Some(MetaValue::from(value)), "{key}");
            }
        }
    }
}

#[test]
fn a_written_file_answers_as_the_float_one_quantized_while_loading() {
    let float = Float::new();
    let mut answers = Vec::new();
    for (name, loading) in [("q4_1", "q4"), ("q8_0", "q8")] {
        let out = float.out(&format!("{name}.gguf"));
        says(&["quantize", float.model(), &out, "--type", name]);
        let written = answer(&out, &[]);
        assert_eq!(answer(float.model(), &["--quantize", loading]), written);
        // What is quantized is left as it is.
        assert_eq!(answer(&out, &["--quantize", "q4"]), written);
        answers.push(written);
    }
    // Eight bits of what were eight bits are the same weights.
    assert_eq!(answers[1], answer(TINY, &[]));
}

#[test]
fn a_model_of_which_nothing_can_be_quantized_is_refused() {
    let float = Float::new();
    let out = float.out("out.gguf");
    let part = "../../tests/fixtures/tiny-gguf/tiny-00002-of-00003.gguf";
    let odd = "../../tests/fixtures/families/qwen2/model.gguf";
    for (source, types) in [(part, "Q8_0"), (odd, "F32")] {
        let expected =
            format!("nothing to quantize to Q4_1: the weights are {types}; expected F32");
        fails(&["quantize", source, &out, "--type", "q4_1"], 1, &expected);
    }
    assert_eq!(float.files(), ["float.gguf"]);
}

#[test]
fn a_file_that_is_there_is_replaced_only_by_force() {
    let float = Float::new();
    let out = float.out("out.gguf");
    fs::write(&out, "precious").unwrap();
    let arguments = ["quantize", float.model(), &out, "--type", "q8_0"];
    fails(
        &arguments,
        1,
        "out.gguf is there already: --force replaces it",
    );
    assert_eq!(fs::read_to_string(&out).unwrap(), "precious");
    says(&[&arguments[..], &["--force"]].concat());
    assert!(open(&out).contains("token_embd.weight"));
    assert_eq!(float.files(), ["float.gguf", "out.gguf"]);
    let same = ["quantize", float.model(), float.model(), "--type", "q4_1"];
    fails(&same, 1, "is there already");
}

#[test]
fn what_cannot_be_quantized_is_said_and_leaves_nothing_behind() {
    let broken = "blk.1.ffn_up.weight";
    let float = Float::edited(|name, values| {
        if name == broken {
            values[70] = f32::NAN;
        }
    });
    let out = float.out("out.gguf");
    let expected = "tensor 'blk.1.ffn_up.weight' cannot be quantized: value NaN";
    for name in ["q4_0", "q8_0", "f16"] {
        fails(
            &["quantize", float.model(), &out, "--type", name],
            1,
            expected,
        );
    }
    let loading = ["generate", "hello", "--model", float.model(), "--quantize"];
    fails(&[&loading[..], &["q4"]].concat(), 1, expected);
    assert_eq!(float.files(), ["float.gguf"]);

    let folder = "../../tests/fixtures/tiny-llama/tied";
    fails(
        &["quantize", folder, &out, "--type", "q8_0"],
        1,
        "is a folder of safetensors, of which no gguf file can be written",
    );
    let nowhere = float.out("no/such/folder/out.gguf");
    fails(
        &["quantize", float.model(), &nowhere, "--type", "q8_0"],
        1,
        "cannot write",
    );
    let types = "possible values: q8_0, q4_0, q4_1, f16";
    fails(
        &["quantize", float.model(), &out, "--type", "q5_k"],
        2,
        types,
    );
    fails(
        &[&loading[..], &["q5"]].concat(),
        2,
        "possible values: q4, q8",
    );
}

/// Bytes of weights on the device, and what the benchmark says about their types.
fn loaded(model: &str, more: &[&str]) -> (u64, String) {
    let short = ["-p", "4", "-n", "2", "-r", "1", "--format", "json"];
    let arguments = ["bench", "--model", model];
    let said = says(&[&arguments[..], &short, more].concat());
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let bytes = report["gpu_bytes"]["weights"].as_u64().unwrap();
    (bytes, report["quantization"].as_str().unwrap().to_owned())
}

#[test]
fn quantized_weights_take_less_memory_on_the_device() {
    let float = Float::new();
    let (whole, types) = loaded(float.model(), &[]);
    assert_eq!(types, "F32 100%");
    let (eight, types) = loaded(float.model(), &["--quantize", "q8"]);
    assert_eq!(types, "F32 100%; floats loaded as q8");
    let (four, _) = loaded(float.model(), &["--quantize", "q4"]);
    assert!(
        four < eight && eight < whole / 3,
        "{four}, {eight}, {whole}"
    );
    assert_eq!(loaded(TINY, &[]).0, eight);
}

#[test]
fn weights_that_lie_transposed_in_safetensors_are_quantized_along_their_rows() {
    // Rows of 48 weights are no blocks and stay floats; those of 192 become blocks.
    let folder = "../../tests/fixtures/families/gpt2";
    let gguf = format!("{folder}/model.gguf");
    for quantize in [["--quantize", "q4"], ["--quantize", "q8"]] {
        for model in [folder, &gguf] {
            assert!(loaded(model, &quantize).0 < loaded(model, &[]).0);
        }
        assert_eq!(answer(folder, &quantize), answer(&gguf, &quantize));
    }
}

#[test]
fn perplexity_counts_the_second_half_of_each_window() {
    let float = Float::new();
    let text = float.out("text.txt");
    // A token per byte, but for "th".
    fs::write(&text, "so it was. ".repeat(20)).unwrap();
    let arguments = ["perplexity", "--model", TINY, "--file", &text];
    let windows = ["--context", "64", "--format", "json"];
    let said = says(&[&arguments[..], &windows].concat());
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["tokens"], 220);
    assert_eq!(
        (&found["windows"], &found["window"]),
        (&3.into(), &64.into())
    );
    assert_eq!(found["counted_tokens"], 3 * 31);
    let value = found["perplexity"].as_f64().unwrap();
    assert!(value > 1.0 && value.is_finite(), "{said}");
    let said = says(&[&arguments[..], &["--context", "64"]].concat());
    assert!(
        said.starts_with(&format!("perplexity     {value:.4} +/- ")),
        "{said}"
    );
    assert!(
        said.contains("93 counted of 220, in 3 windows of 64"),
        "{said}"
    );

    let smaller = says(&[&arguments[..], &windows, &["--quantize", "q8"]].concat());
    assert_eq!(
        smaller,
        serde_json::to_string_pretty(&found).unwrap() + "\n"
    );
}

#[test]
fn a_perplexity_that_cannot_be_measured_says_why() {
    let float = Float::new();
    let text = float.out("text.txt");
    fs::write(&text, "a short text").unwrap();
    let arguments = ["perplexity", "--model", TINY, "--file", &text];
    fails(
        &arguments,
        1,
        "the text has 12 tokens, less than a window of 512",
    );
    let window = |tokens| [&arguments[..], &["--context", tokens]].concat();
    fails(
        &window("3"),
        1,
        "the window is of 3 tokens; expected 4 or more",
    );
    fails(&window("9000"), 1, "context is 9000; expected 1 to 8192");
    fs::write(&text, "").unwrap();
    fails(&arguments, 1, "text.txt is empty");
    fs::write(&text, [0xFF, 0xFE, 0]).unwrap();
    fails(&arguments, 1, "cannot read");
    fs::remove_file(&text).unwrap();
    fails(&arguments, 1, "text.txt");
}
