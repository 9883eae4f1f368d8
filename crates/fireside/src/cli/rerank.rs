//! `fireside rerank`: how well texts answer a query, the best first.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::{RerankArgs, RerankFormat, embed, output};
use crate::{DeviceChoice, Loading, Quantize, RankParams};

/// A text's line.
#[derive(Serialize)]
struct Line<'a> {
    index: usize,
    score: f32,
    text: &'a str,
}

/// Runs the command.
pub(super) fn run(args: &RerankArgs) -> Result<()> {
    let texts = embed::texts(&args.texts)?;
    let loading = Loading::new(&args.model)
        .device(args.device)
        .quantize(args.quantize.map(Quantize::from))
        .context(args.context);
    let mut reranking = pollster::block_on(loading.reranking())?;
    output::notice(reranking.device(), args.device == DeviceChoice::Cpu);
    let params = RankParams {
        truncate: args.truncate,
        raw_scores: args.raw_scores.then_some(true),
    };
    let ranked = pollster::block_on(reranking.rank(&args.query, &texts, params))?;
    let mut out = std::io::stdout().lock();
    for one in ranked
        .iter()
        .take(args.top_n.filter(|n| *n > 0).unwrap_or(usize::MAX))
    {
        let text = &texts[one.index];
        match args.format {
            RerankFormat::Json => {
                let line = Line {
                    index: one.index,
                    score: one.score,
                    text,
                };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            }
            RerankFormat::Table => {
                let beginning: String = text.chars().take(70).collect();
                writeln!(out, "{:9.4}  {beginning}", one.score)?;
            }
        }
    }
    Ok(())
}
