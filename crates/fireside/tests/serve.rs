//! `fireside serve` as its owner meets it: what it prints, where its traces go, how it ends.
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use common::fireside;

/// A server over a tiny random checkpoint on the CPU.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut process = fireside()
            .args(["serve", "--device", "cpu", "--port", "0", "--context", "64"])
            // Tests run in the folder of their package.
            .args(["--model", "../../tests/fixtures/tiny-llama/gqa-3-float16"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        let server = Self { process, address };
        while !server
            .send("GET /health/ready HTTP/1.1")
            .starts_with("HTTP/1.1 200")
        {
            std::thread::yield_now();
        }
        server
    }

    /// The answer to a request without a body.
    fn send(&self, head: &str) -> String {
        self.exchange(&format!(
            "{head}\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ))
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        self.exchange(&format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    fn exchange(&self, bytes: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.write_all(bytes.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it as a service manager does, and gives what it wrote to stderr.
    fn end(mut self) -> String {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
        let mut log = String::new();
        let errors = self.process.stderr.as_mut().unwrap();
        errors.read_to_string(&mut log).unwrap();
        assert!(self.process.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Takes what an exporter sends, as path and body, until nobody listens.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut reader = BufReader::new(socket);
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                head.push(line.trim().to_ascii_lowercase());
            }
            let length = head
                .iter()
                .find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            reader.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = reader.get_mut().write_all(answer);
            let path = head.first().cloned().unwrap_or_default();
            if sender.send((path, body)).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn spans_come_to_the_collector_in_the_clients_trace() {
    let (endpoint, spans) = collector();
    let server = Server::start(&[
        "--otlp-endpoint",
        &endpoint,
        "--otlp-service-name",
        "hearth",
    ]);
    let trace: [u8; 16] = *b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36";
    let answer = server.post(
        "/v1/completions",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
        r#"{"prompt": [1, 2, 3], "max_tokens": 2, "temperature": 0, "ignore_eos": true}"#,
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The last spans are sent before the process ends.
    server.end();
    let sent: Vec<(String, Vec<u8>)> = spans.try_iter().collect();
    let all: Vec<u8> = sent.iter().flat_map(|(_, body)| body.clone()).collect();
    assert!(
        sent.iter()
            .all(|(path, _)| path.starts_with("post /v1/traces "))
    );
    assert!(has(&all, &trace));
    for part in [
        "hearth",
        "POST /v1/completions",
        "llm_request",
        "gen_ai.usage.completion_tokens",
        "gen_ai.latency.time_to_first_token",
        "http.response.status_code",
    ] {
        assert!(has(&all, part.as_bytes()), "{part}");
    }
}

#[test]
fn a_log_line_has_the_clients_request_id_and_no_span() {
    let server = Server::start(&["--log-format", "json"]);
    let answer = server.post("/generate", "x-request-id: own-7\r\n", r#"{"inputs": ""}"#);
    assert!(answer.contains("x-request-id: own-7"), "{answer}");
    let log = server.end();
    let line = log.lines().find(|line| line.contains("own-7"));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(line["status"], 422);
    assert_eq!(line["path"], "/generate");
    assert!(line.get("span").is_none(), "{line}");
}

#[test]
fn limits_are_told_as_they_are_set() {
    let server = Server::start(&["--max-queued-tokens", "77", "--max-batch-size", "3"]);
    let info = server.send("GET /info HTTP/1.1");
    for part in [
        r#""max_queued_tokens":77"#,
        r#""max_batch_size":3"#,
        r#""max_batch_total_tokens":64"#,
    ] {
        assert!(info.contains(part), "{part} in {info}");
    }
    server.end();
}

#[test]
fn settings_of_no_use_end_it_with_a_line() {
    for (arguments, expected) in [
        (vec!["--web-root", "/nowhere"], "there is no index.html"),
        (vec!["--tls-cert", "/nowhere"], "--tls-key"),
        (
            vec!["--max-batch-total-tokens", "9", "--context", "9"],
            "cannot be used with",
        ),
        (vec!["--otlp-endpoint", "not a url"], "--otlp-endpoint"),
        (vec!["--api-key", ""], "--api-key"),
        (vec!["--max-batch-size", "0"], "--max-batch-size"),
        (vec!["--payload-limit", "0"], "from 1 up"),
    ] {
        let output = fireside()
            .args(["serve", "--port", "0"])
            .args(["--model", "../../tests/fixtures/tiny-llama/gqa-3-float16"])
            .args(&arguments)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
}
