//! From the engine's events to chunks of a stream and whole objects.

use std::collections::BTreeMap;

use fireside_engine::{Event, Finished, RequestId, Token, TokenLogprob};
use fireside_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use crate::ApiError;

/// Which of the two objects a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// `chat.completion` and `chat.completion.chunk`.
    Chat,
    /// `text_completion`.
    Completion,
}

/// What has come of a request so far.
///
/// Chunks have vLLM's order: the role, the text as it becomes certain, the finish reason, and, for
/// clients that ask for it, the usage without choices.
#[derive(Debug, Clone)]
pub struct Reply {
    kind: ReplyKind,
    head: Head,
    include_usage: bool,
    /// Add `usage.extra`: speeds and the time to the first token.
    extra: bool,
    logprobs: bool,
    choices: Vec<Choice>,
}

#[derive(Debug, Clone)]
struct Head {
    id: String,
    created: u64,
    model: String,
}

#[derive(Debug, Clone, Default)]
struct Choice {
    started: bool,
    text: String,
    logprobs: Vec<Value>,
    finish: Option<Finished>,
}

impl Reply {
    /// A reply of `choices` sequences, `n` for each prompt. `created` is in seconds since 1970.
    pub fn new(
        kind: ReplyKind,
        id: impl Into<String>,
        created: u64,
        model: impl Into<String>,
        choices: usize,
    ) -> Self {
        Self {
            kind,
            head: Head {
                id: id.into(),
                created,
                model: model.into(),
            },
            include_usage: false,
            extra: false,
            logprobs: false,
            choices: vec![Choice::default(); choices],
        }
    }

    /// Ends the stream with a chunk that has the usage.
    #[must_use]
    pub fn with_usage(mut self, include: bool) -> Self {
        self.include_usage = include;
        self
    }

    /// Adds `usage.extra`: tokens per second and the time to the first token.
    #[must_use]
    pub fn with_extra(mut self, extra: bool) -> Self {
        self.extra = extra;
        self
    }

    /// Adds the log-probabilities that the events have.
    #[must_use]
    pub fn with_logprobs(mut self, logprobs: bool) -> Self {
        self.logprobs = logprobs;
        self
    }

    /// Puts text before that of a choice: an echoed prompt.
    pub fn echo(&mut self, choice: usize, text: &str) {
        if let Some(choice) = self.choices.get_mut(choice) {
            choice.text.insert_str(0, text);
        }
    }

    /// Whether every choice has ended.
    pub fn is_done(&self) -> bool {
        self.choices.iter().all(|choice| choice.finish.is_some())
    }

    /// Takes in an event of choice number `choice` and gives the chunks that it makes.
    ///
    /// # Errors
    ///
    /// The error of a sequence that failed.
    pub fn push(
        &mut self,
        choice: usize,
        event: &Event,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Value>, ApiError> {
        match event {
            Event::Token(token) => Ok(self.token(choice, token, tokenizer)),
            Event::Finished(finished) => Ok(self.finished(choice, finished)),
            Event::Failed { error, .. } => Err(error.clone().into()),
            _ => Ok(Vec::new()),
        }
    }

    fn token(&mut self, index: usize, token: &Token, tokenizer: &Tokenizer) -> Vec<Value> {
        let mut chunks = self.start(index);
        let Some(choice) = self.choices.get_mut(index) else {
            return chunks;
        };
        choice.text.push_str(&token.text);
        let logprob = token
            .logprob
            .filter(|_| self.logprobs)
            .map(|own| logprob_entry(token.id, own, &token.top_logprobs, tokenizer));
        choice.logprobs.extend(logprob.clone());
        if token.text.is_empty() && logprob.is_none() {
            return chunks;
        }
        let entries: Vec<Value> = logprob.into_iter().collect();
        let body = match self.kind {
            ReplyKind::Chat => ("delta", json!({ "content": token.text })),
            ReplyKind::Completion => ("text", json!(token.text)),
        };
        chunks.push(self.chunk(index, body, None, &entries));
        chunks
    }

    /// The chunk with the role, once.
    fn start(&mut self, index: usize) -> Vec<Value> {
        let Some(choice) = self.choices.get_mut(index) else {
            return Vec::new();
        };
        if std::mem::replace(&mut choice.started, true) {
            return Vec::new();
        }
        match self.kind {
            ReplyKind::Chat => {
                let body = ("delta", json!({ "role": "assistant", "content": "" }));
                vec![self.chunk(index, body, None, &[])]
            }
            ReplyKind::Completion if !choice.text.is_empty() => {
                let body = ("text", json!(choice.text));
                vec![self.chunk(index, body, None, &[])]
            }
            ReplyKind::Completion => Vec::new(),
        }
    }

    fn finished(&mut self, index: usize, finished: &Finished) -> Vec<Value> {
        let mut chunks = self.start(index);
        if let Some(choice) = self.choices.get_mut(index) {
            choice.finish = Some(finished.clone());
        }
        let body = match self.kind {
            ReplyKind::Chat => ("delta", json!({})),
            ReplyKind::Completion => ("text", json!("")),
        };
        chunks.push(self.chunk(index, body, Some(finished.reason.openai()), &[]));
        if self.include_usage && self.is_done() {
            let mut last = self.envelope(self.kind.chunk_object());
            last.insert("choices".into(), json!([]));
            last.insert("usage".into(), self.usage());
            chunks.push(Value::Object(last));
        }
        chunks
    }

    fn envelope(&self, object: &str) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.head.id));
        map.insert("object".into(), json!(object));
        map.insert("created".into(), json!(self.head.created));
        map.insert("model".into(), json!(self.head.model));
        map
    }

    fn chunk(
        &self,
        index: usize,
        (field, body): (&str, Value),
        finish: Option<&str>,
        logprobs: &[Value],
    ) -> Value {
        let mut map = self.envelope(self.kind.chunk_object());
        let logprobs = self.logprobs_of(logprobs);
        map.insert(
            "choices".into(),
            json!([{ "index": index, field: body, "logprobs": logprobs, "finish_reason": finish }]),
        );
        Value::Object(map)
    }

    fn logprobs_of(&self, entries: &[Value]) -> Value {
        if entries.is_empty() {
            return Value::Null;
        }
        match self.kind {
            ReplyKind::Chat => json!({ "content": entries }),
            ReplyKind::Completion => {
                let column = |name: &str| -> Vec<Value> {
                    entries.iter().map(|entry| entry[name].clone()).collect()
                };
                let top: Vec<Value> = entries
                    .iter()
                    .map(|entry| {
                        let all = entry["top_logprobs"].as_array();
                        let pairs = all.into_iter().flatten().map(|one| {
                            let token = one["token"].as_str().unwrap_or_default();
                            (token.to_owned(), one["logprob"].clone())
                        });
                        Value::Object(pairs.collect())
                    })
                    .collect();
                json!({
                    "tokens": column("token"),
                    "token_logprobs": column("logprob"),
                    "top_logprobs": top,
                })
            }
        }
    }

    /// The whole object; what has not ended yet has no finish reason.
    pub fn whole(&self) -> Value {
        let mut map = self.envelope(match self.kind {
            ReplyKind::Chat => "chat.completion",
            ReplyKind::Completion => "text_completion",
        });
        let choices: Vec<Value> = self
            .choices
            .iter()
            .enumerate()
            .map(|(index, choice)| {
                let finish = choice.finish.as_ref().map(|f| f.reason.openai());
                let logprobs = self.logprobs_of(&choice.logprobs);
                match self.kind {
                    ReplyKind::Chat => json!({
                        "index": index,
                        "message": { "role": "assistant", "content": choice.text },
                        "logprobs": logprobs,
                        "finish_reason": finish,
                    }),
                    ReplyKind::Completion => json!({
                        "index": index,
                        "text": choice.text,
                        "logprobs": logprobs,
                        "finish_reason": finish,
                    }),
                }
            })
            .collect();
        map.insert("choices".into(), json!(choices));
        map.insert("usage".into(), self.usage());
        Value::Object(map)
    }

    /// Counts over all choices; a prompt counts once for the sequences that share it, and of it was
    /// cached what was so for all of them.
    fn usage(&self) -> Value {
        let finished: Vec<&Finished> = self
            .choices
            .iter()
            .filter_map(|c| c.finish.as_ref())
            .collect();
        let mut prompts: BTreeMap<RequestId, (usize, usize)> = BTreeMap::new();
        for one in &finished {
            let (tokens, cached) = (one.stats.prompt_tokens, one.stats.cached_tokens);
            let known = prompts.entry(one.request).or_insert((tokens, cached));
            known.1 = known.1.min(cached);
        }
        let prompt: usize = prompts.values().map(|(tokens, _)| tokens).sum();
        let cached: usize = prompts.values().map(|(_, cached)| cached).sum();
        let completion: usize = finished.iter().map(|f| f.stats.generated_tokens).sum();
        let mut usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": { "cached_tokens": cached },
        });
        if self.extra {
            usage["extra"] = extra(&finished, prompt - cached, completion);
        }
        usage
    }
}

impl ReplyKind {
    fn chunk_object(self) -> &'static str {
        match self {
            Self::Chat => "chat.completion.chunk",
            Self::Completion => "text_completion",
        }
    }
}

/// Speeds as WebLLM names them, of the sequence that took longest. `prompt` counts the tokens that
/// were run.
fn extra(finished: &[&Finished], prompt: usize, completion: usize) -> Value {
    let longest = |of: fn(&Finished) -> f64| finished.iter().map(|f| of(f)).fold(0.0, f64::max);
    let prefill = longest(|f| f.stats.prefill.as_secs_f64());
    let decode = longest(|f| f.stats.decode.as_secs_f64());
    let queued = longest(|f| f.stats.queued.as_secs_f64());
    let first = longest(|f| {
        f.stats
            .time_to_first_token
            .map_or(0.0, |time| time.as_secs_f64())
    });
    // The first token of each sequence comes of the prefill.
    let decoded = completion.saturating_sub(finished.len());
    let rate = |tokens: usize, seconds: f64| {
        if seconds > 0.0 {
            tokens as f64 / seconds
        } else {
            0.0
        }
    };
    json!({
        "prefill_tokens_per_s": rate(prompt, prefill),
        "decode_tokens_per_s": rate(decoded, decode),
        "time_to_first_token_s": first,
        "time_per_output_token_s": if decoded > 0 { decode / decoded as f64 } else { 0.0 },
        "e2e_latency_s": queued + prefill + decode,
    })
}

fn logprob_entry(token: u32, logprob: f32, top: &[TokenLogprob], tokenizer: &Tokenizer) -> Value {
    let one = |token: u32, logprob: f32| {
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        json!({
            "token": String::from_utf8_lossy(bytes),
            "logprob": logprob,
            "bytes": bytes,
        })
    };
    let mut entry = one(token, logprob);
    entry["top_logprobs"] = top.iter().map(|t| one(t.token, t.logprob)).collect();
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use fireside_engine::{Engine, EngineConfig, GenerationDefaults, GenerationParams, Request};
    use fireside_engine::{Executor, ExecutorError, ExecutorLimits};
    use fireside_tokenizer::GgufVocab;

    /// Continues with one token for ever.
    struct Always(u32);

    impl Executor for Always {
        fn limits(&self) -> ExecutorLimits {
            ExecutorLimits {
                vocab: 4,
                context: 64,
                blocks: 8,
                step_tokens: 64,
                step_sequences: 4,
            }
        }

        async fn step(
            &mut self,
            step: &fireside_model::step::Step,
        ) -> Result<Vec<fireside_model::step::Selected>, ExecutorError> {
            let rows = step.chunks.iter().flat_map(|chunk| &chunk.rows);
            let selection = fireside_model::Selection {
                token: self.0,
                max: 0.0,
                log_sum_exp: 0.5,
                tempered_log_sum_exp: 0.5,
                broken: 0,
                candidates: vec![(self.0, 0.0), (1, -1.0)],
            };
            Ok(rows
                .map(|_| fireside_model::step::Selected {
                    selection: selection.clone(),
                    logits: None,
                })
                .collect())
        }
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_gguf(&GgufVocab {
            model: "llama",
            tokens: vec!["<unk>", "<s>", "</s>", "▁ha"],
            scores: vec![0.0; 4],
            token_types: vec![2, 3, 3, 1],
            ..GgufVocab::default()
        })
        .unwrap()
    }

    fn engine() -> Engine<Always> {
        let defaults = GenerationDefaults::default();
        Engine::new(Always(3), tokenizer(), defaults, EngineConfig::default()).unwrap()
    }

    fn run(reply: Reply, logprobs: Option<usize>) -> (Reply, Vec<Value>) {
        let params = GenerationParams {
            max_new_tokens: Some(2),
            do_sample: Some(false),
            logprobs,
            ..Default::default()
        };
        let request = Request::new(vec![1]).with_params(params);
        run_on(&mut engine(), reply, &request)
    }

    fn run_on(
        engine: &mut Engine<Always>,
        mut reply: Reply,
        request: &Request,
    ) -> (Reply, Vec<Value>) {
        engine.submit(request).unwrap();
        let tokenizer = tokenizer();
        let mut chunks = Vec::new();
        while engine.has_work() {
            for event in pollster::block_on(engine.step()).unwrap() {
                chunks.extend(reply.push(event.index(), &event, &tokenizer).unwrap());
            }
        }
        (reply, chunks)
    }

    #[test]
    fn a_chat_streams_role_text_reason_and_usage() {
        let reply = Reply::new(ReplyKind::Chat, "chatcmpl-1", 7, "m", 1).with_usage(true);
        let (reply, chunks) = run(reply, None);
        assert!(reply.is_done());
        assert_eq!(chunks.len(), 5);
        for chunk in &chunks {
            assert_eq!(chunk["id"], "chatcmpl-1");
            assert_eq!(chunk["object"], "chat.completion.chunk");
            assert_eq!(chunk["created"], 7);
        }
        let delta = |i: usize| chunks[i]["choices"][0]["delta"].clone();
        assert_eq!(delta(0), json!({"role": "assistant", "content": ""}));
        assert_eq!(delta(1), json!({"content": "ha"}));
        assert_eq!(delta(2), json!({"content": " ha"}));
        assert_eq!(delta(3), json!({}));
        assert_eq!(chunks[3]["choices"][0]["finish_reason"], "length");
        assert_eq!(chunks[4]["choices"], json!([]));
        assert_eq!(
            chunks[4]["usage"],
            json!({
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "total_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 0},
            })
        );
        let whole = reply.whole();
        assert_eq!(whole["object"], "chat.completion");
        assert_eq!(whole["choices"][0]["message"]["content"], "ha ha");
        assert_eq!(whole["usage"]["total_tokens"], 3);
    }

    #[test]
    fn a_completion_streams_text_and_may_echo_its_prompt() {
        let mut reply = Reply::new(ReplyKind::Completion, "cmpl-1", 7, "m", 1);
        reply.echo(0, "Ho");
        let (reply, chunks) = run(reply, None);
        let text: String = chunks
            .iter()
            .map(|c| c["choices"][0]["text"].as_str().unwrap())
            .collect();
        assert_eq!(text, "Hoha ha");
        assert_eq!(reply.whole()["choices"][0]["text"], "Hoha ha");
        assert_eq!(
            chunks.last().unwrap()["choices"][0]["finish_reason"],
            "length"
        );
    }

    #[test]
    fn logprobs_have_the_form_of_their_object() {
        let chat = Reply::new(ReplyKind::Chat, "a", 0, "m", 1).with_logprobs(true);
        let (chat, _) = run(chat, Some(1));
        let content = &chat.whole()["choices"][0]["logprobs"]["content"];
        assert_eq!(content.as_array().unwrap().len(), 2);
        assert_eq!(content[0]["logprob"], -0.5);
        assert_eq!(content[0]["top_logprobs"][0]["logprob"], -0.5);
        let text = Reply::new(ReplyKind::Completion, "a", 0, "m", 1).with_logprobs(true);
        let (text, _) = run(text, Some(1));
        let logprobs = &text.whole()["choices"][0]["logprobs"];
        assert_eq!(logprobs["token_logprobs"], json!([-0.5, -0.5]));
        assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn usage_says_how_much_of_the_prompt_was_cached() {
        let params = GenerationParams {
            max_new_tokens: Some(2),
            num_return_sequences: Some(2),
            ..Default::default()
        };
        let request = Request::new(vec![1; 40]).with_params(params);
        let mut engine = engine();
        // The first time one sequence runs the prompt for both.
        for cached in [0, 32] {
            let reply = Reply::new(ReplyKind::Chat, "a", 0, "m", 2).with_usage(true);
            let (reply, chunks) = run_on(&mut engine, reply, &request);
            let usage = reply.whole()["usage"].clone();
            assert_eq!(usage["prompt_tokens"], 40);
            assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], cached);
            assert_eq!(chunks.last().unwrap()["usage"], usage);
        }
    }

    #[test]
    fn extra_usage_has_the_names_of_webllm() {
        let reply = Reply::new(ReplyKind::Chat, "a", 0, "m", 1).with_extra(true);
        let (reply, _) = run(reply, None);
        let extra = reply.whole()["usage"]["extra"].clone();
        for name in [
            "prefill_tokens_per_s",
            "decode_tokens_per_s",
            "time_to_first_token_s",
            "time_per_output_token_s",
            "e2e_latency_s",
        ] {
            assert!(extra[name].is_number(), "{name} in {extra}");
        }
    }
}
