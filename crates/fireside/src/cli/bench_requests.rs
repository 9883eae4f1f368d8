//! `fireside bench --on-request`: one measurement at a time, so that a program can measure several engines
//! in turns.
//!
//! The first line that is printed describes what was loaded. Then each line of standard input asks for a
//! measurement, and is answered by a line:
//!
//! - `{"kind": "greedy", "prompt": [1, 2], "tokens": 8}`: the tokens that follow a prompt;
//! - `{"kind": "prefill", "tokens": 128}`: tokens of one sequence in steps of up to 512;
//! - `{"kind": "decode", "tokens": 16, "depth": 100, "sequences": 4}`: decode steps of so many sequences, each
//!   with so many tokens before; `depth` is 0 and `sequences` 1 where they are left out.
//!
//! What comes before a measurement (the load, a context to be filled) is no part of its times. A request
//! that cannot be met is answered with an `error`; fields that are for other engines are passed over.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use fireside_model::device::{ComputeDevice, DeviceChoice};
use fireside_model::path::OpenModel;
use fireside_model::{BLOCK, Counters, KvDtype, Quantize};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bench::{Bench, Series, adapter, quantization};

/// Most sequences of a request.
const SEQUENCES: usize = 512;

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Request {
    Greedy {
        prompt: Vec<u32>,
        tokens: usize,
    },
    Prefill {
        tokens: usize,
    },
    Decode {
        tokens: usize,
        #[serde(default)]
        depth: usize,
        #[serde(default = "one")]
        sequences: usize,
    },
}

fn one() -> usize {
    1
}

/// Loads a model, and measures until standard input ends.
pub(super) fn run(
    path: &Path,
    choice: DeviceChoice,
    kv: KvDtype,
    quantize: Option<Quantize>,
) -> Result<()> {
    let started = Instant::now();
    let device = pollster::block_on(ComputeDevice::open(choice))?;
    let mut open = OpenModel::open(path)?;
    open.description.quantize = quantize;
    let context = open.description.config.context;
    let mix = quantization(&open);
    let loaded = open.load(device, &mut |_, _| {})?;
    let mut bench = Bench::new(loaded, BLOCK, kv)?;
    answer(&json!({
        "engine": format!("fireside {}", env!("CARGO_PKG_VERSION")),
        "adapter": adapter(bench.loaded.model.device()),
        "quantization": mix,
        "context": context,
        "load_seconds": started.elapsed().as_secs_f64(),
    }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("standard input cannot be read")?;
        if line.trim().is_empty() {
            continue;
        }
        let measured = measure(&mut bench, context, &line)
            .unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        answer(&measured)?;
    }
    Ok(())
}

fn answer(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")
        .and_then(|()| out.flush())
        .context("standard output cannot be written")
}

fn measure(bench: &mut Bench, context: usize, line: &str) -> Result<Value> {
    let request: Request = serde_json::from_str(line).context("the request")?;
    let fits = |tokens: usize, positions: Option<usize>| match positions {
        _ if tokens == 0 => bail!("`tokens` is 0; expected 1 or more"),
        Some(positions) if positions <= context => Ok(()),
        _ => bail!("the request does not fit the model's context of {context} tokens"),
    };
    let before = Counters::now();
    let series = match request {
        Request::Greedy { prompt, tokens } => {
            ensure!(!prompt.is_empty(), "`prompt` has no token");
            let vocab = bench.loaded.model.config().vocab;
            if let Some(token) = prompt.iter().find(|token| **token as usize >= vocab) {
                bail!("`prompt` has the token {token}; the vocabulary ends at {vocab}");
            }
            fits(tokens, prompt.len().checked_add(tokens))?;
            return Ok(json!({ "ids": bench.greedy(&prompt, tokens)? }));
        }
        Request::Prefill { tokens } => {
            fits(tokens, Some(tokens))?;
            bench.reserve(tokens, 1)?;
            let mut series = Series::new(tokens, 1, 0);
            bench.measure(&mut series, |b| b.prefill(tokens))?;
            series
        }
        Request::Decode {
            tokens,
            depth,
            sequences,
        } => {
            fits(tokens, depth.checked_add(tokens))?;
            ensure!(
                (1..=SEQUENCES).contains(&sequences),
                "`sequences` is {sequences}; expected 1 to {SEQUENCES}"
            );
            bench.reserve(depth + tokens, sequences)?;
            bench.fill(depth, sequences)?;
            let mut series = Series::new(tokens, sequences, depth);
            bench.measure(&mut series, |b| b.decode(depth, tokens, sequences))?;
            series
        }
    };
    let late = Counters::now().since(before).pipelines;
    Ok(series.totals(late))
}
