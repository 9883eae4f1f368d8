//! `fireside perplexity`: how well a model predicts a text, as llama.cpp's llama-perplexity measures it.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{ModelArgs, open};

/// Tokens of a window where nobody says it, as in llama.cpp.
const WINDOW: usize = 512;

#[derive(Debug, Args)]
#[command(mut_arg("context", |context| context.help("Tokens of a window [default: 512]")))]
pub(super) struct PerplexityArgs {
    /// A file with the text, in UTF-8.
    #[arg(short, long, value_name = "TEXT")]
    file: PathBuf,
    /// `text` for people, `json` for programs.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs the command.
pub(super) fn run(args: &PerplexityArgs) -> Result<()> {
    let name = args.file.display();
    let text =
        std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {name}"))?;
    if text.is_empty() {
        bail!("{name} is empty; expected some thousand characters of text");
    }
    let window = args.model.context.unwrap_or(WINDOW);
    let mut pipeline = open(&args.model, Some(window), None)?;
    let watched = std::io::stderr().is_terminal();
    let found = pollster::block_on(pipeline.perplexity(&text, window, |known| {
        if watched {
            eprintln!("[{} windows: {:.4}]", known.windows, known.value);
        }
    }))?;
    match args.format {
        Format::Text => {
            println!(
                "perplexity     {:.4} +/- {:.4}",
                found.value, found.standard_error
            );
            println!(
                "tokens         {} counted of {}, in {} windows of {}",
                found.counted, found.tokens, found.windows, found.window
            );
        }
        Format::Json => {
            let object = json!({
                "perplexity": found.value,
                "standard_error": found.standard_error,
                "counted_tokens": found.counted,
                "tokens": found.tokens,
                "windows": found.windows,
                "window": found.window,
            });
            println!("{}", serde_json::to_string_pretty(&object)?);
        }
    }
    Ok(())
}
