//! The `fireside` command: arguments, and which module does what.

mod adapters;
mod bench;
mod bench_kernels;
mod bench_requests;
mod bench_serve;
mod chat;
mod embed;
mod generate;
mod inspect;
mod output;
mod perplexity;
mod quantize;
mod rerank;
mod serve;
mod telemetry;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fireside_engine::{EngineConfig, GenerationParams};
use fireside_hub::Options;
use fireside_model::device::DeviceChoice;
use fireside_model::{KvDtype, Quantize};

use crate::{Loading, TextGeneration};

/// Run language models on any GPU.
#[derive(Debug, Parser)]
#[command(name = "fireside", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate text from a prompt, streaming it to the terminal.
    Generate(GenerateArgs),
    /// Chat in the terminal.
    Chat(ChatArgs),
    /// Make embeddings of texts, as JSON.
    Embed(EmbedArgs),
    /// Say how well texts answer a query, the best first, as JSON.
    Rerank(RerankArgs),
    /// Measure prefill and decode speed, or a server under load.
    Bench(BenchArgs),
    /// Serve the model over HTTP, to OpenAI's and TGI's clients.
    Serve(Box<serve::ServeArgs>),
    /// Measure how well a model predicts a text, in windows of --context tokens (512).
    ///
    /// As llama.cpp's llama-perplexity: windows do not overlap, each is run by itself, and the tokens of
    /// its second half count.
    Perplexity(perplexity::PerplexityArgs),
    /// Write a GGUF file with smaller weights; all else stays as it is.
    Quantize(quantize::QuantizeArgs),
    /// Show what a model file holds.
    Inspect {
        /// A GGUF file, a model folder, a known name or a hub id.
        #[arg(default_value = DEFAULT)]
        model: String,
    },
    /// List the GPU adapters and which one would be used.
    Adapters,
    /// Fetch a model and print where it lies.
    Fetch {
        /// A known name or a hub id.
        #[arg(default_value = DEFAULT)]
        model: String,
    },
}

const DEFAULT: &str = fireside_hub::DEFAULT_MODEL.name;

/// Which model, on which device.
#[derive(Debug, Args)]
struct ModelArgs {
    /// A GGUF file, a folder with config.json, tokenizer.json and *.safetensors, a known name or a
    /// hub id.
    #[arg(short, long, env = "FIRESIDE_MODEL", default_value = DEFAULT)]
    model: String,
    /// auto, gpu, cpu, or the number of an adapter from `fireside adapters`.
    #[arg(short, long, env = "FIRESIDE_DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Element type of the KV cache, that of a draft model too: q8 takes about half the memory of f16, and rounds keys
    /// and values to bytes with a scale for each position and head.
    #[arg(
        long,
        env = "FIRESIDE_KV_CACHE_DTYPE",
        value_enum,
        default_value = "f16"
    )]
    kv_cache_dtype: KvCacheDtype,
    /// Makes float weights (F32, F16, BF16) smaller while loading, those of a draft model too: 4 or 8 bits for
    /// projections, 8 for embedding and head; what is quantized already is left as it is.
    #[arg(long, env = "FIRESIDE_QUANTIZE", value_enum, value_name = "BITS")]
    quantize: Option<QuantizeTo>,
    /// Positions that all sequences together may take; the model's context by default, within reason.
    #[arg(short, long, value_name = "TOKENS")]
    context: Option<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KvCacheDtype {
    F16,
    F32,
    Q8,
}

impl From<KvCacheDtype> for KvDtype {
    fn from(value: KvCacheDtype) -> Self {
        match value {
            KvCacheDtype::F16 => Self::F16,
            KvCacheDtype::F32 => Self::F32,
            KvCacheDtype::Q8 => Self::Q8,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum QuantizeTo {
    Q4,
    Q8,
}

impl From<QuantizeTo> for Quantize {
    fn from(value: QuantizeTo) -> Self {
        match value {
            QuantizeTo::Q4 => Self::Q4,
            QuantizeTo::Q8 => Self::Q8,
        }
    }
}

/// What is tried beyond the next token; the text stays the same.
#[derive(Debug, Args)]
struct DraftArgs {
    /// Most tokens to draft from what followed the last ones before, or with --draft-model from what that guesses, and
    /// to try in one step; 0 for none. By default 7 with --draft-model, else 0. The text stays the same; one that
    /// repeats its prompt comes faster.
    #[arg(long, env = "FIRESIDE_SPECULATE", value_name = "N")]
    speculate: Option<usize>,
    /// A smaller model of the same vocabulary, named as for --model, that drafts where the text itself says nothing;
    /// --quantize and --kv-cache-dtype are for it too.
    #[arg(long, env = "FIRESIDE_DRAFT_MODEL", value_name = "MODEL")]
    draft_model: Option<String>,
}

/// Sampling parameters, under Hugging Face's names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Generation")]
struct SamplingArgs {
    /// Most tokens to generate.
    #[arg(short = 'n', long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Sample instead of taking the best token; implied by a sampling parameter.
    #[arg(long)]
    do_sample: bool,
    /// Divides the logits; 0 is greedy.
    #[arg(short, long, allow_negative_numbers = true, value_name = "T")]
    temperature: Option<f32>,
    /// Sample among this many best tokens; 0 for all.
    #[arg(long, allow_negative_numbers = true, value_name = "K")]
    top_k: Option<i64>,
    /// Sample among the fewest best tokens with this total probability.
    #[arg(long, allow_negative_numbers = true, value_name = "P")]
    top_p: Option<f32>,
    /// Sample among tokens at least this probable relative to the best.
    #[arg(long, allow_negative_numbers = true, value_name = "P")]
    min_p: Option<f32>,
    /// Locally typical sampling with this total probability.
    #[arg(long, allow_negative_numbers = true, value_name = "P")]
    typical_p: Option<f32>,
    /// Makes tokens of prompt and output less likely; 1 for none.
    #[arg(long, allow_negative_numbers = true, value_name = "R")]
    repetition_penalty: Option<f32>,
    /// Subtracted per time that the output has a token.
    #[arg(long, allow_negative_numbers = true, value_name = "F")]
    frequency_penalty: Option<f32>,
    /// Subtracted once the output has a token.
    #[arg(long, allow_negative_numbers = true, value_name = "F")]
    presence_penalty: Option<f32>,
    /// The same seed gives the same text.
    #[arg(short, long)]
    seed: Option<u64>,
    /// Text before which the generation ends; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Sequences to generate from each prompt.
    #[arg(long, value_name = "N")]
    num_return_sequences: Option<usize>,
    /// Go on after the model's end-of-sequence token.
    #[arg(long)]
    ignore_eos: bool,
}

impl SamplingArgs {
    fn params(&self) -> GenerationParams {
        GenerationParams {
            max_new_tokens: self.max_new_tokens,
            do_sample: self.do_sample.then_some(true),
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            seed: self.seed,
            stop: (!self.stop.is_empty()).then(|| self.stop.clone()),
            num_return_sequences: self.num_return_sequences,
            ignore_eos: self.ignore_eos.then_some(true),
            ..Default::default()
        }
    }
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// The prompt, text as it is; `-` reads it from standard input.
    #[arg(required_unless_present = "messages")]
    prompt: Option<String>,
    /// Wrap the prompt in the model's chat template.
    #[arg(long)]
    chat: bool,
    /// A JSON file with chat messages, as [{"role": "user", "content": "…"}]; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "chat"])]
    messages: Option<PathBuf>,
    /// `text` streams; `json` prints one object at the end.
    #[arg(long, value_enum, default_value = "text")]
    format: GenerateFormat,
    /// A LoRA adapter to answer with, a folder as PEFT saves it.
    #[arg(long, value_name = "FOLDER")]
    lora: Option<PathBuf>,
    #[command(flatten)]
    drafts: DraftArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GenerateFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct ChatArgs {
    /// A system message to begin with.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A LoRA adapter to answer with, a folder as PEFT saves it.
    #[arg(long, value_name = "FOLDER")]
    lora: Option<PathBuf>,
    #[command(flatten)]
    drafts: DraftArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Debug, Args)]
struct EmbedArgs {
    /// The texts; none reads one from each line of standard input.
    texts: Vec<String>,
    /// An embedding model: a folder with config.json, tokenizer.json and *.safetensors, a known name or a hub
    /// id.
    #[arg(short, long, env = "FIRESIDE_MODEL")]
    model: String,
    /// auto, gpu, cpu, or the number of an adapter from `fireside adapters`.
    #[arg(short, long, env = "FIRESIDE_DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Make float weights smaller while loading.
    #[arg(long, value_enum, env = "FIRESIDE_QUANTIZE")]
    quantize: Option<QuantizeTo>,
    /// Most tokens of a text; the model's own by default, within reason.
    #[arg(short, long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Keep only so many of the first values.
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// The name of the model's prompt to put before each text, `query` for example.
    #[arg(long, value_name = "NAME")]
    prompt_name: Option<String>,
    /// Cut texts that are too long instead of refusing them.
    #[arg(long)]
    truncate: bool,
    /// Give embeddings as they are, not in the length 1.
    #[arg(long)]
    no_normalize: bool,
    /// `embeddings` prints a JSON list for each text, `similarities` the cosine of each pair as a table.
    #[arg(long, value_enum, default_value = "embeddings")]
    format: EmbedFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EmbedFormat {
    Embeddings,
    Similarities,
}

#[derive(Debug, Args)]
struct RerankArgs {
    /// The texts; none reads one from each line of standard input.
    texts: Vec<String>,
    /// What the texts are to answer.
    #[arg(long)]
    query: String,
    /// A cross-encoder: a folder with config.json, tokenizer.json and *.safetensors, a known name or a hub id.
    #[arg(short, long, env = "FIRESIDE_MODEL")]
    model: String,
    /// auto, gpu, cpu, or the number of an adapter from `fireside adapters`.
    #[arg(short, long, env = "FIRESIDE_DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Make float weights smaller while loading.
    #[arg(long, value_enum, env = "FIRESIDE_QUANTIZE")]
    quantize: Option<QuantizeTo>,
    /// Most tokens of query and text together; the model's own by default, within reason.
    #[arg(short, long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Print only so many of the best.
    #[arg(long, value_name = "N")]
    top_n: Option<usize>,
    /// Cut queries and texts that are too long instead of refusing them.
    #[arg(long)]
    truncate: bool,
    /// Give logits, not what the model makes of them by default.
    #[arg(long)]
    raw_scores: bool,
    /// `json` prints an object for each text, `table` its score and its beginning.
    #[arg(long, value_enum, default_value = "json")]
    format: RerankFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RerankFormat {
    Json,
    Table,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure any server with OpenAI's interface under load.
    Serve(Box<bench_serve::ServeBenchArgs>),
    /// Measure the kernels of a model by themselves, against the device's bandwidth.
    Kernels(Box<bench_kernels::KernelBenchArgs>),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    /// Tokens of the prefill test.
    #[arg(short = 'p', long, default_value_t = 512)]
    prompt: usize,
    /// Tokens of the decode test.
    #[arg(short = 'n', long, default_value_t = 128)]
    generate: usize,
    /// Tokens in the context of each sequence before the decode tests.
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    depth: usize,
    /// Sequences that decode together: a decode test for each number, as in 1,4,16.
    #[arg(short, long, value_name = "COUNTS", value_delimiter = ',', default_value = "1",
        value_parser = clap::value_parser!(u16).range(1..=512))]
    sequences: Vec<u16>,
    /// Repetitions of each test, interleaved.
    #[arg(short, long, default_value_t = 5)]
    repetitions: usize,
    /// `table` for people, `json` for programs.
    #[arg(long, value_enum, default_value = "table")]
    format: BenchFormat,
    /// Measure what standard input asks for, a JSON object a line, with one of standard output each: for
    /// programs that measure several engines in turns.
    #[arg(long, hide = true)]
    on_request: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BenchFormat {
    Table,
    Json,
}

/// Runs the command line of this process.
///
/// The exit code is 0, 1 for an error while running, 2 for arguments that make no sense.
pub fn main() -> ExitCode {
    quiet_drivers();
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: the chain from the outermost to the cause.
            eprintln!("error: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

/// Keeps Mesa's device-select layer, which looks for a display, from printing errors to the terminal
/// of a machine that has none.
fn quiet_drivers() {
    #[cfg(target_os = "linux")]
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: called first thing in `main`, before any other thread exists that could read the
        // environment at the same time.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Rerank(args) => rerank::run(&args),
        Command::Bench(BenchArgs {
            command: Some(BenchCommand::Serve(args)),
            ..
        }) => bench_serve::run(&args),
        Command::Bench(BenchArgs {
            command: Some(BenchCommand::Kernels(args)),
            ..
        }) => bench_kernels::run(&local(&args.model.model, &Options::from_env())?, &args),
        Command::Bench(args) => {
            let options = Options::from_env();
            let path = local(&args.model.model, &options)?;
            if args.on_request {
                let kv = args.model.kv_cache_dtype.into();
                let quantize = args.model.quantize.map(Quantize::from);
                return bench_requests::run(&path, args.model.device, kv, quantize);
            }
            let hash = bench::digest(&path, &options)?;
            bench::run(
                &path,
                &hash,
                &args,
                args.model.device,
                args.model.kv_cache_dtype.into(),
                args.model.quantize.map(Quantize::from),
            )
        }
        Command::Serve(args) => serve::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Inspect { model } => inspect::run(&local(&model, &Options::from_env())?),
        Command::Adapters => {
            adapters::run();
            Ok(())
        }
        Command::Fetch { model } => {
            println!("{}", local(&model, &Options::from_env())?.display());
            Ok(())
        }
    }
}

/// The path of a model, fetched if need be; of one in several files the first.
fn local(model: &str, options: &Options) -> Result<PathBuf> {
    let files = fireside_hub::resolve(model, options)?;
    Ok(files.path().to_path_buf())
}

/// Loads a model with the notice about its device.
fn load(
    args: &ModelArgs,
    sampling: &SamplingArgs,
    lora: Option<&Path>,
    drafts: &DraftArgs,
) -> Result<TextGeneration> {
    // Wrong parameters are told before anything is fetched or loaded.
    sampling
        .params()
        .validate(&fireside_engine::ParamLimits::new(u32::MAX as usize))?;
    let mut pipeline = open(args, args.context, Some(drafts))?;
    if let Some(folder) = lora {
        let name = "lora";
        pipeline.load_adapter(name, folder)?;
        pipeline.set_adapter(Some(name))?;
    }
    Ok(pipeline)
}

/// Loads a model with a KV cache of so many positions, with the notice about its device.
fn open(
    args: &ModelArgs,
    context: Option<usize>,
    drafts: Option<&DraftArgs>,
) -> Result<TextGeneration> {
    let pipeline = pollster::block_on(
        Loading::new(&args.model)
            .device(args.device)
            .kv_cache_dtype(args.kv_cache_dtype.into())
            .quantize(args.quantize.map(Quantize::from))
            .context(context)
            .draft_model(drafts.and_then(|drafts| drafts.draft_model.clone()))
            .engine(EngineConfig {
                speculate: drafts.and_then(|drafts| drafts.speculate),
                ..EngineConfig::default()
            })
            .text_generation(),
    )?;
    output::notice(pipeline.device(), args.device == DeviceChoice::Cpu);
    Ok(pipeline)
}
