//! `fireside generate`: one prompt or conversation, streamed or as one JSON object.

use std::io::{IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::output::draft_notice;
use super::{GenerateArgs, GenerateFormat, load};
use crate::{Event, Input, Message, Output, TextGeneration};

/// Runs the command.
pub(super) fn run(args: &GenerateArgs) -> Result<()> {
    let input = input(args)?;
    let mut pipeline = load(
        &args.model,
        &args.sampling,
        args.lora.as_deref(),
        &args.drafts,
    )?;
    let result = generate(args, &mut pipeline, input);
    draft_notice(&mut pipeline);
    result
}

fn generate(args: &GenerateArgs, pipeline: &mut TextGeneration, input: Input) -> Result<()> {
    let params = args.sampling.params();
    if args.format == GenerateFormat::Json {
        let outputs = pollster::block_on(pipeline.generate(input, &params))?;
        let objects: Vec<Value> = outputs.iter().map(object).collect();
        let printed = match &objects[..] {
            [one] => one.clone(),
            many => Value::Array(many.to_vec()),
        };
        println!("{}", serde_json::to_string_pretty(&printed)?);
        return Ok(());
    }
    // Several sequences at once would interleave; each is printed whole.
    if params.num_return_sequences.unwrap_or(1) > 1 {
        let outputs = pollster::block_on(pipeline.generate(input, &params))?;
        for (index, output) in outputs.iter().enumerate() {
            println!("--- {} ---\n{}", index + 1, output.text);
        }
        return Ok(());
    }
    stream(pipeline, input, &params)
}

fn stream(
    pipeline: &mut TextGeneration,
    input: Input,
    params: &crate::GenerationParams,
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut failure = None;
    let mut written = Ok(());
    let mut stats = None;
    pollster::block_on(pipeline.stream(input, params, |_, event| {
        match event {
            Event::Token(token) => {
                written = out
                    .write_all(token.text.as_bytes())
                    .and_then(|()| out.flush());
            }
            Event::Finished(finished) => stats = Some(finished),
            Event::Failed { error, .. } => failure = Some(error),
            _ => {}
        }
        // A closed pipe ends the generation.
        if written.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }))?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
        other => other?,
    }
    writeln!(out)?;
    if let Some(finished) = stats
        && std::io::stderr().is_terminal()
    {
        let stats = finished.stats;
        let drafts = drafts(pipeline);
        let per_second = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
        eprintln!(
            "[{} prompt tokens, first token after {:.2} s; {} tokens at {:.1}/s{drafts}; ended by {}]",
            stats.prompt_tokens,
            stats.time_to_first_token.unwrap_or_default().as_secs_f64(),
            stats.generated_tokens,
            per_second(
                stats.generated_tokens.saturating_sub(1),
                stats.decode.as_secs_f64()
            ),
            finished.reason.openai(),
        );
    }
    Ok(())
}

/// What became of drafts, where there were any.
fn drafts(pipeline: &mut TextGeneration) -> String {
    let stats = pipeline.engine().stats();
    match (stats.accepted_tokens, stats.drafted_tokens) {
        (_, 0) => String::new(),
        (accepted, drafted) => format!(", {accepted} of {drafted} drafted ones taken"),
    }
}

fn object(output: &Output) -> Value {
    let completion = &output.completion;
    let stats = completion.stats;
    json!({
        "text": output.text,
        "token_ids": completion.token_ids,
        "prompt_token_ids": output.prompt_token_ids,
        "finish_reason": completion.finish_reason.openai(),
        "seed": completion.seed,
        "stats": {
            "prompt_tokens": stats.prompt_tokens,
            "generated_tokens": stats.generated_tokens,
            "time_to_first_token_seconds": stats.time_to_first_token.map(|d| d.as_secs_f64()),
            "prefill_seconds": stats.prefill.as_secs_f64(),
            "decode_seconds": stats.decode.as_secs_f64(),
            "decode_tokens_per_second": stats.generated_tokens.saturating_sub(1) as f64
                / stats.decode.as_secs_f64().max(1e-9),
            "logit_fallbacks": stats.fallbacks,
        },
    })
}

fn input(args: &GenerateArgs) -> Result<Input> {
    if let Some(file) = &args.messages {
        return messages(&read(file)?).with_context(|| format!("{}", file.display()));
    }
    let prompt = match args.prompt.as_deref() {
        Some("-") => read(Path::new("-"))?,
        Some(prompt) => prompt.to_string(),
        None => bail!("no prompt: give one, or --messages FILE"),
    };
    Ok(if args.chat {
        Input::from(vec![Message::new("user", &prompt)])
    } else {
        Input::from(prompt)
    })
}

fn read(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input is not readable text")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn messages(text: &str) -> Result<Input> {
    let wanted = "expected a JSON list of objects with role and content";
    let Value::Array(list) = serde_json::from_str(text).with_context(|| wanted)? else {
        bail!("{wanted}, found another kind of value");
    };
    let messages: Option<Vec<Message>> = list.into_iter().map(Message::from_json).collect();
    match messages {
        Some(messages) if !messages.is_empty() => Ok(Input::from(messages)),
        Some(_) => bail!("the list of messages is empty"),
        None => bail!("{wanted}, one entry is no object"),
    }
}
