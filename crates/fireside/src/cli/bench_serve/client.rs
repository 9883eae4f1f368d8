//! One streamed request to a server that speaks OpenAI's interface, and its times.

use std::io::{self, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Response, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::sse::Events;
use super::{Endpoint, ServeBenchArgs};

/// Bytes of an answer that is no stream that are read.
const BODY_BYTES: u64 = 1 << 20;

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    url: String,
    key: Option<String>,
    endpoint: Endpoint,
    ignore_eos: bool,
    /// The model's name in requests.
    pub(super) model: String,
}

/// An answer that came to its end. Times count from the request's start.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Until the first text; none where there was none.
    pub(super) first: Option<Duration>,
    /// Until the last text.
    pub(super) last: Option<Duration>,
    /// Between pieces of text.
    pub(super) between: Vec<Duration>,
    /// Until the end of the stream.
    pub(super) whole: Duration,
    /// As the server counts them, else pieces of text.
    pub(super) output_tokens: u64,
    pub(super) prompt_tokens: Option<u64>,
    /// Tokens of the prompt that a prefix cache had.
    pub(super) cached_tokens: Option<u64>,
}

impl Answer {
    /// Mean time of a token after the first one.
    pub(super) fn per_token(&self) -> Option<Duration> {
        let tokens = u32::try_from(self.output_tokens.checked_sub(1)?).ok()?;
        (self.last? - self.first?).checked_div(tokens)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said so.
    Status {
        status: u16,
        message: String,
        retry_after: Option<Duration>,
    },
    /// There was no connection, or it broke before the answer began.
    Connection(String),
    /// The answer took longer than it may.
    Timeout,
    /// The answer began and broke, or told of an error.
    Stream(String),
}

impl Failure {
    /// What failures are counted by.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Status { status, .. } => status.to_string(),
            Self::Connection(_) => "connection".into(),
            Self::Timeout => "timeout".into(),
            Self::Stream(_) => "stream".into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status {
                status, message, ..
            } => write!(f, "the server answers {status}: {message}"),
            Self::Connection(reason) => write!(f, "no connection to the server: {reason}"),
            Self::Timeout => f.write_str("the answer took more than --timeout"),
            Self::Stream(reason) => write!(f, "the stream broke: {reason}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Timeout,
            ureq::Error::Io(error) => Self::Connection(one_line(&error.to_string())),
            error => Self::Connection(one_line(&error.to_string())),
        }
    }
}

/// A chunk of either interface.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    content: Option<String>,
    /// What some servers send before the answer, under one of two names.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

impl Choice {
    fn has_text(&self) -> bool {
        let delta = self.delta.as_ref();
        let parts = [
            self.text.as_ref(),
            delta.and_then(|d| d.content.as_ref()),
            delta.and_then(|d| d.reasoning_content.as_ref()),
            delta.and_then(|d| d.reasoning.as_ref()),
        ];
        parts.into_iter().flatten().any(|text| !text.is_empty())
    }
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

impl Client {
    /// A client that keeps as many connections as there are requests at once. The model is for the
    /// caller to set.
    pub(super) fn new(args: &ServeBenchArgs, connections: usize) -> Result<Self> {
        let url = args.url.trim_end_matches('/');
        let uri: Option<Uri> = url.parse().ok();
        let uri = uri.filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        let Some(uri) = uri else {
            bail!(
                "--url is {:?}; expected an address such as http://127.0.0.1:8080/v1",
                args.url
            );
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("fireside/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .timeout_connect(Some(args.timeout.min(Duration::from_secs(10))))
            .timeout_global(Some(args.timeout));
        if let Some(path) = &args.ca_cert {
            let roots = certificates(path).with_context(|| path.display().to_string())?;
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        if is_loopback(&uri) {
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            url: url.to_owned(),
            key: args.api_key.clone().filter(|key| !key.is_empty()),
            endpoint: args.endpoint,
            ignore_eos: !args.respect_eos,
            model: String::new(),
        })
    }

    /// The first model that the server lists.
    pub(super) fn first_model(&self) -> Result<String> {
        let mut request = self.agent.get(format!("{}/models", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let response = self.ok(request.call().map_err(Failure::from)?)?;
        let text = body(response).map_err(Failure::from)?;
        let list: Value = serde_json::from_str(&text).unwrap_or_default();
        let first = list.pointer("/data/0/id").and_then(Value::as_str);
        let first = first.context("the server lists no model; name one with --model")?;
        Ok(first.to_owned())
    }

    /// Sends a prompt and reads the answer to its end. `begun` is when the request's time starts.
    ///
    /// # Errors
    ///
    /// There is no answer, or a part of one.
    pub(super) fn ask(
        &self,
        prompt: &str,
        max_tokens: usize,
        begun: Instant,
    ) -> Result<Answer, Failure> {
        let (path, mut body) = match self.endpoint {
            Endpoint::Chat => (
                "chat/completions",
                json!({ "messages": [{ "role": "user", "content": prompt }] }),
            ),
            Endpoint::Completions => ("completions", json!({ "prompt": prompt })),
        };
        body["model"] = json!(self.model);
        body["max_tokens"] = json!(max_tokens);
        body["temperature"] = json!(0);
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
        if self.ignore_eos {
            body["ignore_eos"] = json!(true);
        }
        let mut request = self
            .agent
            .post(format!("{}/{path}", self.url))
            .header("content-type", "application/json")
            .header("accept", "text/event-stream");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let response = self.ok(request.send(body.to_string())?)?;
        read(response.into_body().into_reader(), begun)
    }

    /// The answer, where its status is a good one.
    fn ok(&self, response: Response<ureq::Body>) -> Result<Response<ureq::Body>, Failure> {
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let text = body(response).unwrap_or_default();
        let mut message = message(&text);
        if status == 404 && !self.url.ends_with("/v1") {
            message.push_str("; --url ends in /v1 for most servers");
        }
        Err(Failure::Status {
            status,
            message,
            retry_after,
        })
    }
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Result<RootCerts> {
    let bytes = fs::read(path)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&bytes) {
        if let PemItem::Certificate(certificate) = item.context("this is no PEM")? {
            certificates.push(certificate);
        }
    }
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate in it");
    Ok(RootCerts::from(certificates))
}

/// Reads a stream to its end.
fn read(stream: impl Read, begun: Instant) -> Result<Answer, Failure> {
    let mut events = Events::new(BufReader::new(stream));
    let mut answer = Answer::default();
    let mut pieces = 0;
    let mut usage = None;
    let mut complete = false;
    while let Some(data) = events.next().map_err(broken)? {
        if data.trim() == "[DONE]" {
            complete = true;
            // The connection is used again only where it was read to its end.
            continue;
        }
        let chunk: Chunk = serde_json::from_str(&data)
            .map_err(|_| Failure::Stream(format!("an event is no chunk: {}", one_line(&data))))?;
        if chunk.error.is_some() {
            return Err(Failure::Stream(message(&data)));
        }
        if chunk.choices.iter().any(Choice::has_text) {
            let now = begun.elapsed();
            match answer.last.replace(now) {
                None => answer.first = Some(now),
                Some(last) => answer.between.push(now - last),
            }
            pieces += 1;
        }
        complete |= chunk.choices.iter().any(|c| c.finish_reason.is_some());
        usage = chunk.usage.or(usage);
    }
    if !complete {
        return Err(Failure::Stream("it ended before the answer did".into()));
    }
    answer.whole = begun.elapsed();
    answer.output_tokens = pieces;
    if let Some(usage) = usage {
        answer.output_tokens = usage.completion_tokens.unwrap_or(pieces);
        answer.prompt_tokens = usage.prompt_tokens;
        answer.cached_tokens = usage.prompt_tokens_details.and_then(|d| d.cached_tokens);
    }
    Ok(answer)
}

/// The failure of a stream that cannot be read on.
fn broken(error: io::Error) -> Failure {
    match ureq::Error::from(error) {
        ureq::Error::Timeout(_) => Failure::Timeout,
        error => Failure::Stream(one_line(&error.to_string())),
    }
}

/// The body of an answer that is no stream.
fn body(response: Response<ureq::Body>) -> Result<String, ureq::Error> {
    response
        .into_body()
        .into_with_config()
        .limit(BODY_BYTES)
        .lossy_utf8(true)
        .read_to_string()
}

/// What a server says of an error, in any of the usual shapes.
fn message(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let said = ["/error/message", "/error", "/message", "/detail"]
        .iter()
        .find_map(|at| value.pointer(at).and_then(Value::as_str));
    match one_line(said.unwrap_or(text)) {
        line if line.is_empty() => "nothing more".into(),
        line => line,
    }
}

/// Foreign text on one line, at most 200 characters of it.
fn one_line(text: &str) -> String {
    let mut words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words.by_ref().filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Reply, client, serve};
    use super::*;

    fn ask(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Result<Answer, Failure> {
        let server = serve(move |_| reply());
        client(&server).ask("hi", 4, Instant::now())
    }

    #[test]
    fn tokens_are_those_of_the_usage() {
        let answer = ask(|| Reply::stream(&["a", "b", "c"], Some((11, 5)))).unwrap();
        assert_eq!(answer.output_tokens, 5);
        assert_eq!(answer.prompt_tokens, Some(11));
        assert_eq!(answer.cached_tokens, Some(0));
        assert_eq!(answer.between.len(), 2);
    }

    #[test]
    fn without_usage_pieces_of_text_are_counted() {
        let answer = ask(|| Reply::stream(&["a", "", "b"], None)).unwrap();
        assert_eq!(answer.output_tokens, 2);
        assert_eq!(answer.between.len(), 1);
        assert_eq!(answer.prompt_tokens, None);
    }

    #[test]
    fn times_are_in_order() {
        let answer = ask(|| Reply::stream(&["a", "b"], Some((1, 2)))).unwrap();
        assert!(answer.first <= answer.last && answer.last <= Some(answer.whole));
        assert_eq!(answer.per_token(), Some(answer.between[0]));
    }

    #[test]
    fn the_time_of_a_token_needs_two_of_them() {
        let one = ask(|| Reply::stream(&["a"], Some((1, 1)))).unwrap();
        assert_eq!(one.per_token(), None);
        let none = ask(|| Reply::stream(&[], Some((1, 0)))).unwrap();
        assert_eq!((none.first, none.per_token()), (None, None));
    }

    #[test]
    fn the_other_interface_is_read_too() {
        let stream = "data:{\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n\n\
                      data:{\"choices\":[{\"index\":0,\"text\":\"b\",\"finish_reason\":\"length\"}]}\n\n";
        let answer = read(stream.as_bytes(), Instant::now()).unwrap();
        assert_eq!(answer.output_tokens, 2);
        let stream = "data: {\"choices\":[{\"delta\":{\"reasoning\":\"a\"}}]}\n\ndata: [DONE]\n\n";
        let answer = read(stream.as_bytes(), Instant::now()).unwrap();
        assert_eq!(answer.output_tokens, 1);
    }

    #[test]
    fn a_stream_that_breaks_is_no_answer() {
        let said = |text: &str| {
            let failure = read(text.as_bytes(), Instant::now()).unwrap_err();
            (failure.kind(), failure.to_string())
        };
        let stream = |reason: &str| ("stream".to_owned(), format!("the stream broke: {reason}"));
        assert_eq!(said(""), stream("it ended before the answer did"));
        let chunk =
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
        assert_eq!(said(chunk), stream("it ended before the answer did"));
        assert_eq!(
            said(&format!(
                "{chunk}data: {{\"error\":{{\"message\":\"device\\nlost\"}}}}\n\n"
            )),
            stream("device lost")
        );
        assert_eq!(said("data: {\n\n"), stream("an event is no chunk: {"));
    }

    #[test]
    fn refusals_say_their_reason_on_one_line() {
        for (body, reason) in [
            (r#"{"error":{"message":"too\nlong"}}"#, "too long"),
            (
                r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
                "Model is overloaded",
            ),
            (r#"{"message":"m"}"#, "m"),
            (r#"{"detail":"d"}"#, "d"),
            ("plain\r\ntext", "plain text"),
            ("", "nothing more"),
        ] {
            let failure = ask(move || Reply::status(400, body)).unwrap_err();
            assert_eq!(
                failure.to_string(),
                format!("the server answers 400: {reason}")
            );
        }
    }

    #[test]
    fn an_address_without_v1_is_doubted_where_nothing_is_found() {
        let server = serve(|_| Reply::status(404, "not here"));
        let mut client = client(&server);
        assert_eq!(
            client.first_model().unwrap_err().to_string(),
            "the server answers 404: not here"
        );
        client.url = client.url.replace("/v1", "");
        assert_eq!(
            client.first_model().unwrap_err().to_string(),
            "the server answers 404: not here; --url ends in /v1 for most servers"
        );
    }

    #[test]
    fn the_wait_that_a_full_server_asks_for_is_read() {
        let Failure::Status { retry_after, .. } = ask(|| Reply::full("7")).unwrap_err() else {
            panic!("429 is a status");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_server_that_is_not_there_is_told() {
        let server = serve(|_| Reply::status(200, ""));
        let client = client(&server);
        drop(server);
        let failure = client.ask("hi", 1, Instant::now()).unwrap_err();
        assert_eq!(failure.kind(), "connection");
    }

    #[test]
    fn the_first_model_of_the_list_is_taken() {
        let server = serve(|_| Reply::json(r#"{"data":[{"id":"a"},{"id":"b"}]}"#));
        assert_eq!(client(&server).first_model().unwrap(), "a");
        let server = serve(|_| Reply::json(r#"{"data":[]}"#));
        let error = client(&server).first_model().unwrap_err().to_string();
        assert_eq!(error, "the server lists no model; name one with --model");
    }
}
