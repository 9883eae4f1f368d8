//! The `fireside` command as a user meets it: what it prints, its exit codes, and one clear line
//! for every file and argument that cannot work.

#[expect(dead_code, reason = "here the command is started within a shell")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use fireside_formats::DType;
use fireside_formats::write::GgufWriter;

use common::without_settings;

/// Address space of the command while it reads a broken file, in KiB: a header that makes it
/// allocate what it claims ends in an abort.
#[cfg(unix)]
const MEMORY: u64 = 2 << 20;

/// The tiny random Llama checkpoint that the broken ones are made from. Tests run in the folder of
/// their package; a path compiled in may be another checkout's, where several share a build folder.
fn tiny() -> PathBuf {
    PathBuf::from("../../tests/fixtures/tiny-llama/gqa-3-float16")
}

/// A folder of this process that goes away with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fireside-command-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A copy of the tiny checkpoint.
    fn checkpoint() -> Self {
        Self::copy(&tiny())
    }

    /// A copy of a family's checkpoint.
    fn family(name: &str) -> Self {
        Self::copy(&Path::new("../../tests/fixtures/families").join(name))
    }

    fn copy(folder: &Path) -> Self {
        let scratch = Self::new();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(folder.join(name), scratch.0.join(name)).unwrap();
        }
        scratch
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Replaces text in a file, which must have it.
    fn edit(&self, name: &str, from: &str, to: &str) -> &Path {
        let text = fs::read_to_string(self.0.join(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        self.file(name, text.replace(from, to));
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    #[cfg(unix)]
    let command = {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -v {MEMORY}; exec \"$@\""))
            .arg("fireside")
            .arg(env!("CARGO_BIN_EXE_fireside"));
        shell
    };
    #[cfg(not(unix))]
    let command = Command::new(env!("CARGO_BIN_EXE_fireside"));
    let mut command = without_settings(command);
    command
        .args(arguments)
        .env("FIRESIDE_DEVICE", "cpu")
        .env("HF_HUB_OFFLINE", "1");
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The command fails with code 1 and says `expected` in its one line.
#[track_caller]
fn fails(mut command: Command, expected: &str) {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{expected}: {said}");
    assert_eq!(text(&output.stdout), "", "{expected}");
    assert!(said.starts_with("error: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(expected), "wanted {expected:?}, got {said}");
}

/// Generating from this model fails with code 1 and says `expected`.
#[track_caller]
fn refuses(model: &Path, expected: &str) {
    let model = model.to_str().unwrap();
    fails(
        command(&["generate", "hello", "-n", "2", "--model", model]),
        expected,
    );
}

/// The preamble of a GGUF file.
fn gguf(tensors: u64, entries: u64) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes
}

/// A GGUF file with one tensor entry and some data.
fn gguf_tensor(dims: &[u64], dtype: u32, offset: u64) -> Vec<u8> {
    let mut bytes = gguf(1, 0);
    bytes.extend(1u64.to_le_bytes());
    bytes.push(b'w');
    bytes.extend((dims.len() as u32).to_le_bytes());
    for dim in dims {
        bytes.extend(dim.to_le_bytes());
    }
    bytes.extend(dtype.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 4096, 0);
    bytes
}

#[test]
fn broken_gguf_files_get_one_line() {
    let scratch = Scratch::new();
    let zoo: &[(&str, Vec<u8>, &str)] = &[
        ("empty", Vec::new(), "file is empty"),
        ("short", b"GG".to_vec(), "file is truncated"),
        (
            "magic",
            b"ggml and more of it, as long as a header".to_vec(),
            "not a GGUF file",
        ),
        ("counts", gguf(u64::MAX, 0), "header claims"),
        ("entries", gguf(0, 1 << 62), "header claims"),
        (
            "dimensions",
            gguf_tensor(&[1 << 40, 1 << 40], 0, 0),
            "whose size overflows",
        ),
        (
            "offset",
            gguf_tensor(&[1 << 20], 0, 32),
            "lies outside the file",
        ),
        ("type", gguf_tensor(&[32], 99, 0), "unknown type 99"),
    ];
    for (name, bytes, expected) in zoo {
        let path = scratch.file(&format!("{name}.gguf"), bytes);
        refuses(&path, expected);
        let path = path.to_str().unwrap();
        fails(command(&["inspect", path]), &format!("{name}.gguf"));
    }
    let mut endless = gguf(0, 1);
    endless.extend(u64::MAX.to_le_bytes());
    endless.resize(4096, 0);
    refuses(&scratch.file("string.gguf", endless), "file is truncated");
}

#[test]
fn gguf_files_of_other_models_say_which_are_known() {
    let scratch = Scratch::new();
    let mut writer = GgufWriter::new();
    writer
        .metadata("general.architecture", "stable-diffusion")
        .unwrap();
    writer.tensor("w", &[32], DType::F32).unwrap();
    let bytes = writer.to_bytes(&[&[0; 128]]).unwrap();
    refuses(
        &scratch.file("other.gguf", bytes),
        "the known ones are llama, qwen2,",
    );
}

#[test]
fn overlapping_tensors_are_refused() {
    let scratch = Scratch::new();
    let mut bytes = gguf(2, 0);
    for name in [b'a', b'b'] {
        bytes.extend(1u64.to_le_bytes());
        bytes.push(name);
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(64u64.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
    }
    bytes.resize(8192, 0);
    refuses(
        &scratch.file("overlap.gguf", bytes),
        "tensors 'a' and 'b' overlap",
    );
}

#[test]
fn broken_safetensors_get_one_line() {
    let header = |length: u64, text: &str| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    };
    let wrapping = r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
    let mut huge = header(100_000_000, "");
    huge.resize(100_000_008, b' ');
    let zoo = [
        (Vec::new(), "file is empty"),
        (
            header(100_000_000, "{}"),
            "header claims 100000000 bytes, the file has 10",
        ),
        (huge, "larger than the 16777216 that are accepted"),
        (
            header(wrapping.len() as u64, wrapping),
            "whose size overflows",
        ),
    ];
    for (bytes, expected) in zoo {
        let scratch = Scratch::checkpoint();
        scratch.file("model.safetensors", bytes);
        refuses(&scratch.0, expected);
    }
}

#[test]
fn checkpoints_that_do_not_fit_together_name_what_is_wrong() {
    let scratch = Scratch::checkpoint();
    let folder = scratch.edit("config.json", "LlamaForCausalLM", "UnheardOfForCausalLM");
    let folder = {
        let text = fs::read_to_string(folder.join("config.json")).unwrap();
        scratch.file("config.json", text.replace("\"llama\"", "\"unheard-of\""));
        folder
    };
    refuses(folder, "the known ones are");

    let scratch = Scratch::checkpoint();
    let text = fs::read(scratch.0.join("model.safetensors")).unwrap();
    let name = b"model.layers.1.mlp.down_proj.weight";
    let at = text.windows(name.len()).position(|w| w == name).unwrap();
    let mut renamed = text;
    renamed[at + name.len() - 1] = b'X';
    scratch.file("model.safetensors", renamed);
    refuses(&scratch.0, "model.layers.1.mlp.down_proj.weight");

    let scratch = Scratch::checkpoint();
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(scratch.0.join("config.json")).unwrap()).unwrap();
    let hidden = config["hidden_size"].as_u64().unwrap();
    let own = format!("\"hidden_size\": {hidden}");
    let other = format!("\"hidden_size\": {}", hidden * 2);
    refuses(scratch.edit("config.json", &own, &other), "shape");

    let scratch = Scratch::checkpoint();
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&fs::read(scratch.0.join("tokenizer.json")).unwrap()).unwrap();
    tokenizer["model"].as_object_mut().unwrap().remove("merges");
    scratch.file("tokenizer.json", tokenizer.to_string());
    refuses(&scratch.0, "merges");

    let scratch = Scratch::checkpoint();
    fs::remove_file(scratch.0.join("tokenizer.json")).unwrap();
    refuses(&scratch.0, "tokenizer.json");

    let scratch = Scratch::new();
    refuses(&scratch.0, "the folder is empty");

    scratch.file("model.safetensors", []);
    refuses(&scratch.0, "config.json");
}

#[test]
fn stablelm_files_that_contradict_themselves_name_the_field_or_tensor() {
    let own = "\"use_parallel_residual\": true";
    let scratch = Scratch::family("stablelm-parallel");
    let other = format!("{own}, \"qk_layernorm\": true");
    refuses(
        scratch.edit("config.json", own, &other),
        "qk_layernorm is true, it must be false",
    );

    let scratch = Scratch::family("stablelm-parallel");
    let other = own.replace("true", "\"yes\"");
    refuses(
        scratch.edit("config.json", own, &other),
        "use_parallel_residual is \"yes\", it must be true or false",
    );

    // Its layers have one norm.
    let scratch = Scratch::family("stablelm-parallel");
    let other = own.replace("true", "false");
    refuses(
        scratch.edit("config.json", own, &other),
        "model.layers.0.post_attention_layernorm.weight",
    );

    let scratch = Scratch::family("stablelm");
    let own = "\"partial_rotary_factor\": 0.25";
    let other = own.replace("0.25", "1.25");
    refuses(
        scratch.edit("config.json", own, &other),
        "20 rotary dimensions do not fit a head of 16",
    );

    let own = Path::new("../../tests/fixtures/families/stablelm/model.gguf");
    let mut bytes = fs::read(own).unwrap();
    let name = b"blk.0.attn_output.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    bytes[at..at + name.len()].copy_from_slice(b"blk.0.attn_q_norm.weight");
    refuses(
        &scratch.file("normed.gguf", bytes),
        "tensor \"blk.0.attn_q_norm.weight\" norms heads, which is not supported in stablelm models",
    );
}

#[test]
fn a_template_with_an_error_says_where() {
    let scratch = Scratch::checkpoint();
    scratch.file("chat_template.jinja", "{% for message in messages %}");
    let model = scratch.0.to_str().unwrap();
    fails(
        command(&["generate", "hello", "--chat", "--model", model]),
        "template",
    );
    scratch.file(
        "chat_template.jinja",
        "{{ raise_exception('no such role') }}",
    );
    fails(
        command(&["generate", "hello", "--chat", "--model", model]),
        "no such role",
    );
}

#[test]
fn arguments_that_make_no_sense_are_told_before_anything_is_loaded() {
    for (arguments, expected) in [
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "1.5"], "top_p"),
        (["--top-k", "-3"], "top_k"),
        (["--min-p", "nan"], "min_p"),
        (["--repetition-penalty", "0"], "repetition_penalty"),
    ] {
        let mut all = vec!["generate", "hello", "--model", "/nowhere/at/all.gguf"];
        all.extend(arguments);
        fails(command(&all), expected);
    }
    fails(
        command(&["generate", "hello", "--model", "/nowhere/at/all.gguf"]),
        "/nowhere/at/all.gguf",
    );
    for arguments in [
        vec!["generate"],
        vec!["generate", "hello", "--device", "toaster"],
        vec!["generate", "hello", "--max-new-tokens", "many"],
        vec!["generate", "hello", "--kv-cache-dtype", "q4"],
        vec!["frobnicate"],
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{arguments:?}");
    }
}

#[test]
fn a_model_that_drafts_changes_no_token_and_one_that_cannot_is_refused_by_name() {
    let model = tiny();
    let model = model.to_str().unwrap();
    let with = |draft: &Path| {
        let mut all = vec!["generate", "hello world", "-n", "20", "--ignore-eos"];
        all.extend(["--format", "json", "--model", model, "--draft-model"]);
        all.push(draft.to_str().unwrap());
        command(&all)
    };
    let ids = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        object["token_ids"].clone()
    };
    let alone = ["generate", "hello world", "-n", "20", "--ignore-eos"];
    let alone = [&alone[..], &["--format", "json", "--model", model]].concat();
    let expected = ids(command(&alone));
    assert_eq!(ids(with(&tiny())), expected);
    let other = Path::new("../../tests/fixtures/tiny-llama/biases");
    assert_eq!(ids(with(other)), expected);
    let mut none = with(other);
    none.args(["--speculate", "0"]);
    assert_eq!(ids(none), expected);

    let swapped = Scratch::checkpoint();
    swapped.edit("tokenizer.json", r#""0":7,"1":8"#, r#""1":7,"0":8"#);
    let name = swapped.0.to_str().unwrap();
    let expected = format!(
        r#"{name} cannot draft for {model}: its token 7 is "1", not "0"; expected a model of the same vocabulary"#
    );
    fails(with(&swapped.0), &expected);
    let length = "../../tests/fixtures/tiny-llama/rope-dynamic";
    fails(
        command(&[
            "generate",
            "hello",
            "--model",
            length,
            "--draft-model",
            model,
        ]),
        "cannot draft for ../../tests/fixtures/tiny-llama/rope-dynamic: what is generated depends on the length of the text",
    );
    let nowhere = "error: the draft model /nowhere/at/all.gguf cannot be loaded: ";
    fails(with(Path::new("/nowhere/at/all.gguf")), nowhere);
    let embedder = Path::new("../../tests/fixtures/embeddings/bert-mean");
    fails(
        with(embedder),
        "bert-mean makes embeddings; the task text-generation needs a model that makes text; choose another one or leave it out",
    );
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_lengths() {
    let model = tiny();
    let model = model.to_str().unwrap();
    let long = "word ".repeat(3000);
    fails(
        command(&["generate", &long, "--model", model]),
        "tokens exceeds the context of 256 tokens",
    );
    let middling = "word ".repeat(30);
    fails(
        command(&["generate", &middling, "--model", model, "--context", "64"]),
        "KV cache of 64 positions",
    );
}

#[test]
#[cfg(target_os = "linux")]
fn without_an_adapter_gpu_fails_and_auto_answers_on_the_cpu() {
    let model = tiny();
    let model = model.to_str().unwrap();
    let without = |device: &str| {
        let mut command = command(&["generate", "hello", "-n", "2", "--model", model]);
        command
            .env("FIRESIDE_DEVICE", device)
            .env("VK_ICD_FILENAMES", "/nowhere.json")
            .env("VK_DRIVER_FILES", "/nowhere.json")
            .env("LIBGL_DRIVERS_PATH", "/nowhere")
            .env("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere.json");
        command
    };
    fails(without("gpu"), "no gpu adapter found");
    let output = without("auto").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("cpu"));
}

#[test]
fn json_output_has_ids_finish_reason_and_stats() {
    let model = tiny();
    let arguments = [
        "generate",
        "hello world",
        "-n",
        "5",
        "--ignore-eos",
        "--format",
        "json",
        "--model",
        model.to_str().unwrap(),
    ];
    let output = run(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "text",
            "token_ids",
            "prompt_token_ids",
            "finish_reason",
            "seed",
            "stats"
        ]
    );
    assert_eq!(object["finish_reason"], "length");
    assert_eq!(object["token_ids"].as_array().unwrap().len(), 5);
    assert_eq!(object["stats"]["generated_tokens"], 5);
    let again: serde_json::Value = serde_json::from_slice(&run(&arguments).stdout).unwrap();
    assert_eq!(object["text"], again["text"]);
    let bytes = run(&[&arguments[..], &["--kv-cache-dtype", "q8"]].concat());
    let object: serde_json::Value = serde_json::from_slice(&bytes.stdout).unwrap();
    assert_eq!(object["token_ids"].as_array().unwrap().len(), 5);
}

#[test]
fn any_part_of_a_split_model_answers_as_the_whole_one() {
    let folder = PathBuf::from("../../tests/fixtures/tiny-gguf");
    let answer = |model: &Path| {
        let model = model.to_str().unwrap();
        let sampling = ["--temperature", "0", "--ignore-eos", "-n", "8"];
        let arguments = ["generate", "hello", "--model", model];
        let output = run(&[&arguments[..], &sampling].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let whole = answer(&folder.join("whole.gguf"));
    assert!(!whole.trim().is_empty());
    for part in ["tiny-00001-of-00003.gguf", "tiny-00003-of-00003.gguf"] {
        assert_eq!(answer(&folder.join(part)), whole, "{part}");
    }
    let lonely = Scratch::new();
    let part = "tiny-00002-of-00003.gguf";
    fs::copy(folder.join(part), lonely.0.join(part)).unwrap();
    refuses(&lonely.0.join(part), "tiny-00001-of-00003.gguf` is missing");
    // Under another name its siblings cannot be found.
    fs::copy(folder.join(part), lonely.0.join("other.gguf")).unwrap();
    refuses(
        &lonely.0.join("other.gguf"),
        "one part of a GGUF model in 3 files",
    );
}

#[test]
fn embed_prints_a_list_for_each_text_or_how_similar_they_are() {
    let model = "../../tests/fixtures/embeddings/bert-mean";
    let embed = |more: &[&str]| run(&[&["embed", "--model", model], more].concat());
    let output = embed(&["the old wolf", "snow", "--dimensions", "16"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lists: Vec<Vec<f32>> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lists.len(), 2);
    assert!(lists.iter().all(|list| list.len() == 16));

    let output = embed(&["snow", "SNOW", "--format", "similarities"]);
    let table = text(&output.stdout);
    assert_eq!(table, " 1.0000 1.0000  snow\n 1.0000 1.0000  SNOW\n");

    let more = ["embed", "--model", model, "a", "--dimensions", "99"];
    fails(command(&more), "dimensions is 99; expected 1 to 48");
    let tiny = tiny();
    let other = ["generate", "a", "--model", model];
    fails(
        command(&other),
        "makes embeddings; the task text-generation",
    );
    let empty = ["embed", "--model", tiny.to_str().unwrap()];
    let mut empty = command(&empty);
    empty.stdin(std::process::Stdio::null());
    fails(empty, "no texts: give some");
}

#[test]
fn rerank_prints_the_best_first() {
    let model = "../../tests/fixtures/rerankers/bert-sigmoid";
    let rerank = |more: &[&str]| {
        let all = ["rerank", "--model", model, "--query", "cold wolf"];
        run(&[&all, more].concat())
    };
    let output = rerank(&[
        "the wolf sleeps near the fire",
        "stone",
        "we burn old trees",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["index"], &lines[0]["text"]),
        (&2.into(), &"we burn old trees".into())
    );
    // As transformers computes it.
    assert!((lines[0]["score"].as_f64().unwrap() - 0.50069).abs() < 1e-3);
    assert!((lines[2]["score"].as_f64().unwrap() - 0.031398).abs() < 1e-3);

    let output = rerank(&[
        "stone",
        "we burn old trees",
        "--top-n",
        "1",
        "--format",
        "table",
    ]);
    assert_eq!(text(&output.stdout), "   0.5007  we burn old trees\n");
    let output = rerank(&["stone", "--raw-scores", "--format", "table"]);
    assert_eq!(text(&output.stdout), "  -0.3635  stone\n");

    let long = "fire ".repeat(200);
    let more = ["rerank", "--model", model, "--query", "a", &long];
    fails(command(&more), "exceeds the context of 96 tokens");
    let other = ["generate", "a", "--model", model];
    fails(
        command(&other),
        "makes scores of texts; the task text-generation",
    );
    let embeds = "../../tests/fixtures/embeddings/bert-mean";
    let other = ["rerank", "--model", embeds, "--query", "a", "b"];
    fails(command(&other), "makes embeddings; the task text-ranking");
}

#[test]
fn inspect_prints_the_shape_of_a_checkpoint() {
    let model = tiny();
    let output = run(&["inspect", model.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let labels: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split("  ").next())
        .filter(|label| !label.is_empty())
        .collect();
    for label in [
        "file",
        "architecture",
        "parameters",
        "layers",
        "heads",
        "vocabulary",
        "context",
        "kv cache",
    ] {
        assert!(labels.contains(&label), "no {label} in {said}");
    }
    assert!(said.contains("llama"), "{said}");
    assert!(said.contains(" in f16, "), "{said}");
    assert!(said.contains(" in q8 per 1000 positions"), "{said}");
}
