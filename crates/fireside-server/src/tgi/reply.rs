//! From the engine's events to TGI's frames and whole answers.

use fireside_engine::{Event, Finished, Prompt, PromptToken, Token};
use fireside_openai::ApiError;
use fireside_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use crate::http::error::Dialect;
use crate::http::sse;

/// What has come of a generation so far.
#[derive(Debug)]
pub(crate) struct Generated {
    tokenizer: Tokenizer,
    /// Comes before the text: the prompt, where the full text is asked for.
    prefix: String,
    details: bool,
    top_n: usize,
    sampled: bool,
    /// The tokens of the prompt, where they are asked for.
    prefill: Vec<Value>,
    sequences: Vec<Sequence>,
}

#[derive(Debug, Clone, Default)]
struct Sequence {
    text: String,
    tokens: Vec<Value>,
    top: Vec<Value>,
    logprob: f64,
    finish: Option<Finished>,
}

impl Generated {
    /// The state of `sequences` generations from one prompt, of which the best is given.
    pub(crate) fn new(
        tokenizer: Tokenizer,
        prefix: String,
        details: bool,
        top_n: usize,
        sampled: bool,
        sequences: usize,
    ) -> Self {
        Self {
            tokenizer,
            prefix,
            details,
            top_n,
            sampled,
            prefill: Vec::new(),
            sequences: vec![Sequence::default(); sequences],
        }
    }

    /// Takes in events.
    ///
    /// # Errors
    ///
    /// A sequence failed.
    pub(crate) fn push(&mut self, events: Vec<(usize, Event)>) -> Result<(), ApiError> {
        for (index, event) in events {
            match event {
                Event::Prompt(prompt) => self.prefill = self.prefill(&prompt),
                Event::Token(token) => {
                    let (entry, top) = self.token(&token);
                    if let Some(sequence) = self.sequences.get_mut(index) {
                        sequence.text += &token.text;
                        sequence.logprob += f64::from(token.logprob.unwrap_or_default());
                        sequence.tokens.push(entry);
                        sequence.top.push(top);
                    }
                }
                Event::Finished(finished) => {
                    if let Some(sequence) = self.sequences.get_mut(index) {
                        sequence.finish = Some(finished);
                    }
                }
                Event::Failed { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether all sequences have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.sequences
            .iter()
            .all(|sequence| sequence.finish.is_some())
    }

    /// A token, and the most probable ones in its place. A special token has its name as its text,
    /// unless text that was held back comes with it.
    fn token(&self, token: &Token) -> (Value, Value) {
        let special = self.tokenizer.is_special(token.id) && token.text.is_empty();
        let text = if special {
            self.tokenizer.id_to_token(token.id).unwrap_or_default()
        } else {
            token.text.clone()
        };
        let entry = json!({
            "id": token.id,
            "text": text,
            "logprob": token.logprob,
            "special": special,
        });
        let top = token.top_logprobs.iter().map(|top| {
            let bytes = self.tokenizer.token_bytes(top.token).unwrap_or_default();
            json!({
                "id": top.token,
                "text": String::from_utf8_lossy(bytes),
                "logprob": top.logprob,
                "special": self.tokenizer.is_special(top.token),
            })
        });
        (entry, top.collect())
    }

    /// The tokens of a prompt; the first one follows nothing and has no log-probability.
    fn prefill(&self, prompt: &Prompt) -> Vec<Value> {
        let entry = |token: &PromptToken| {
            let bytes = self.tokenizer.token_bytes(token.id).unwrap_or_default();
            json!({
                "id": token.id,
                "text": String::from_utf8_lossy(bytes),
                "logprob": token.logprob,
            })
        };
        prompt.tokens.iter().map(entry).collect()
    }

    fn text(&self, sequence: &Sequence) -> String {
        format!("{}{}", self.prefix, sequence.text)
    }

    /// Why a sequence ended, and of what size it is.
    fn ending(&self, finished: &Finished) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("finish_reason".into(), finished.reason.tgi().into());
        map.insert(
            "generated_tokens".into(),
            finished.stats.generated_tokens.into(),
        );
        let seed = self.sampled.then_some(finished.seed);
        map.insert("seed".into(), seed.into());
        map
    }

    fn all_details(&self, sequence: &Sequence) -> Map<String, Value> {
        let finish = sequence.finish.as_ref();
        let mut details = finish.map(|f| self.ending(f)).unwrap_or_default();
        details.insert("prefill".into(), json!(self.prefill));
        details.insert("tokens".into(), json!(sequence.tokens));
        if self.top_n > 0 {
            details.insert("top_tokens".into(), json!(sequence.top));
        }
        details
    }

    /// The sequence with the most probable tokens, and the others.
    fn best(&self) -> Option<(&Sequence, Vec<&Sequence>)> {
        let mean = |sequence: &Sequence| sequence.logprob / sequence.tokens.len().max(1) as f64;
        let mut order: Vec<&Sequence> = self.sequences.iter().collect();
        order.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        let mut order = order.into_iter();
        Some((order.next()?, order.collect()))
    }

    /// The end of the sequence that is given.
    pub(crate) fn finished(&self) -> Option<&Finished> {
        self.best()?.0.finish.as_ref()
    }

    /// The whole answer.
    pub(crate) fn whole(&self) -> Value {
        let Some((best, others)) = self.best() else {
            return Value::Null;
        };
        let mut map = Map::new();
        map.insert("generated_text".into(), self.text(best).into());
        if self.details {
            let mut details = self.all_details(best);
            if !others.is_empty() {
                let others = others.into_iter().map(|other| {
                    let mut own = self.all_details(other);
                    own.insert("generated_text".into(), self.text(other).into());
                    Value::Object(own)
                });
                details.insert("best_of_sequences".into(), others.collect());
            }
            map.insert("details".into(), Value::Object(details));
        }
        Value::Object(map)
    }
}

/// One frame for each token; the last one has the whole text and its details.
impl sse::Frames for Generated {
    fn take(&mut self, events: Vec<(usize, Event)>) -> Result<Vec<String>, ApiError> {
        let before = self.sequences.first().map_or(0, |own| own.tokens.len());
        self.push(events)?;
        let Some(own) = self.sequences.first() else {
            return Ok(Vec::new());
        };
        let last = own.tokens.len();
        let frames = own.tokens.iter().zip(&own.top).enumerate().skip(before);
        let frames = frames.map(|(at, (token, top))| {
            let mut frame = Map::new();
            frame.insert("index".into(), (at + 1).into());
            frame.insert("token".into(), token.clone());
            if self.top_n > 0 {
                frame.insert("top_tokens".into(), top.clone());
            }
            let finish = own.finish.as_ref().filter(|_| at + 1 == last);
            let text = finish.map(|_| self.text(own));
            frame.insert("generated_text".into(), text.into());
            let details = finish.map(|finish| {
                let mut details = self.ending(finish);
                details.insert("input_length".into(), finish.stats.prompt_tokens.into());
                Value::Object(details)
            });
            frame.insert("details".into(), details.into());
            Value::Object(frame).to_string()
        });
        Ok(frames.collect())
    }

    fn is_done(&self) -> bool {
        self.is_done()
    }

    fn last(&self) -> Option<&'static str> {
        None
    }

    fn failed(&self, error: &ApiError) -> String {
        Dialect::Tgi.body(error).to_string()
    }
}
