//! The perplexity of a text against a reference's.

use std::path::Path;

use fireside::{DeviceChoice, Loading, blocking};

use crate::fixture;

/// Compares a model's perplexity of the text of all perplexities with that of a fixture.
///
/// # Panics
///
/// When they differ, or something cannot be read or loaded.
pub fn check_perplexity(path: &Path, reference: &str) {
    let text = std::fs::read_to_string(fixture("scandal.txt")).unwrap();
    let paragraph = text.lines().next().unwrap();
    let reference = std::fs::read_to_string(fixture(reference)).unwrap();
    let reference: serde_json::Value = serde_json::from_str(&reference).unwrap();
    let window = reference["window"].as_u64().unwrap() as usize;
    let loading = Loading::new(path.to_str().unwrap())
        .device(DeviceChoice::Auto)
        .context(Some(window));
    let mut pipeline = blocking::load(loading).unwrap();
    let found = pipeline.perplexity(paragraph, window, |_| ()).unwrap();
    assert_eq!(Some(found.counted as u64), reference["counted"].as_u64());
    let expected = reference["perplexity"].as_f64().unwrap();
    let difference = (found.value / expected - 1.0).abs();
    println!("{:.5}, transformers {expected}", found.value);
    // Keys and values are halves here, and floats there.
    assert!(difference < 2e-3, "{} instead of {expected}", found.value);
}
