//! `fireside chat`: a conversation in the terminal.
//!
//! Ctrl-C while the model answers stops the answer; at the prompt it clears the line, and Ctrl-D
//! ends the program.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::output::draft_notice;
use super::{ChatArgs, load};
use crate::{Event, GenerationParams, Message, TextGeneration};

const HELP: &str = "/reset forgets the conversation, /system TEXT sets the system message, \
                    /help shows this, /quit or Ctrl-D ends; Ctrl-C stops an answer";

/// Runs the command.
pub(super) fn run(args: &ChatArgs) -> Result<()> {
    let mut pipeline = load(
        &args.model,
        &args.sampling,
        args.lora.as_deref(),
        &args.drafts,
    )?;
    if pipeline.template().is_none() {
        return Err(fireside_tokenizer::Error::NoChatTemplate.into());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .context("cannot listen for Ctrl-C")?;
    let mut params = args.sampling.params();
    // An answer may be long; the context ends it.
    params.max_new_tokens.get_or_insert(1024);

    let mut drafting = pipeline.engine().draft_executor().is_some();
    let mut chat = Conversation::new(args.system.as_deref());
    let mut editor = DefaultEditor::new().context("cannot use the terminal")?;
    println!("{HELP}");
    loop {
        let line = match editor.readline("\n> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error).context("cannot read the terminal"),
        };
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        // A history that cannot be kept is no reason to stop.
        let _ = editor.add_history_entry(text);
        match text.split_once(' ').unwrap_or((text, "")) {
            ("/quit" | "/exit", _) => return Ok(()),
            ("/help", _) => println!("{HELP}"),
            ("/reset", _) => chat.reset(),
            ("/system", system) => chat = Conversation::new(Some(system.trim())),
            (command, _) if command.starts_with('/') => {
                println!("unknown command {command}: {HELP}")
            }
            _ => {
                stop.store(false, Ordering::Relaxed);
                chat.messages.push(Message::new("user", text));
                match answer(&mut pipeline, &chat.messages, &params, &stop) {
                    Ok(reply) => chat.messages.push(Message::new("assistant", &reply)),
                    Err(error) => {
                        // The question is not part of the conversation if it has no answer.
                        chat.messages.pop();
                        eprintln!("error: {error:#}");
                    }
                }
                // Told once.
                if drafting && pipeline.engine().draft_executor().is_none() {
                    drafting = false;
                    draft_notice(&mut pipeline);
                }
            }
        }
    }
}

struct Conversation {
    messages: Vec<Message>,
    system: Option<Message>,
}

impl Conversation {
    fn new(system: Option<&str>) -> Self {
        let system = system
            .filter(|s| !s.is_empty())
            .map(|s| Message::new("system", s));
        Self {
            messages: system.clone().into_iter().collect(),
            system,
        }
    }

    fn reset(&mut self) {
        self.messages = self.system.clone().into_iter().collect();
    }
}

fn answer(
    pipeline: &mut TextGeneration,
    messages: &[Message],
    params: &GenerationParams,
    stop: &AtomicBool,
) -> Result<String> {
    let mut out = std::io::stdout().lock();
    let mut reply = String::new();
    let mut failure = None;
    pollster::block_on(pipeline.stream(messages.to_vec(), params, |_, event| {
        match event {
            Event::Token(token) => {
                // A terminal that went away is noticed at the next prompt.
                let _ = out
                    .write_all(token.text.as_bytes())
                    .and_then(|()| out.flush());
                reply.push_str(&token.text);
            }
            Event::Failed { error, .. } => failure = Some(error),
            _ => {}
        }
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }))?;
    let _ = writeln!(out);
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(reply),
    }
}
