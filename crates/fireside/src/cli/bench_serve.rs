//! `fireside bench serve`: load on a server that speaks OpenAI's interface, ours or another one.
//!
//! A fixed number of requests runs at each concurrency, one thread for each that is under way, and
//! every answer is streamed. Prompts differ from each other and from run to run, so that no prefix
//! cache answers them; `--shared-prefix` makes them begin alike, to measure with one.

mod client;
mod load;
mod prompts;
mod report;
mod sse;
mod stats;

#[cfg(test)]
mod scripted;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use client::Client;
use load::Level;
use prompts::Prompts;
use report::Report;

/// Most requests under way: each has a thread.
const MOST_CONCURRENT: usize = 1024;

/// Where to send load, and how much.
#[derive(Debug, Args)]
pub(super) struct ServeBenchArgs {
    /// The address of the interface, with its /v1.
    #[arg(long, default_value = "http://127.0.0.1:8080/v1")]
    url: String,
    /// The model's name in requests; the first that the server lists by default.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The key to send, as `Authorization: Bearer KEY`.
    #[arg(
        long,
        env = "FIRESIDE_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    api_key: Option<String>,
    /// Certificates to trust instead of the public ones, as PEM, for a server with one of its own.
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Which of the two interfaces to call.
    #[arg(long, value_enum, default_value = "chat")]
    endpoint: Endpoint,
    /// Requests under way at once; each number is measured on its own.
    #[arg(
        long,
        value_name = "N,N,…",
        value_delimiter = ',',
        default_value = "1,4,16"
    )]
    concurrency: Vec<NonZeroUsize>,
    /// Requests that are measured at each concurrency; four times the concurrency by default.
    #[arg(long, value_name = "N")]
    requests: Option<NonZeroUsize>,
    /// Requests before those that are measured, up to 8 tokens each; as many as the concurrency by
    /// default.
    #[arg(long, value_name = "N")]
    warm_up: Option<usize>,
    /// Tokens of a prompt, the chat template among them.
    #[arg(long, value_name = "N", default_value_t = 128)]
    prompt_tokens: usize,
    /// Tokens of an answer.
    #[arg(long, value_name = "N", default_value = "64")]
    max_tokens: NonZeroUsize,
    /// Tokens with which all prompts begin alike, the chat template among them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    shared_prefix: usize,
    /// Let answers end before --max-tokens; `ignore_eos` is then not sent.
    #[arg(long)]
    respect_eos: bool,
    /// Times that a request is sent again after 429 or 503, when its Retry-After has passed; the wait
    /// counts as the request's.
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: usize,
    /// Most seconds of a request.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    timeout: Duration,
    /// The same seed gives the same prompts; another one each time by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Endpoint {
    /// /chat/completions
    Chat,
    /// /completions
    Completions,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number of seconds above 0".to_owned();
    let number: f64 = text.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from_secs_f64(number).map_err(|_| wrong())?;
    if duration.is_zero() {
        return Err(wrong());
    }
    Ok(duration)
}

impl ServeBenchArgs {
    fn check(&self) -> Result<()> {
        if let Some(most) = self.concurrency.iter().max()
            && most.get() > MOST_CONCURRENT
        {
            bail!("--concurrency is {most}; expected at most {MOST_CONCURRENT}");
        }
        if self.prompt_tokens == 0 {
            bail!("--prompt-tokens is 0; expected at least 1");
        }
        if self.shared_prefix >= self.prompt_tokens {
            bail!(
                "--shared-prefix is {}; expected less than --prompt-tokens, {}",
                self.shared_prefix,
                self.prompt_tokens
            );
        }
        Ok(())
    }
}

/// Runs the benchmark and prints a table or one JSON object.
pub(super) fn run(args: &ServeBenchArgs) -> Result<()> {
    args.check()?;
    let most = args.concurrency.iter().max().map_or(1, |n| n.get());
    let mut client = Client::new(args, most)?;
    if let Some(model) = &args.model {
        client.model.clone_from(model);
    } else {
        client.model = client.first_model().with_context(|| args.url.clone())?;
    }
    let seed = args.seed.unwrap_or_else(prompts::any_seed);
    let mut prompts = Prompts::new(seed);
    calibrate(&client, &mut prompts, args).with_context(|| args.url.clone())?;

    let report = Report::new(args, &client.model, seed);
    if !args.json {
        report.print_head();
    }
    let mut levels: Vec<Level> = Vec::new();
    for concurrency in args.concurrency.iter().map(|n| n.get()) {
        let warm_up = args.warm_up.unwrap_or(concurrency);
        let short = args.max_tokens.get().min(8);
        load::run(
            &client,
            &mut prompts,
            concurrency,
            warm_up,
            short,
            args.retries,
        );
        let requests = args.requests.map_or(concurrency * 4, NonZeroUsize::get);
        let level = load::run(
            &client,
            &mut prompts,
            concurrency,
            requests,
            args.max_tokens.get(),
            args.retries,
        );
        if !args.json {
            report::print_level(&level);
        }
        levels.push(level);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report.json(&levels))?);
    } else {
        report::print_failures(&levels);
    }
    if let Some(level) = levels.iter().find(|level| level.answers.is_empty()) {
        let why = level.failures.values().next();
        bail!(
            "no request was answered at concurrency {}: {}",
            level.concurrency,
            why.map_or("", |failures| &failures.first)
        );
    }
    Ok(())
}

/// Finds how many words make a prompt of the tokens that are asked for, from the counts that the
/// server gives for two short ones. Servers without counts get a word for each token.
fn calibrate(client: &Client, prompts: &mut Prompts, args: &ServeBenchArgs) -> Result<()> {
    const SHORT: usize = 8;
    const LONG: usize = 40;
    let mut counts = Vec::new();
    for words in [SHORT, LONG] {
        prompts.words = words;
        let answer = load::ask(client, &prompts.next(), 1, args.retries.max(2)).0;
        counts.extend(answer?.prompt_tokens.map(|tokens| tokens as f64));
    }
    let (per_word, template) = match counts[..] {
        [short, long] if long > short => {
            let per_word = (long - short) / (LONG - SHORT) as f64;
            (per_word, (short - per_word * SHORT as f64).max(0.0))
        }
        _ => (1.0, 0.0),
    };
    let words = |tokens: usize| ((tokens as f64 - template) / per_word).round().max(0.0) as usize;
    prompts.words = words(args.prompt_tokens).max(1);
    prompts.shared = words(args.shared_prefix).min(prompts.words - 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::scripted::{Reply, serve};
    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: ServeBenchArgs,
    }

    fn args(url: &str, more: &[&str]) -> ServeBenchArgs {
        let line = ["serve", "--url", url, "--api-key", "k"];
        Command::parse_from(line.iter().chain(more)).args
    }

    fn refused(more: &[&str]) -> String {
        run(&args("http://127.0.0.1:9/v1", more))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn arguments_that_make_no_sense_are_named() {
        assert_eq!(
            refused(&["--shared-prefix", "128"]),
            "--shared-prefix is 128; expected less than --prompt-tokens, 128"
        );
        assert_eq!(
            refused(&["--prompt-tokens", "0"]),
            "--prompt-tokens is 0; expected at least 1"
        );
        assert_eq!(
            refused(&["--concurrency", "1,2000"]),
            "--concurrency is 2000; expected at most 1024"
        );
        for url in ["127.0.0.1:8080/v1", "ftp://127.0.0.1/v1", ""] {
            let error = run(&args(url, &[])).unwrap_err().to_string();
            assert!(
                error.contains("expected an address such as http://127.0.0.1:8080/v1"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_without_certificates_is_told() {
        let said = |path: &str| {
            let args = args("https://127.0.0.1:9/v1", &["--ca-cert", path]);
            format!("{:#}", run(&args).unwrap_err())
        };
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(said(own), format!("{own}: there is no certificate in it"));
        assert!(said("/no/such.pem").starts_with("/no/such.pem: No such file"));
    }

    #[test]
    fn prompts_have_the_tokens_that_are_asked_for_where_the_server_counts_them() {
        // Two tokens for a word, and ten for the template.
        let server = serve(|request| {
            let words = request.prompt().split_whitespace().count();
            Reply::stream(&["a"], Some((10 + 2 * words as u64, 1)))
        });
        let args = args(
            &server.url,
            &[
                "--model",
                "m",
                "--prompt-tokens",
                "110",
                "--shared-prefix",
                "30",
            ],
        );
        let mut client = Client::new(&args, 1).unwrap();
        client.model = "m".into();
        let mut prompts = Prompts::new(1);
        calibrate(&client, &mut prompts, &args).unwrap();
        assert_eq!((prompts.words, prompts.shared), (50, 10));
    }

    #[test]
    fn without_counts_a_word_stands_for_a_token() {
        let server = serve(|_| Reply::stream(&["a"], None));
        let args = args(&server.url, &["--model", "m", "--prompt-tokens", "50"]);
        let client = Client::new(&args, 1).unwrap();
        let mut prompts = Prompts::new(1);
        calibrate(&client, &mut prompts, &args).unwrap();
        assert_eq!((prompts.words, prompts.shared), (50, 0));
    }

    #[test]
    fn a_server_that_refuses_everything_is_an_error_with_its_reason() {
        let server = serve(|_| Reply::status(401, r#"{"error":{"message":"no key"}}"#));
        let error = run(&args(&server.url, &["--model", "m"])).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            format!("{}: the server answers 401: no key", server.url)
        );
    }

    #[test]
    fn a_run_asks_for_the_model_and_sends_every_request_once() {
        let server = serve(|request| match request.path() {
            "/v1/models" => Reply::json(r#"{"data":[{"id":"first"},{"id":"second"}]}"#),
            _ => Reply::stream(&["a", "b"], Some((9, 2))),
        });
        run(&args(
            &server.url,
            &[
                "--concurrency",
                "1,2",
                "--requests",
                "3",
                "--warm-up",
                "1",
                "--json",
            ],
        ))
        .unwrap();
        let requests = server.requests();
        let asked: Vec<_> = requests
            .iter()
            .filter(|r| r.path() != "/v1/models")
            .collect();
        // Two to calibrate, and at each concurrency one before three.
        assert_eq!(asked.len(), 2 + 2 * (1 + 3));
        for request in &asked {
            assert_eq!(request.path(), "/v1/chat/completions");
            assert_eq!(request.header("authorization"), Some("Bearer k"));
            assert_eq!(request.body["model"], "first");
            assert_eq!(request.body["stream_options"]["include_usage"], true);
            assert_eq!(request.body["ignore_eos"], true);
        }
        let mut prompts: Vec<_> = asked.iter().map(|r| r.prompt()).collect();
        prompts.sort();
        prompts.dedup();
        assert_eq!(prompts.len(), asked.len(), "prompts differ");
    }
}
