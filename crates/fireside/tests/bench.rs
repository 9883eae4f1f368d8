//! `fireside bench` as programs meet it: one report, and measurements on request.

mod common;

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

use common::fireside;

/// A tiny random llama; its context is 8192.
const TINY: &str = "../../tests/fixtures/tiny-gguf/whole.gguf";

fn bench(arguments: &[&str], input: &str) -> Output {
    let mut child = fireside()
        .args(["bench", "--model", TINY, "--device", "cpu"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

/// What the command answers to lines of standard input, after the line about itself.
fn answers(input: &str) -> Vec<Value> {
    let output = bench(&["--on-request"], input);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut lines = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let about: Value = lines.next().unwrap();
    assert_eq!(about["adapter"]["name"], "cpu");
    assert_eq!(about["context"], 8192);
    lines.collect()
}

#[test]
fn each_request_is_answered_by_a_line() {
    let found = answers(
        r#"{"kind": "greedy", "prompt": [1, 2, 3], "tokens": 3, "text": "for others"}

{"kind": "prefill", "tokens": 600, "salt": 3}
{"kind": "decode", "tokens": 2, "depth": 70, "sequences": 3}
{"kind": "decode", "tokens": 2}
{"kind": "greedy", "prompt": [1, 2, 3], "tokens": 3}
"#,
    );
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(found[0]["ids"].as_array().unwrap().len(), 3);
    // What was measured between is not seen by a prompt.
    assert_eq!(found[0], found[4]);
    for (at, tokens, steps) in [(1, 600, 2), (2, 6, 2), (3, 2, 2)] {
        assert_eq!(found[at]["tokens"], tokens);
        assert_eq!(found[at]["counters"]["steps"], steps);
        assert!(found[at]["wall_ms"].as_f64().unwrap() > 0.0);
        assert!(found[at]["cpu_ms"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_request_that_cannot_be_met_says_why_and_the_next_is_answered() {
    let wrong = [
        (r#"{"kind": "sleep"}"#, "unknown variant `sleep`"),
        ("nonsense", "the request"),
        (r#"{"kind": "prefill", "tokens": 0}"#, "`tokens` is 0"),
        (r#"{"kind": "prefill", "tokens": 9000}"#, "context of 8192"),
        (
            r#"{"kind": "decode", "tokens": 18446744073709551615, "depth": 8}"#,
            "context of 8192",
        ),
        (
            r#"{"kind": "decode", "tokens": 1, "sequences": 0}"#,
            "`sequences` is 0",
        ),
        (
            r#"{"kind": "greedy", "prompt": [], "tokens": 1}"#,
            "no token",
        ),
        (
            r#"{"kind": "greedy", "prompt": [99999], "tokens": 1}"#,
            "the token 99999",
        ),
    ];
    let mut input: String = wrong.iter().map(|(line, _)| format!("{line}\n")).collect();
    input += "{\"kind\": \"decode\", \"tokens\": 1}\n";
    let found = answers(&input);
    assert_eq!(found.len(), wrong.len() + 1);
    for ((line, says), answer) in wrong.iter().zip(&found) {
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(says), "{line}: {error}");
    }
    assert_eq!(found.last().unwrap()["tokens"], 1);
}

#[test]
fn the_report_has_decode_at_a_depth() {
    let arguments = [
        "-p", "4", "-n", "2", "-r", "1", "--depth", "40", "-s", "1,2",
    ];
    let output = bench(&[&arguments[..], &["--format", "json"]].concat(), "");
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let decodes = report["decodes"].as_array().unwrap();
    assert_eq!(decodes.len(), 2);
    assert!(decodes.iter().all(|series| series["depth"] == 40));
    let output = bench(&arguments, "");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("tg2 x2 @ d40"), "{printed}");
    let output = bench(&["-n", "9000", "--depth", "10"], "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("use smaller -p, -n and --depth"), "{said}");
}

#[test]
fn the_report_says_how_the_cache_is_stored_and_what_it_takes() {
    let report = |dtype: &str, format: &str| {
        let arguments = ["-p", "4", "-n", "2", "-r", "1", "--format", format];
        let kv = ["--kv-cache-dtype", dtype];
        let output = bench(&[&arguments[..], &kv].concat(), "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let bytes = |dtype: &str| {
        let report: Value = serde_json::from_str(&report(dtype, "json")).unwrap();
        assert_eq!(report["kv_cache_dtype"], dtype);
        report["gpu_bytes"]["kv_cache"].as_u64().unwrap()
    };
    let (single, half, byte) = (bytes("f32"), bytes("f16"), bytes("q8"));
    assert_eq!(single, 2 * half);
    // Bytes have scales beside them.
    assert!(byte > half / 2 && byte < half, "{byte} and {half}");
    let printed = report("q8", "table");
    assert!(printed.contains("(q8)"), "{printed}");
}

#[test]
fn kernels_are_reported_by_shape_and_what_does_not_fit_is_told() {
    let run = |arguments: &[&str]| {
        fireside()
            .args(["bench", "kernels", "-m", TINY, "-d", "cpu", "-r", "1"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = run(&["-t", "1,3", "--contexts", "40", "--format", "json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The CPU copies nothing on an adapter.
    assert_eq!(report["copy_bytes_per_second"], Value::Null);
    let kernels = report["kernels"].as_array().unwrap();
    let named = |word: &str| {
        let name = |kernel: &&Value| kernel["name"].as_str().unwrap().contains(word);
        kernels.iter().filter(name).count()
    };
    assert_eq!(named("attention over 40"), 1, "{report}");
    assert!(
        named("gated, 1 token") >= 1 && named("3 tokens") >= 4,
        "{report}"
    );
    for kernel in kernels {
        assert!(
            kernel["bytes_per_second"].as_f64().unwrap() > 0.0,
            "{kernel}"
        );
        assert!(
            kernel["flops_per_second"].as_f64().unwrap() > 0.0,
            "{kernel}"
        );
    }
    let table = run(&["-t", "1", "--contexts", "40", "--kv-cache-dtype", "q8"]);
    let printed = String::from_utf8(table.stdout).unwrap();
    assert!(printed.contains("attention over 40"), "{printed}");
    assert!(printed.contains(", q8 "), "{printed}");
}
