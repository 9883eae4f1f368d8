//! Requests that run at once, one thread each.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Answer, Client, Failure};
use super::prompts::Prompts;

/// The longest wait that a Retry-After may ask for, and the one where it is missing.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const USUAL_WAIT: Duration = Duration::from_secs(1);

/// What came of the requests at one concurrency.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) concurrency: usize,
    /// From the first request's start to the last one's end.
    pub(super) duration: Duration,
    pub(super) answers: Vec<Answer>,
    /// By status, or by what broke.
    pub(super) failures: BTreeMap<String, Failures>,
    /// Times that a request was sent again.
    pub(super) retries: usize,
}

/// Failures of one kind.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) count: usize,
    /// What the first one said.
    pub(super) first: String,
}

/// Sends a number of requests, so many at a time.
pub(super) fn run(
    client: &Client,
    prompts: &mut Prompts,
    concurrency: usize,
    requests: usize,
    max_tokens: usize,
    retries: usize,
) -> Level {
    let queue: Vec<String> = (0..requests).map(|_| prompts.next()).collect();
    let queue = Mutex::new(queue.into_iter());
    let level = Mutex::new(Level {
        concurrency,
        ..Level::default()
    });
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..concurrency.min(requests) {
            scope.spawn(|| {
                loop {
                    let prompt = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(prompt) = prompt else { return };
                    let (outcome, again) = ask(client, &prompt, max_tokens, retries);
                    let mut level = level.lock().unwrap_or_else(PoisonError::into_inner);
                    level.retries += again;
                    match outcome {
                        Ok(answer) => level.answers.push(answer),
                        Err(failure) => {
                            let failures = level.failures.entry(failure.kind()).or_default();
                            failures.count += 1;
                            if failures.count == 1 {
                                failures.first = failure.to_string();
                            }
                        }
                    }
                }
            });
        }
    });
    let mut level = level.into_inner().unwrap_or_else(PoisonError::into_inner);
    level.duration = begun.elapsed();
    level
}

/// Sends one request, again where the server is full and that is wanted. Gives the times that it was
/// sent again too.
pub(super) fn ask(
    client: &Client,
    prompt: &str,
    max_tokens: usize,
    retries: usize,
) -> (Result<Answer, Failure>, usize) {
    let begun = Instant::now();
    let mut again = 0;
    loop {
        match client.ask(prompt, max_tokens, begun) {
            Err(Failure::Status {
                status: 429 | 503,
                retry_after,
                ..
            }) if again < retries => {
                again += 1;
                thread::sleep(retry_after.unwrap_or(USUAL_WAIT).min(LONGEST_WAIT));
            }
            outcome => return (outcome, again),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::scripted::{Reply, client, serve};
    use super::*;

    #[test]
    fn a_full_server_is_asked_again_only_where_that_is_wanted() {
        for (retries, answered, again) in [(0, 2, 0), (1, 4, 2)] {
            // The first two prompts are refused once each, whoever sends them.
            let refused = Mutex::new(Vec::new());
            let server = serve(move |request| {
                let mut refused = refused.lock().unwrap();
                let prompt = request.prompt().to_owned();
                if refused.len() < 2 && !refused.contains(&prompt) {
                    refused.push(prompt);
                    return Reply::full("0");
                }
                Reply::stream(&["a"], Some((1, 1)))
            });
            let client = client(&server);
            let level = run(&client, &mut Prompts::new(1), 2, 4, 1, retries);
            assert_eq!(level.answers.len(), answered);
            assert_eq!(level.retries, again);
            let full = level.failures.get("429").map_or(0, |f| f.count);
            assert_eq!(full, 4 - answered);
        }
    }

    #[test]
    fn failures_are_counted_by_what_they_are() {
        let count = AtomicUsize::new(0);
        let server = serve(move |_| match count.fetch_add(1, Ordering::Relaxed) % 4 {
            0 => Reply::status(500, r#"{"error":"broken"}"#),
            1 => Reply::status(424, r#"{"error":"x","error_type":"generation"}"#),
            2 => Reply::cut(&["a"]),
            _ => Reply::stream(&["a"], Some((1, 1))),
        });
        let level = run(&client(&server), &mut Prompts::new(1), 1, 8, 1, 0);
        let counts: Vec<_> = level
            .failures
            .iter()
            .map(|(kind, failures)| (kind.as_str(), failures.count, failures.first.as_str()))
            .collect();
        assert_eq!(
            counts,
            [
                ("424", 2, "the server answers 424: x"),
                ("500", 2, "the server answers 500: broken"),
                (
                    "stream",
                    2,
                    "the stream broke: it ended before the answer did"
                ),
            ]
        );
        assert_eq!(level.answers.len(), 2);
    }

    #[test]
    fn no_requests_are_no_answers() {
        let server = serve(|_| Reply::stream(&["a"], None));
        let level = run(&client(&server), &mut Prompts::new(1), 4, 0, 1, 0);
        assert!(level.answers.is_empty() && server.requests().is_empty());
    }
}
