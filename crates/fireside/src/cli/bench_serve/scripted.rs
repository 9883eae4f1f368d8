//! A small server whose answers a test writes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use clap::Parser;
use serde_json::{Value, json};

use super::ServeBenchArgs;
use super::client::Client;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    head: Vec<String>,
    pub(super) body: Value,
}

impl Request {
    pub(super) fn path(&self) -> &str {
        self.head[0].split(' ').nth(1).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head[1..].iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn prompt(&self) -> &str {
        self.body["messages"][0]["content"].as_str().unwrap()
    }
}

/// The bytes of an answer, after which the connection is closed.
pub(super) struct Reply(String);

impl Reply {
    pub(super) fn status(status: u16, body: &str) -> Self {
        Self(format!(
            "HTTP/1.1 {status} said\r\nconnection: close\r\n\r\n{body}"
        ))
    }

    pub(super) fn json(body: &str) -> Self {
        Self::status(200, body)
    }

    /// 429 with this Retry-After.
    pub(super) fn full(retry_after: &str) -> Self {
        Self(format!(
            "HTTP/1.1 429 full\r\nconnection: close\r\nretry-after: {retry_after}\r\n\r\nfull"
        ))
    }

    /// A chat answer in these pieces, with its tokens of prompt and answer.
    pub(super) fn stream(pieces: &[&str], usage: Option<(u64, u64)>) -> Self {
        let Self(mut text) = Self::cut(pieces);
        let mut event = |value: &Value| text.push_str(&format!("data: {value}\n\n"));
        event(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "length" }] }));
        if let Some((prompt, output)) = usage {
            event(&json!({ "choices": [], "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "prompt_tokens_details": { "cached_tokens": 0 },
            } }));
        }
        text.push_str("data: [DONE]\n\n");
        Self(text)
    }

    /// A chat answer that breaks after these pieces.
    pub(super) fn cut(pieces: &[&str]) -> Self {
        let mut text =
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n: hi\n\n"
                .to_owned();
        for content in [""].iter().chain(pieces) {
            let delta = json!({ "role": "assistant", "content": content });
            let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
            text.push_str(&format!("data: {}\n\n", json!({ "choices": [choice] })));
        }
        Self(text)
    }
}

/// A server on a free port, which ends when it is dropped.
pub(super) struct Server {
    pub(super) url: String,
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The requests that came so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts a server that answers as the script says.
pub(super) fn serve(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let over = Arc::new(AtomicBool::new(false));
    let (seen, ends) = (Arc::clone(&requests), Arc::clone(&over));
    let thread = thread::spawn(move || {
        thread::scope(|scope| {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (script, seen) = (&script, &seen);
                scope.spawn(move || {
                    let mut stream = stream.unwrap();
                    let request = read(&stream);
                    let Reply(text) = script(&request);
                    seen.lock().unwrap().push(request);
                    let _ = stream.write_all(text.as_bytes());
                });
            }
        });
    });
    Server {
        url: format!("http://{address}/v1"),
        address,
        requests,
        over,
        thread: Some(thread),
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let mut request = Request {
        head,
        body: Value::Null,
    };
    let length = request
        .header("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = serde_json::from_slice(&body).unwrap_or_default();
    request
}

/// A client of this server, as the command makes it.
pub(super) fn client(server: &Server) -> Client {
    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ServeBenchArgs,
    }
    let args = Command::parse_from(["serve", "--url", &server.url]).args;
    Client::new(&args, 4).unwrap()
}
