//! `fireside bench kernels`: what the kernels of a model reach of the device's bandwidth.
//!
//! Each kind of weight matrix is multiplied with one token and with more, attention is run over several
//! contexts. Matrices of one shape take turns, so that small ones are not served from a cache that would not hold
//! the model. GB/s are bytes of weights, or of keys and values, over the time of a launch; the share is of what a copy on
//! the same device reaches, bytes read and written together.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use cpu_time::ProcessTime;
use fireside_model::device::{ComputeDevice, DeviceChoice};
use fireside_model::path::OpenModel;
use fireside_model::probe::Probe;
use serde_json::{Value, json};

use super::bench::{adapter, spread};
use super::output::notice;
use super::{BenchFormat, ModelArgs};

/// Bytes of a copy that is timed: beyond most caches.
const COPIED: u64 = 96 << 20;

#[derive(Debug, Args)]
pub(super) struct KernelBenchArgs {
    /// Tokens that matrices are multiplied with.
    #[arg(short, long, value_name = "COUNTS", value_delimiter = ',', default_value = "1,4,128",
        value_parser = clap::value_parser!(u16).range(1..=512))]
    tokens: Vec<u16>,
    /// Positions that attention of one token goes over.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "128,1024,4096",
        value_parser = clap::value_parser!(u32).range(1..=131_072))]
    contexts: Vec<u32>,
    /// Repetitions of each measurement.
    #[arg(short, long, default_value_t = 5)]
    repetitions: usize,
    /// `table` for people, `json` for programs.
    #[arg(long, value_enum, default_value = "table")]
    format: BenchFormat,
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

pub(super) fn run(path: &Path, args: &KernelBenchArgs) -> Result<()> {
    let choice = args.model.device;
    let device = pollster::block_on(ComputeDevice::open(choice))?;
    notice(&device, choice == DeviceChoice::Cpu);
    let mut open = OpenModel::open(path)?;
    open.description.quantize = args.model.quantize.map(Into::into);
    let loaded = open.load(device, &mut |_, _| {})?;
    let model = &loaded.model;
    let copied = model.device().copy_bandwidth(COPIED)?;
    // What does not fit the device is told before anything is timed.
    let mut probes = Vec::new();
    for tokens in &args.tokens {
        probes.extend(Probe::products(model, usize::from(*tokens))?);
    }
    for positions in &args.contexts {
        let kv = args.model.kv_cache_dtype.into();
        probes.push(Probe::attention(model, *positions as usize, kv)?);
    }
    let kernels = probes
        .iter()
        .map(|probe| measure(probe, args.repetitions, copied))
        .collect::<Result<Vec<_>>>()?;
    let report = json!({
        "model": path.file_name().map(|n| n.to_string_lossy().into_owned()),
        "adapter": adapter(model.device()),
        "copy_bytes_per_second": copied,
        "kernels": kernels,
    });
    match args.format {
        BenchFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        BenchFormat::Table => table(&report),
    }
    Ok(())
}

/// Times a kernel in batches of launches.
fn measure(probe: &Probe<'_>, repetitions: usize, copied: Option<f64>) -> Result<Value> {
    let batch = |count| pollster::block_on(probe.run(count));
    // The first one compiles the shader.
    batch(1)?;
    let began = Instant::now();
    batch(1)?;
    // As many as take about a tenth of a second.
    let count = (0.1 / began.elapsed().as_secs_f64().max(1e-6)).clamp(1.0, 512.0) as usize;
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..repetitions.max(1) {
        let (began, used) = (Instant::now(), ProcessTime::now());
        batch(count)?;
        wall.push(began.elapsed().as_secs_f64() / count as f64);
        cpu.push(used.elapsed().as_secs_f64() / count as f64);
    }
    let ((wall, least, most), (cpu, ..)) = (spread(wall), spread(cpu));
    Ok(json!({
        "name": probe.name,
        "launches": count,
        "seconds": { "median": wall, "min": least, "max": most },
        "cpu_seconds": cpu,
        "bytes_per_second": probe.bytes as f64 / wall,
        "share_of_copy": copied.map(|copied| probe.bytes as f64 / wall / copied),
        "flops_per_second": probe.flops / wall,
    }))
}

fn table(report: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let adapter = &report["adapter"];
    println!("model     {}", text(&report["model"]));
    println!(
        "adapter   {}, {}",
        text(&adapter["name"]),
        text(&adapter["driver"])
    );
    if adapter["software"] == Value::Bool(true) {
        println!("          software adapter: these are cpu speeds");
    }
    match report["copy_bytes_per_second"].as_f64() {
        Some(copied) => println!("copy      {:.1} GB/s, read and written", copied / 1e9),
        None => println!("copy      not measured: the cpu is no adapter"),
    }
    println!();
    println!(
        "{:<52} {:>9} {:>21} {:>9} {:>7} {:>8} {:>9}",
        "kernel", "us", "(min .. max)", "cpu-us", "GB/s", "of copy", "GFLOP/s"
    );
    for kernel in report["kernels"].as_array().into_iter().flatten() {
        let number = |pointer: &str, scale: f64| {
            kernel
                .pointer(pointer)
                .and_then(Value::as_f64)
                .map_or(f64::NAN, |n| n * scale)
        };
        let share = match kernel["share_of_copy"].as_f64() {
            Some(share) => format!("{:.0} %", share * 100.0),
            None => "-".into(),
        };
        println!(
            "{:<52} {:>9.1} {:>21} {:>9.1} {:>7.2} {share:>8} {:>9.2}",
            text(&kernel["name"]),
            number("/seconds/median", 1e6),
            format!(
                "{:.1} .. {:.1}",
                number("/seconds/min", 1e6),
                number("/seconds/max", 1e6)
            ),
            number("/cpu_seconds", 1e6),
            number("/bytes_per_second", 1e-9),
            number("/flops_per_second", 1e-9),
        );
    }
}
