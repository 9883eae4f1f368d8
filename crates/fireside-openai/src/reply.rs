//! From the engine's events to chunks of a stream and whole objects.

use std::collections::BTreeMap;

use fireside_engine::{Event, Finished, PromptToken, RequestId, Token};
use fireside_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use crate::ApiError;
use crate::logprobs::{self, Entry};

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
/// clients that ask for it, the usage without choices. An echoed prompt comes in the first chunk of
/// its choice, before the first token.
///
/// Events of a prompt whose log-probabilities are to be echoed wait until these are there.
#[derive(Debug, Clone)]
pub struct Reply {
    kind: ReplyKind,
    head: Head,
    include_usage: bool,
    /// Add `usage.extra`: speeds and the time to the first token.
    extra: bool,
    logprobs: bool,
    /// Sequences of each prompt.
    each: usize,
    /// Those of them that the whole object has.
    given: usize,
    choices: Vec<Choice>,
    /// Prompts that come before their choices' text.
    echoes: BTreeMap<usize, Echo>,
}

/// A prompt that is given back.
#[derive(Debug, Clone, Default)]
struct Echo {
    text: String,
    /// Characters of the text.
    length: usize,
    /// Its tokens, once they are known.
    entries: Option<Vec<Entry>>,
    /// Events of its choices that came before.
    held: Vec<(usize, Event)>,
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
    /// What was generated.
    text: String,
    /// Characters of the text, an echoed prompt not counted.
    length: usize,
    entries: Vec<Entry>,
    /// Sum of the tokens' log-probabilities.
    logprob: f64,
    finish: Option<Finished>,
}

impl Choice {
    /// Log-probability per token.
    fn mean_logprob(&self) -> f64 {
        let tokens = self.finish.as_ref().map_or(0, |f| f.stats.generated_tokens);
        self.logprob / tokens.max(1) as f64
    }
}

impl Reply {
    /// A reply of `choices` sequences from one prompt. `created` is in seconds since 1970.
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
            each: choices.max(1),
            given: choices,
            choices: vec![Choice::default(); choices],
            echoes: BTreeMap::new(),
        }
    }

    /// Takes the sequences as `each` for each prompt, and gives the `n` of these with the highest
    /// log-probability per token, as OpenAI has it: where all are given, in their own order.
    #[must_use]
    pub(crate) fn with_best(mut self, n: usize, each: usize) -> Self {
        self.each = each.max(1);
        self.given = n;
        self
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

    /// Adds the log-probabilities that the events have; an echoed prompt must have its own among them.
    #[must_use]
    pub fn with_logprobs(mut self, logprobs: bool) -> Self {
        self.logprobs = logprobs;
        self
    }

    /// Puts the text of a prompt before that of its choices.
    pub(crate) fn echo(&mut self, prompt: usize, text: String) {
        let echo = Echo {
            length: text.chars().count(),
            text,
            ..Echo::default()
        };
        self.echoes.insert(prompt, echo);
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
        if let Event::Failed { error, .. } = event {
            return Err(error.clone().into());
        }
        let logprobs = self.logprobs;
        let mut chunks = Vec::new();
        if let Some(echo) = self.echoes.get_mut(&(choice / self.each))
            && logprobs
            && echo.entries.is_none()
        {
            echo.entries = match event {
                Event::Prompt(prompt) => Some(entries_of(&prompt.tokens, tokenizer)),
                // The sequence that scores the prompt was ended before that.
                Event::Finished(_) if choice.is_multiple_of(self.each) => Some(Vec::new()),
                _ => {
                    echo.held.push((choice, event.clone()));
                    return Ok(chunks);
                }
            };
            for (choice, event) in std::mem::take(&mut echo.held) {
                chunks.extend(self.take(choice, &event, tokenizer));
            }
        }
        chunks.extend(self.take(choice, event, tokenizer));
        Ok(chunks)
    }

    fn take(&mut self, choice: usize, event: &Event, tokenizer: &Tokenizer) -> Vec<Value> {
        match event {
            Event::Token(token) => self.token(choice, token, tokenizer),
            Event::Finished(finished) => self.finished(choice, finished, tokenizer),
            _ => Vec::new(),
        }
    }

    fn token(&mut self, index: usize, token: &Token, tokenizer: &Tokenizer) -> Vec<Value> {
        let before = self.echo_of(index).map_or(0, |echo| echo.length);
        let mut chunks: Vec<Value> = self.role(index).into_iter().collect();
        let Some(choice) = self.choices.get_mut(index) else {
            return chunks;
        };
        let first = choice.entries.len();
        choice.logprob += f64::from(token.logprob.unwrap_or_default());
        if let Some(logprob) = token.logprob.filter(|_| self.logprobs) {
            choice.entries.push(Entry {
                token: token.id,
                logprob: Some(logprob),
                top: token.top_logprobs.clone(),
                offset: before + choice.length,
            });
        }
        choice.text.push_str(&token.text);
        choice.length += token.text.chars().count();
        let silent = token.text.is_empty() && choice.entries.len() == first;
        chunks.extend(self.text_chunk(index, &token.text, first, None, silent, tokenizer));
        chunks
    }

    fn finished(&mut self, index: usize, finished: &Finished, tokenizer: &Tokenizer) -> Vec<Value> {
        let mut chunks: Vec<Value> = self.role(index).into_iter().collect();
        let mut first = 0;
        if let Some(choice) = self.choices.get_mut(index) {
            choice.finish = Some(finished.clone());
            first = choice.entries.len();
        }
        let reason = Some(finished.reason.openai());
        chunks.extend(self.text_chunk(index, "", first, reason, false, tokenizer));
        if self.include_usage && self.is_done() {
            let mut last = self.envelope(self.kind.chunk_object());
            last.insert("choices".into(), json!([]));
            last.insert("usage".into(), self.usage());
            chunks.push(Value::Object(last));
        }
        chunks
    }

    /// The chunk with the role that a chat's choice begins with, once.
    fn role(&mut self, index: usize) -> Option<Value> {
        let choice = self.choices.get_mut(index)?;
        if self.kind != ReplyKind::Chat || std::mem::replace(&mut choice.started, true) {
            return None;
        }
        let delta = json!({ "role": "assistant", "content": "" });
        Some(self.chunk(index, delta, None, Value::Null))
    }

    /// A chunk of text with the log-probabilities from number `first` on; the choice's first one has
    /// the echoed prompt before them. None where it would say nothing.
    fn text_chunk(
        &mut self,
        index: usize,
        text: &str,
        first: usize,
        reason: Option<&str>,
        silent: bool,
        tokenizer: &Tokenizer,
    ) -> Option<Value> {
        let choice = self.choices.get_mut(index)?;
        let is_first = !std::mem::replace(&mut choice.started, true);
        let echo = self.echo_of(index).filter(|_| is_first);
        if silent && echo.is_none() {
            return None;
        }
        let entries = self.choices.get(index)?.entries.get(first..);
        let echoed = echo.and_then(|echo| echo.entries.as_deref());
        let logprobs = self.logprobs_of(echoed, entries.unwrap_or_default(), tokenizer);
        let body = match (self.kind, echo, reason) {
            (ReplyKind::Chat, _, None) => json!({ "content": text }),
            (ReplyKind::Chat, _, Some(_)) => json!({}),
            (ReplyKind::Completion, None, _) => json!(text),
            (ReplyKind::Completion, Some(echo), _) => json!(format!("{}{text}", echo.text)),
        };
        Some(self.chunk(index, body, reason, logprobs))
    }

    /// The echoed prompt of a choice.
    fn echo_of(&self, index: usize) -> Option<&Echo> {
        self.echoes.get(&(index / self.each))
    }

    fn envelope(&self, object: &str) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.head.id));
        map.insert("object".into(), json!(object));
        map.insert("created".into(), json!(self.head.created));
        map.insert("model".into(), json!(self.head.model));
        map
    }

    fn chunk(&self, index: usize, body: Value, finish: Option<&str>, logprobs: Value) -> Value {
        let mut map = self.envelope(self.kind.chunk_object());
        let field = match self.kind {
            ReplyKind::Chat => "delta",
            ReplyKind::Completion => "text",
        };
        map.insert(
            "choices".into(),
            json!([{ "index": index, field: body, "logprobs": logprobs, "finish_reason": finish }]),
        );
        Value::Object(map)
    }

    /// `logprobs` of a prompt that is echoed and of what was generated; null where there are none.
    fn logprobs_of(&self, echoed: Option<&[Entry]>, own: &[Entry], tokenizer: &Tokenizer) -> Value {
        let entries: Vec<&Entry> = echoed.into_iter().flatten().chain(own).collect();
        match self.kind {
            _ if entries.is_empty() => Value::Null,
            ReplyKind::Chat => logprobs::chat(&entries, tokenizer),
            ReplyKind::Completion => logprobs::completion(&entries, tokenizer),
        }
    }

    /// The whole object; what has not ended yet has no finish reason.
    pub fn whole(&self, tokenizer: &Tokenizer) -> Value {
        let mut map = self.envelope(match self.kind {
            ReplyKind::Chat => "chat.completion",
            ReplyKind::Completion => "text_completion",
        });
        let choices: Vec<Value> = self
            .best()
            .into_iter()
            .enumerate()
            .map(|(index, number)| self.whole_choice(index, number, tokenizer))
            .collect();
        map.insert("choices".into(), json!(choices));
        map.insert("usage".into(), self.usage());
        Value::Object(map)
    }

    /// The numbers of the choices that are given.
    fn best(&self) -> Vec<usize> {
        let numbers: Vec<usize> = (0..self.choices.len()).collect();
        if self.given >= self.each {
            return numbers;
        }
        let mean = |number: &usize| self.choices.get(*number).map_or(0.0, Choice::mean_logprob);
        let best = numbers.chunks(self.each).flat_map(|own| {
            let mut own = own.to_vec();
            own.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
            own.truncate(self.given);
            own
        });
        best.collect()
    }

    fn whole_choice(&self, index: usize, number: usize, tokenizer: &Tokenizer) -> Value {
        let Some(choice) = self.choices.get(number) else {
            return Value::Null;
        };
        let finish = choice.finish.as_ref().map(|f| f.reason.openai());
        let echo = self.echo_of(number);
        let echoed = echo.and_then(|echo| echo.entries.as_deref());
        let logprobs = self.logprobs_of(echoed, &choice.entries, tokenizer);
        match self.kind {
            ReplyKind::Chat => json!({
                "index": index,
                "message": { "role": "assistant", "content": choice.text },
                "logprobs": logprobs,
                "finish_reason": finish,
            }),
            ReplyKind::Completion => json!({
                "index": index,
                "text": format!("{}{}", echo.map_or("", |echo| &echo.text), choice.text),
                "logprobs": logprobs,
                "finish_reason": finish,
            }),
        }
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

/// A prompt's tokens, and where in its text each begins.
fn entries_of(tokens: &[PromptToken], tokenizer: &Tokenizer) -> Vec<Entry> {
    let mut text = tokenizer.stream(true);
    let mut offset = 0;
    let entry = |token: &PromptToken| {
        let entry = Entry {
            token: token.id,
            logprob: token.logprob,
            top: token.top_logprobs.clone(),
            offset,
        };
        offset += text.push(token.id).map_or(0, |piece| piece.chars().count());
        entry
    };
    tokens.iter().map(entry).collect()
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
                step_rows: 64,
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
                target_logit: 0.0,
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
        let whole = reply.whole(&tokenizer());
        assert_eq!(whole["object"], "chat.completion");
        assert_eq!(whole["choices"][0]["message"]["content"], "ha ha");
        assert_eq!(whole["usage"]["total_tokens"], 3);
    }

    #[test]
    fn a_completion_streams_text_and_may_echo_its_prompt() {
        let mut reply = Reply::new(ReplyKind::Completion, "cmpl-1", 7, "m", 1);
        reply.echo(0, "Ho".into());
        let (reply, chunks) = run(reply, None);
        let text: String = chunks
            .iter()
            .map(|c| c["choices"][0]["text"].as_str().unwrap())
            .collect();
        assert_eq!(text, "Hoha ha");
        assert_eq!(reply.whole(&tokenizer())["choices"][0]["text"], "Hoha ha");
        assert_eq!(
            chunks.last().unwrap()["choices"][0]["finish_reason"],
            "length"
        );
    }

    #[test]
    fn logprobs_have_the_form_of_their_object() {
        let chat = Reply::new(ReplyKind::Chat, "a", 0, "m", 1).with_logprobs(true);
        let (chat, _) = run(chat, Some(1));
        let content = &chat.whole(&tokenizer())["choices"][0]["logprobs"]["content"];
        assert_eq!(content.as_array().unwrap().len(), 2);
        assert_eq!(content[0]["logprob"], -0.5);
        assert_eq!(content[0]["top_logprobs"][0]["logprob"], -0.5);
        let text = Reply::new(ReplyKind::Completion, "a", 0, "m", 1).with_logprobs(true);
        let (text, _) = run(text, Some(1));
        let logprobs = &text.whole(&tokenizer())["choices"][0]["logprobs"];
        assert_eq!(logprobs["token_logprobs"], json!([-0.5, -0.5]));
        assert_eq!(logprobs["tokens"], json!([" ha", " ha"]));
        assert_eq!(logprobs["text_offset"], json!([0, 2]));
        assert_eq!(logprobs["top_logprobs"][0], json!({" ha": -0.5}));
    }

    /// A request for a prompt's scores and `n` sequences of `new` tokens.
    fn scored(new: usize, n: usize) -> Request {
        Request::new(vec![1, 3, 3]).with_params(GenerationParams {
            max_new_tokens: Some(new),
            num_return_sequences: Some(n),
            logprobs: Some(1),
            prompt_logprobs: Some(1),
            ..Default::default()
        })
    }

    fn echoing(n: usize) -> Reply {
        let mut reply = Reply::new(ReplyKind::Completion, "a", 0, "m", n)
            .with_best(n, n)
            .with_logprobs(true);
        reply.echo(0, "ha ha".into());
        reply
    }

    #[test]
    fn an_echo_with_logprobs_begins_with_those_of_the_prompt() {
        let (reply, chunks) = run_on(&mut engine(), echoing(1), &scored(2, 1));
        let whole = &reply.whole(&tokenizer())["choices"][0];
        assert_eq!(whole["text"], "ha ha ha ha");
        let expected = json!({
            "tokens": ["<s>", " ha", " ha", " ha", " ha"],
            "token_logprobs": [null, -0.5, -0.5, -0.5, -0.5],
            "top_logprobs": [null, {" ha": -0.5}, {" ha": -0.5}, {" ha": -0.5}, {" ha": -0.5}],
            "text_offset": [0, 0, 2, 5, 8],
        });
        assert_eq!(whole["logprobs"], expected);
        // The prompt comes with the first token, as vLLM has it.
        let choice = |at: usize| &chunks[at]["choices"][0];
        assert_eq!(chunks.len(), 3);
        assert_eq!(choice(0)["text"], "ha ha ha");
        assert_eq!(choice(0)["logprobs"]["text_offset"], json!([0, 0, 2, 5]));
        assert_eq!(choice(1)["text"], " ha");
        assert_eq!(choice(1)["logprobs"]["text_offset"], json!([8]));
        assert_eq!(choice(2)["logprobs"], Value::Null);
        assert_eq!(choice(2)["finish_reason"], "length");
    }

    #[test]
    fn a_prompt_alone_is_one_chunk_with_its_end() {
        let (reply, chunks) = run_on(&mut engine(), echoing(1), &scored(0, 1));
        let whole = reply.whole(&tokenizer());
        let choice = &whole["choices"][0];
        assert_eq!(choice["text"], "ha ha");
        assert_eq!(choice["finish_reason"], "length");
        assert_eq!(
            choice["logprobs"]["token_logprobs"],
            json!([null, -0.5, -0.5])
        );
        assert_eq!(whole["usage"]["completion_tokens"], 0);
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0]["choices"][0], *choice);
    }

    #[test]
    fn every_choice_has_the_prompt_however_early_its_own_tokens_come() {
        let mut engine = engine();
        engine.submit(&scored(1, 2)).unwrap();
        let mut events = pollster::block_on(engine.step()).unwrap();
        // All of the second sequence's before the first of the first one's.
        events.sort_by_key(|event| std::cmp::Reverse(event.index()));
        let mut reply = echoing(2);
        let mut chunks = Vec::new();
        for event in &events {
            let is_held = event.index() == 1;
            chunks.push(reply.push(event.index(), event, &tokenizer()).unwrap());
            assert!(!is_held || chunks.concat().is_empty());
        }
        assert_eq!(chunks.concat().len(), 4);
        let whole = reply.whole(&tokenizer());
        for index in 0..2 {
            let choice = &whole["choices"][index];
            assert_eq!(choice["text"], "ha ha ha");
            assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), 4);
        }
    }

    #[test]
    fn an_answer_that_is_cancelled_before_its_prompt_is_scored_still_ends() {
        let mut engine = engine();
        let id = engine.submit(&scored(1, 2)).unwrap();
        let mut reply = echoing(2);
        for finished in engine.cancel(id) {
            let choice = finished.index;
            let event = Event::Finished(finished);
            reply.push(choice, &event, &tokenizer()).unwrap();
        }
        assert!(reply.is_done());
        assert_eq!(
            reply.whole(&tokenizer())["choices"][0]["finish_reason"],
            "abort"
        );
    }

    #[test]
    fn the_best_choices_are_those_with_the_highest_log_probability_per_token() {
        let mut engine = engine();
        let id = engine.submit(&scored(9, 4)).unwrap();
        let mut ends = engine.cancel(id);
        let reply = Reply::new(ReplyKind::Completion, "a", 0, "m", 4);
        let mut reply = reply.with_best(2, 4);
        // The first has the highest sum, the last one the highest mean; two are equal.
        let logprobs: [&[f32]; 4] = [&[-2.0], &[-1.5, -1.5], &[-1.5], &[-1.0, -1.0, -1.0]];
        for (index, own) in logprobs.iter().enumerate() {
            for logprob in *own {
                let token = Token {
                    request: id,
                    index,
                    id: 3,
                    text: format!(" {index}"),
                    logprob: Some(*logprob),
                    top_logprobs: Vec::new(),
                };
                reply
                    .push(index, &Event::Token(token), &tokenizer())
                    .unwrap();
            }
            ends[index].stats.generated_tokens = own.len();
            let end = Event::Finished(ends[index].clone());
            reply.push(index, &end, &tokenizer()).unwrap();
        }
        let whole = reply.whole(&tokenizer());
        let texts: Vec<&Value> = (0..2).map(|at| &whole["choices"][at]["text"]).collect();
        assert_eq!(texts, [" 3 3 3", " 1 1"]);
        assert_eq!(whole["choices"].as_array().unwrap().len(), 2);
        assert_eq!(whole["choices"][1]["index"], 1);
        assert_eq!(whole["choices"][0]["logprobs"], Value::Null);
        assert_eq!(whole["usage"]["completion_tokens"], 7);
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
            let usage = reply.whole(&tokenizer())["usage"].clone();
            assert_eq!(usage["prompt_tokens"], 40);
            assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], cached);
            assert_eq!(chunks.last().unwrap()["usage"], usage);
        }
    }

    #[test]
    fn extra_usage_has_the_names_of_webllm() {
        let reply = Reply::new(ReplyKind::Chat, "a", 0, "m", 1).with_extra(true);
        let (reply, _) = run(reply, None);
        let extra = reply.whole(&tokenizer())["usage"]["extra"].clone();
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
