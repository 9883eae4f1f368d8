//! `fireside embed`: embeddings of texts, or how similar they are.

use std::io::{BufRead, Write};

use anyhow::{Context, Result, bail};

use super::{EmbedArgs, EmbedFormat, output};
use crate::{DeviceChoice, EmbedParams, Embedded, Loading, Quantize};

/// Runs the command.
pub(super) fn run(args: &EmbedArgs) -> Result<()> {
    let texts = texts(&args.texts)?;
    let loading = Loading::new(&args.model)
        .device(args.device)
        .quantize(args.quantize.map(Quantize::from))
        .context(args.context);
    let mut extraction = pollster::block_on(loading.feature_extraction())?;
    output::notice(extraction.device(), args.device == DeviceChoice::Cpu);
    let params = EmbedParams {
        dimensions: args.dimensions,
        normalize: args.no_normalize.then_some(false),
        truncate: args.truncate,
        prompt_name: args.prompt_name.clone(),
    };
    let embedded = pollster::block_on(extraction.embed(&texts, &params))?;
    let mut out = std::io::stdout().lock();
    match args.format {
        EmbedFormat::Embeddings => {
            for one in &embedded {
                writeln!(out, "{}", serde_json::to_string(&one.embedding)?)?;
            }
        }
        EmbedFormat::Similarities => similarities(&mut out, &texts, &embedded)?,
    }
    Ok(())
}

/// The texts of the command line, or else the lines of standard input.
pub(super) fn texts(given: &[String]) -> Result<Vec<String>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let lines: std::io::Result<Vec<String>> = std::io::stdin().lock().lines().collect();
    let mut lines = lines.context("standard input is not readable text")?;
    lines.retain(|line| !line.trim().is_empty());
    if lines.is_empty() {
        bail!("no texts: give some, or one on each line of standard input");
    }
    Ok(lines)
}

/// A row for each text: its cosines with all texts, and its beginning.
fn similarities(out: &mut impl Write, texts: &[String], embedded: &[Embedded]) -> Result<()> {
    for (text, one) in texts.iter().zip(embedded) {
        for other in embedded {
            write!(out, "{:7.4}", cosine(&one.embedding, &other.embedding))?;
        }
        let beginning: String = text.chars().take(40).collect();
        writeln!(out, "  {beginning}")?;
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}
