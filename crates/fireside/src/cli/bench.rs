//! `fireside bench`: prefill and decode speed as llama-bench defines pp and tg, with the counters
//! that carry over between machines.
//!
//! pp N runs N synthetic tokens from an empty context in steps of up to 512; tg N runs N decodes of
//! one synthetic token each from an empty context and waits for every result; tg N x S does so for S
//! sequences at once, one token of each in a step; tg N @ dD has D tokens in each sequence's context
//! before, which no time is counted for. Tokenization is part of none; selecting the next token on the
//! device is.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use fireside_model::device::{ComputeDevice, DeviceChoice};
use fireside_model::path::OpenModel;
use fireside_model::step::{Chunk, RowSelection, Step};
use fireside_model::{BLOCK, Counters, KvCache, KvDtype, LoadedModel, Quantize};
use serde_json::{Value, json};

use super::BenchArgs;
use super::output::{human_bytes, notice};

/// Tokens of one prefill step.
const STEP_TOKENS: usize = 512;

/// One kind of measurement, repeated.
pub(super) struct Series {
    /// Tokens of each sequence.
    tokens: usize,
    /// Sequences that run together.
    sequences: usize,
    /// Tokens in the context of each before.
    depth: usize,
    wall: Vec<Duration>,
    cpu: Vec<Duration>,
    counters: Counters,
    steps: usize,
}

/// Runs the benchmark and prints a table or one JSON object.
pub(super) fn run(
    path: &Path,
    hash: &str,
    args: &BenchArgs,
    choice: DeviceChoice,
    kv: KvDtype,
    quantize: Option<Quantize>,
) -> Result<()> {
    let started = Instant::now();
    let device = pollster::block_on(ComputeDevice::open(choice))?;
    notice(&device, choice == DeviceChoice::Cpu);
    let mut open = OpenModel::open(path)?;
    open.description.quantize = quantize;
    let mut mix = quantization(&open);
    if let Some(quantize) = quantize {
        mix += &format!("; floats loaded as {}", quantize.name());
    }
    let longest = args.prompt.max(args.depth + args.generate).max(1);
    let most_sequences = args.sequences.iter().copied().max().map_or(1, usize::from);
    let most = args
        .model
        .context
        .unwrap_or(open.description.config.context);
    anyhow::ensure!(
        longest <= most && most <= open.description.config.context,
        "{longest} tokens do not fit a context of {most}, the model has {}: use smaller -p, -n and --depth",
        open.description.config.context
    );
    // The cache is as large as the tests need, or as asked for.
    let together = (args.depth + args.generate).next_multiple_of(BLOCK) * most_sequences;
    let positions = args.model.context.unwrap_or(longest).max(together);
    let loaded = open.load(device, &mut |_, _| {})?;
    let load = started.elapsed();
    let mut bench = Bench::new(loaded, positions, kv)?;
    let first = started.elapsed();
    bench.decode(0, 1, 1)?;
    let to_first_token = load + (started.elapsed() - first);

    // One warm-up of each kind, so that every shader is compiled.
    bench.prefill(args.prompt)?;
    for sequences in &args.sequences {
        bench.fill(args.depth, usize::from(*sequences))?;
        bench.decode(args.depth, 2.min(args.generate), usize::from(*sequences))?;
    }
    let warm = Counters::now();
    let mut prefill = Series::new(args.prompt, 1, 0);
    let mut decodes: Vec<Series> = args
        .sequences
        .iter()
        .map(|sequences| Series::new(args.generate, usize::from(*sequences), args.depth))
        .collect();
    for _ in 0..args.repetitions.max(1) {
        bench.measure(&mut prefill, |b| b.prefill(args.prompt))?;
        for decode in &mut decodes {
            let sequences = decode.sequences;
            bench.fill(args.depth, sequences)?;
            bench.measure(decode, |b| b.decode(args.depth, args.generate, sequences))?;
        }
    }
    let compiled = Counters::now().since(warm).pipelines;

    let report = report(
        &bench,
        path,
        hash,
        &mix,
        &prefill,
        &decodes,
        load,
        to_first_token,
        compiled,
    );
    match args.format {
        super::BenchFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        super::BenchFormat::Table => table(&report),
    }
    Ok(())
}

/// A model with a cache, and what synthetic sequences have in it.
pub(super) struct Bench {
    pub(super) loaded: LoadedModel,
    cache: KvCache,
    /// How many sequences share the cache, and how far each is filled. What stands at a position depends on
    /// nothing else, so that tests of as many sequences may run over it again.
    filled: (usize, usize),
}

impl Bench {
    pub(super) fn new(loaded: LoadedModel, positions: usize, kv: KvDtype) -> Result<Self> {
        let cache = loaded.model.cache(positions.div_ceil(BLOCK), kv)?;
        Ok(Self {
            loaded,
            cache,
            filled: (0, 0),
        })
    }

    /// Makes room for so many sequences of so many positions.
    pub(super) fn reserve(&mut self, positions: usize, sequences: usize) -> Result<()> {
        let blocks = positions.div_ceil(BLOCK) * sequences;
        if blocks > self.cache.blocks() {
            self.cache = self.loaded.model.cache(blocks, self.cache.dtype())?;
            self.filled = (0, 0);
        }
        Ok(())
    }

    /// A synthetic token: ids spread over the vocabulary.
    fn token(&self, position: usize) -> u32 {
        ((position * 7919 + 11) % self.loaded.model.config().vocab) as u32
    }

    /// Tokens at `start` and after, of sequence number `sequence` of so many.
    fn chunk(&self, [sequence, of]: [usize; 2], start: usize, count: usize, last: bool) -> Chunk {
        let blocks = (start + count).div_ceil(BLOCK);
        Chunk {
            tokens: (start..start + count)
                .map(|p| self.token(p * of + sequence))
                .collect(),
            start,
            blocks: (0..blocks).map(|b| (b * of + sequence) as u32).collect(),
            rows: if last {
                vec![(count - 1, RowSelection::default())]
            } else {
                Vec::new()
            },
            ..Chunk::default()
        }
    }

    fn step(&mut self, chunks: Vec<Chunk>) -> Result<Vec<u32>> {
        let step = Step { chunks, next: None };
        let selected = pollster::block_on(self.loaded.model.step(&mut self.cache, &step))?;
        anyhow::ensure!(
            selected.iter().all(|row| row.selection.broken == 0),
            "the model gave NaN logits on this device"
        );
        Ok(selected.iter().map(|row| row.selection.token).collect())
    }

    /// The greedy continuation of a prompt.
    pub(super) fn greedy(&mut self, prompt: &[u32], tokens: usize) -> Result<Vec<u32>> {
        self.reserve(prompt.len() + tokens, 1)?;
        self.filled = (0, 0);
        let mut next = prompt.to_vec();
        let mut start = 0;
        let mut all = Vec::new();
        while all.len() < tokens {
            let count = next.len();
            let mut chunk = self.chunk([0, 1], start, count, true);
            chunk.tokens = next;
            start += count;
            next = self.step(vec![chunk])?;
            all.extend(&next);
        }
        Ok(all)
    }

    /// Runs the tokens before `depth` of each sequence that are not in the cache yet.
    pub(super) fn fill(&mut self, depth: usize, sequences: usize) -> Result<()> {
        if self.filled.0 != sequences {
            self.filled = (sequences, 0);
        }
        let from = self.filled.1;
        for sequence in 0..sequences {
            self.run([sequence, sequences], from, depth)?;
        }
        self.filled.1 = from.max(depth);
        Ok(())
    }

    pub(super) fn prefill(&mut self, tokens: usize) -> Result<usize> {
        if self.filled.0 != 1 {
            self.filled = (1, 0);
        }
        self.run([0, 1], 0, tokens)
    }

    /// Runs a sequence's tokens in steps, and gives their number.
    fn run(&mut self, sequence: [usize; 2], mut start: usize, tokens: usize) -> Result<usize> {
        let mut steps = 0;
        while start < tokens {
            let count = STEP_TOKENS.min(tokens - start);
            self.step(vec![self.chunk(
                sequence,
                start,
                count,
                start + count == tokens,
            )])?;
            start += count;
            steps += 1;
        }
        Ok(steps)
    }

    pub(super) fn decode(
        &mut self,
        depth: usize,
        tokens: usize,
        sequences: usize,
    ) -> Result<usize> {
        if self.filled.0 != sequences {
            self.filled = (sequences, 0);
        }
        for position in depth..depth + tokens {
            let chunk = |sequence| self.chunk([sequence, sequences], position, 1, true);
            self.step((0..sequences).map(chunk).collect())?;
        }
        Ok(tokens)
    }

    pub(super) fn measure(
        &mut self,
        series: &mut Series,
        run: impl Fn(&mut Self) -> Result<usize>,
    ) -> Result<()> {
        let before = Counters::now();
        let cpu = ProcessTime::now();
        let wall = Instant::now();
        series.steps = run(self)?;
        series.wall.push(wall.elapsed());
        series.cpu.push(cpu.elapsed());
        series.counters = Counters::now().since(before);
        Ok(())
    }
}

impl Series {
    pub(super) fn new(tokens: usize, sequences: usize, depth: usize) -> Self {
        Self {
            tokens,
            sequences,
            depth,
            wall: Vec::new(),
            cpu: Vec::new(),
            counters: Counters::default(),
            steps: 0,
        }
    }

    /// The last measurement as a whole, with the shaders that were compiled during it.
    pub(super) fn totals(&self, late: u64) -> Value {
        let milliseconds = |times: &[Duration]| times.last().map(|time| time.as_secs_f64() * 1e3);
        json!({
            "tokens": self.tokens * self.sequences,
            "wall_ms": milliseconds(&self.wall),
            "cpu_ms": milliseconds(&self.cpu),
            "counters": {
                "steps": self.steps,
                "dispatches": self.counters.dispatches,
                "submits": self.counters.submits,
                "bytes_read": self.counters.read,
                "bytes_uploaded": self.counters.uploaded,
                "host_ms": self.counters.host_nanos as f64 / 1e6,
                "pipelines_late": late,
            },
        })
    }

    fn json(&self) -> Value {
        let tokens = self.tokens * self.sequences;
        let per_token = |d: &Duration| d.as_secs_f64() * 1e3 / tokens.max(1) as f64;
        let (cpu, cpu_low, cpu_high) = spread(self.cpu.iter().map(per_token).collect());
        let (wall, wall_low, wall_high) = spread(self.wall.iter().map(per_token).collect());
        let steps = self.steps.max(1) as f64;
        json!({
            "tokens": self.tokens,
            "sequences": self.sequences,
            "depth": self.depth,
            "repetitions": self.wall.len(),
            "tokens_per_second": 1e3 / wall,
            "wall_ms_per_token": { "median": wall, "min": wall_low, "max": wall_high },
            "cpu_ms_per_token": { "median": cpu, "min": cpu_low, "max": cpu_high },
            "steps": self.steps,
            "dispatches_per_step": self.counters.dispatches as f64 / steps,
            "submits_per_step": self.counters.submits as f64 / steps,
            "host_ms_per_step": self.counters.host_nanos as f64 / 1e6 / steps,
            "readback_bytes_per_step": self.counters.read as f64 / steps,
            "upload_bytes_per_step": self.counters.uploaded as f64 / steps,
        })
    }
}

/// Median, least and most.
pub(super) fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    (
        median,
        values.first().copied().unwrap_or(f64::NAN),
        values.last().copied().unwrap_or(f64::NAN),
    )
}

/// The types of the tensors by bytes, the largest share first: `Q4_1 69%, Q8_0 31%`.
pub(super) fn quantization(open: &OpenModel) -> String {
    use fireside_formats::TensorSource;
    let mut bytes: Vec<(String, u64)> = Vec::new();
    for tensor in open.weights.tensors() {
        let name = tensor.dtype.to_string();
        match bytes.iter_mut().find(|(n, _)| *n == name) {
            Some((_, sum)) => *sum += tensor.byte_len(),
            None => bytes.push((name, tensor.byte_len())),
        }
    }
    bytes.sort_by_key(|(_, b)| std::cmp::Reverse(*b));
    let total: u64 = bytes.iter().map(|(_, b)| b).sum();
    let shares = bytes
        .iter()
        .map(|(n, b)| format!("{n} {:.0}%", *b as f64 * 100.0 / total.max(1) as f64));
    shares.collect::<Vec<_>>().join(", ")
}

#[expect(clippy::too_many_arguments, reason = "one call that gathers a report")]
fn report(
    bench: &Bench,
    path: &Path,
    hash: &str,
    mix: &str,
    prefill: &Series,
    decodes: &[Series],
    load: Duration,
    to_first_token: Duration,
    compiled: u64,
) -> Value {
    let model = &bench.loaded.model;
    let adapter = adapter(model.device());
    let mut report = json!({
        "model": path.file_name().map(|n| n.to_string_lossy().into_owned()),
        "sha256": hash,
        "quantization": mix,
        "adapter": adapter,
        "kv_cache_dtype": bench.cache.dtype().name(),
        "activations": "float",
        "load_seconds": load.as_secs_f64(),
        "time_to_first_token_seconds": to_first_token.as_secs_f64(),
        "pipelines_compiled": Counters::now().pipelines,
        "pipelines_compiled_after_warm_up": compiled,
        "gpu_bytes": { "weights": model.weight_bytes(), "kv_cache": bench.cache.bytes() },
        "host_peak_bytes": peak_memory(),
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
        "load_average": load_average(),
    });
    if prefill.tokens > 0 {
        report["prefill"] = prefill.json();
    }
    let decodes: Vec<Value> = decodes
        .iter()
        .filter(|series| series.tokens > 0)
        .map(Series::json)
        .collect();
    // The first one by itself, for those who ask for one.
    if let Some(first) = decodes.first() {
        report["decode"] = first.clone();
        report["decodes"] = decodes.into();
    }
    report
}

/// What is told of a device.
pub(super) fn adapter(device: &ComputeDevice) -> Value {
    device.adapter().map_or_else(
        || json!({ "name": "cpu", "type": "cpu", "software": true, "driver": "fireside", "backend": "flex" }),
        |a| json!({ "name": a.name, "type": a.kind, "software": a.software, "driver": a.driver, "backend": a.backend, "f16": a.f16 }),
    )
}

fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn table(report: &Value) {
    let text = |pointer: &str| match report.pointer(pointer) {
        Some(Value::String(s)) => s.clone(),
        Some(value) => value.to_string(),
        None => "-".into(),
    };
    let number = |pointer: String| report.pointer(&pointer).and_then(Value::as_f64);
    println!("model     {} ({})", text("/model"), text("/quantization"));
    println!("sha256    {}", text("/sha256"));
    println!(
        "adapter   {} ({}), {} {}",
        text("/adapter/name"),
        text("/adapter/type"),
        text("/adapter/backend"),
        text("/adapter/driver")
    );
    if report.pointer("/adapter/software") == Some(&Value::Bool(true)) {
        println!("          software adapter: these are cpu speeds");
    }
    println!();
    println!(
        "{:<16} {:>9} {:>12} {:>21} {:>10} {:>7} {:>9} {:>8}",
        "test",
        "tok/s",
        "cpu-ms/token",
        "(min .. max)",
        "dispatches",
        "submits",
        "readback",
        "host ms"
    );
    let decodes = report["decodes"].as_array().map_or(0, Vec::len);
    let decodes = (0..decodes).map(|at| (format!("decodes/{at}"), "tg"));
    for (name, label) in std::iter::once(("prefill".to_owned(), "pp")).chain(decodes) {
        let Some(tokens) = number(format!("/{name}/tokens")) else {
            continue;
        };
        let get = |field: &str| number(format!("/{name}/{field}")).unwrap_or(f64::NAN);
        let together = match get("sequences") {
            1.0 => String::new(),
            many => format!(" x{many}"),
        };
        let depth = match get("depth") {
            0.0 => String::new(),
            depth => format!(" @ d{depth:.0}"),
        };
        println!(
            "{:<16} {:>9.1} {:>12.1} {:>21} {:>10.1} {:>7.1} {:>7.0} B {:>8}",
            format!("{label}{tokens:.0}{together}{depth}"),
            get("tokens_per_second"),
            get("cpu_ms_per_token/median"),
            format!(
                "{:.1} .. {:.1}",
                get("cpu_ms_per_token/min"),
                get("cpu_ms_per_token/max")
            ),
            get("dispatches_per_step"),
            get("submits_per_step"),
            get("readback_bytes_per_step"),
            match get("host_ms_per_step") {
                0.0 => "-".into(),
                host => format!("{host:.2}"),
            },
        );
    }
    println!(
        "(dispatches, submits and readback are per step: a decode step is one token of each sequence; host ms is what\nlaying out and submitting a recorded step takes)"
    );
    println!();
    let bytes = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_u64)
            .map_or("-".into(), human_bytes)
    };
    println!(
        "memory    weights {}, kv cache {} ({}), host peak {}",
        bytes("/gpu_bytes/weights"),
        bytes("/gpu_bytes/kv_cache"),
        text("/kv_cache_dtype"),
        bytes("/host_peak_bytes")
    );
    println!(
        "start     load {:.2} s, first token {:.2} s, {} shaders compiled, {} after warm-up",
        number("/load_seconds".into()).unwrap_or(f64::NAN),
        number("/time_to_first_token_seconds".into()).unwrap_or(f64::NAN),
        text("/pipelines_compiled"),
        text("/pipelines_compiled_after_warm_up")
    );
    println!(
        "machine   {} threads, load average {}",
        text("/threads"),
        text("/load_average")
    );
}

/// The digest of a model for the report: of the one file it is in, or of its first one.
pub(super) fn digest(path: &Path, options: &fireside_hub::Options) -> Result<String> {
    let file = if path.is_dir() {
        let mut files: Vec<_> = std::fs::read_dir(path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        files.sort();
        files
            .into_iter()
            .next()
            .context("the folder has no safetensors file")?
    } else {
        path.to_path_buf()
    };
    Ok(fireside_hub::sha256(&file, options)?)
}
