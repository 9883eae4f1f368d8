//! What was measured, as a table or as JSON.

use serde_json::{Value, json};

use super::load::Level;
use super::stats::Spread;
use super::{Endpoint, ServeBenchArgs};

/// What is the same for the whole run.
pub(super) struct Report<'a> {
    args: &'a ServeBenchArgs,
    model: &'a str,
    seed: u64,
}

/// The three kinds of times, in the order of the columns.
struct Times {
    first: Option<Spread>,
    between: Option<Spread>,
    per_token: Option<Spread>,
    whole: Option<Spread>,
}

impl Times {
    fn of(level: &Level) -> Self {
        let answers = || level.answers.iter();
        Self {
            first: Spread::of(answers().filter_map(|a| a.first)),
            between: Spread::of(answers().flat_map(|a| a.between.iter().copied())),
            per_token: Spread::of(answers().filter_map(|a| a.per_token())),
            whole: Spread::of(answers().map(|a| a.whole)),
        }
    }
}

impl Level {
    fn output_tokens(&self) -> u64 {
        self.answers.iter().map(|a| a.output_tokens).sum()
    }

    fn per_second(&self, count: f64) -> f64 {
        count / self.duration.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn failed(&self) -> usize {
        self.failures.values().map(|f| f.count).sum()
    }

    /// Mean tokens of a prompt, and those of them that a cache had, where the server counts them.
    fn prompts(&self) -> (Option<f64>, Option<f64>) {
        let mean = |counts: Vec<u64>| {
            let sum: u64 = counts.iter().sum();
            (!counts.is_empty()).then(|| sum as f64 / counts.len() as f64)
        };
        let answers = || self.answers.iter();
        (
            mean(answers().filter_map(|a| a.prompt_tokens).collect()),
            mean(answers().filter_map(|a| a.cached_tokens).collect()),
        )
    }

    fn json(&self) -> Value {
        let times = Times::of(self);
        let seconds = |spread: Option<Spread>| spread.map_or(Value::Null, Spread::json);
        let (prompt, cached) = self.prompts();
        let failures: serde_json::Map<String, Value> = self
            .failures
            .iter()
            .map(|(kind, f)| (kind.clone(), json!({ "count": f.count, "first": f.first })))
            .collect();
        json!({
            "concurrency": self.concurrency,
            "requests": self.answers.len() + self.failed(),
            "answered": self.answers.len(),
            "failed": failures,
            "retries": self.retries,
            "duration_seconds": self.duration.as_secs_f64(),
            "output_tokens": self.output_tokens(),
            "output_tokens_per_second": self.per_second(self.output_tokens() as f64),
            "requests_per_second": self.per_second(self.answers.len() as f64),
            "prompt_tokens_mean": prompt,
            "cached_tokens_mean": cached,
            "time_to_first_token_seconds": seconds(times.first),
            "inter_token_latency_seconds": seconds(times.between),
            "time_per_output_token_seconds": seconds(times.per_token),
            "end_to_end_seconds": seconds(times.whole),
        })
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(args: &'a ServeBenchArgs, model: &'a str, seed: u64) -> Self {
        Self { args, model, seed }
    }

    pub(super) fn json(&self, levels: &[Level]) -> Value {
        json!({
            "url": self.args.url,
            "model": self.model,
            "endpoint": self.endpoint(),
            "prompt_tokens": self.args.prompt_tokens,
            "shared_prefix": self.args.shared_prefix,
            "max_tokens": self.args.max_tokens,
            "ignore_eos": !self.args.respect_eos,
            "seed": self.seed,
            "levels": levels.iter().map(Level::json).collect::<Vec<_>>(),
        })
    }

    fn endpoint(&self) -> &'static str {
        match self.args.endpoint {
            Endpoint::Chat => "chat/completions",
            Endpoint::Completions => "completions",
        }
    }

    /// What is measured, and the names of the columns.
    pub(super) fn print_head(&self) {
        let args = self.args;
        println!(
            "server    {} {}, model {}",
            args.url,
            self.endpoint(),
            self.model
        );
        let shared = match args.shared_prefix {
            0 => "no two alike".to_owned(),
            n => format!("{n} of them the same in all"),
        };
        println!(
            "load      prompts of {} tokens, {shared}; answers of {}; seed {}",
            args.prompt_tokens, args.max_tokens, self.seed
        );
        println!();
        println!(
            "{:>12} {:>14} {:>20} {:>20} {:>20}",
            "", "output", "first token, ms", "between tokens, ms", "whole request, s"
        );
        println!(
            "{:>5} {:>6} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>9}",
            "conc.",
            "failed",
            "tok/s",
            "req/s",
            "median",
            "p90",
            "p99",
            "median",
            "p90",
            "p99",
            "median",
            "p90",
            "p99",
            "cached"
        );
    }
}

/// A line of the table.
pub(super) fn print_level(level: &Level) {
    let times = Times::of(level);
    let columns = |spread: Option<Spread>, scale: f64| match spread {
        Some(s) => format!(
            "{:>6} {:>6} {:>6}",
            short(s.median * scale),
            short(s.p90 * scale),
            short(s.p99 * scale)
        ),
        None => format!("{:>6} {:>6} {:>6}", "-", "-", "-"),
    };
    let cached = match level.prompts() {
        (Some(prompt), Some(cached)) => format!("{cached:.0}/{prompt:.0}"),
        (Some(prompt), None) => format!("-/{prompt:.0}"),
        _ => "-".into(),
    };
    println!(
        "{:>5} {:>6} {:>7} {:>6} {} {} {} {:>9}",
        level.concurrency,
        level.failed(),
        short(level.per_second(level.output_tokens() as f64)),
        short(level.per_second(level.answers.len() as f64)),
        columns(times.first, 1e3),
        columns(times.between, 1e3),
        columns(times.whole, 1.0),
        cached,
    );
}

/// A number with three digits or more.
fn short(value: f64) -> String {
    let digits = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// What the columns leave open: the meaning of the last one, and why requests failed.
pub(super) fn print_failures(levels: &[Level]) {
    println!("(cached: mean prompt tokens that a prefix cache had, of how many)");
    for level in levels {
        for (kind, failures) in &level.failures {
            println!(
                "failed    {} of {} at concurrency {} with {kind}: {}",
                failures.count,
                level.answers.len() + level.failed(),
                level.concurrency,
                failures.first
            );
        }
        if level.retries > 0 {
            println!(
                "again     {} requests were sent again at concurrency {}",
                level.retries, level.concurrency
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::client::Answer;
    use super::super::load::Failures;
    use super::*;

    fn level() -> Level {
        let ms = Duration::from_millis;
        let answer = |first, cached| Answer {
            first: Some(ms(first)),
            last: Some(ms(first + 200)),
            between: vec![ms(100), ms(100)],
            whole: ms(first + 250),
            output_tokens: 3,
            prompt_tokens: Some(10),
            cached_tokens: cached,
        };
        let mut level = Level {
            concurrency: 2,
            duration: Duration::from_secs(2),
            answers: vec![answer(100, Some(0)), answer(300, Some(8))],
            ..Level::default()
        };
        let first = "the server answers 429: full".into();
        level
            .failures
            .insert("429".into(), Failures { count: 3, first });
        level
    }

    #[test]
    fn a_level_has_rates_and_times() {
        let value = level().json();
        let number = |at: &str| value.pointer(at).unwrap().as_f64().unwrap();
        assert_eq!(number("/output_tokens_per_second"), 3.0);
        assert_eq!(number("/requests_per_second"), 1.0);
        assert_eq!(number("/requests"), 5.0);
        assert_eq!(number("/failed/429/count"), 3.0);
        assert_eq!(number("/cached_tokens_mean"), 4.0);
        assert_eq!(number("/prompt_tokens_mean"), 10.0);
        assert!((number("/time_to_first_token_seconds/median") - 0.2).abs() < 1e-9);
        assert!((number("/inter_token_latency_seconds/p99") - 0.1).abs() < 1e-9);
        assert!((number("/time_per_output_token_seconds/mean") - 0.1).abs() < 1e-9);
        assert!((number("/end_to_end_seconds/median") - 0.45).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let value = Level::default().json();
        assert_eq!(value["time_to_first_token_seconds"], Value::Null);
        assert_eq!(value["prompt_tokens_mean"], Value::Null);
        assert_eq!(value["output_tokens_per_second"], 0.0);
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(short(0.1234), "0.12");
        assert_eq!(short(12.345), "12.3");
        assert_eq!(short(1234.5), "1234");
    }
}
