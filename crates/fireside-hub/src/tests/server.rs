//! A hub small enough for a test: it serves files with ranges, digests and chosen faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use crate::digest::hex;

/// The commit that every repository of the test hub is at.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A file of the hub and how it is served.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    /// The digest that the hub claims; `None` if it claims none.
    pub(crate) claims: Option<String>,
    /// The tag of the file's version.
    pub(crate) etag: String,
    /// How many of the next answers end early, and after how many bytes each.
    pub(crate) breaks: (usize, usize),
    /// Answers that end early leave the connection open instead of closing it.
    pub(crate) stalls: bool,
    /// The connections that were left open.
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// Ranges are ignored, as some servers do.
    pub(crate) whole_only: bool,
    /// The bytes are at another address, and the hub only redirects.
    pub(crate) elsewhere: Option<String>,
}

impl Served {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        Self {
            bytes,
            claims: Some(digest.clone()),
            etag: digest,
            breaks: (0, 0),
            stalls: false,
            open: Arc::default(),
            whole_only: false,
            elsewhere: None,
        }
    }
}

/// What the server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

#[derive(Default)]
struct State {
    /// Files by repository and name.
    files: Mutex<BTreeMap<(String, String), Served>>,
    asked: Mutex<Vec<Asked>>,
    /// A status for every answer, instead of content.
    status: Mutex<Option<u16>>,
    stop: AtomicBool,
}

/// A running hub, stopped when dropped.
pub(crate) struct Hub {
    state: Arc<State>,
    endpoint: String,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                // A client that goes away early is part of some tests.
                let _ = stream.and_then(|stream| serve(stream, &shared));
            }
        });
        Self {
            state,
            endpoint: format!("http://{address}"),
            thread: Some(thread),
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn put(&self, repo: &str, name: &str, file: Served) {
        let key = (repo.to_owned(), name.to_owned());
        self.state.files.lock().unwrap().insert(key, file);
    }

    pub(crate) fn answer_all_with(&self, status: u16) {
        *self.state.status.lock().unwrap() = Some(status);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// The ranges that were asked of a file, in order; `-` for none.
    pub(crate) fn ranges(&self, name: &str) -> Vec<String> {
        self.asked()
            .into_iter()
            .filter(|asked| asked.path.ends_with(name))
            .map(|asked| asked.range.unwrap_or_else(|| "-".into()))
            .collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut token) = (None, None);
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => token = Some(value.to_owned()),
            _ => {}
        }
    }
    state.asked.lock().unwrap().push(Asked {
        path: path.clone(),
        range: range.clone(),
        token,
    });
    if let Some(status) = *state.status.lock().unwrap() {
        return respond(stream, status, &[], b"refused", usize::MAX);
    }
    let mut files = state.files.lock().unwrap();
    if let Some(repo) = path.strip_prefix("/api/models/") {
        let repo = repo.split("/revision/").next().unwrap_or_default();
        return list(stream, repo, &files);
    }
    // Plain `/bytes/REPO/resolve/...` is the content network behind the hub.
    let plain = path.trim_start_matches("/bytes");
    let plain = plain.split('?').next().unwrap_or_default();
    let found = files.iter_mut().find(|((repo, name), _)| {
        plain
            .strip_prefix(&format!("/{repo}/resolve/"))
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(_, rest)| rest == name)
    });
    let Some((_, file)) = found else {
        return respond(stream, 404, &[], b"Entry not found", usize::MAX);
    };
    send_file(stream, file, &path, range.as_deref())
}

fn list(
    stream: TcpStream,
    repo: &str,
    files: &BTreeMap<(String, String), Served>,
) -> std::io::Result<()> {
    let siblings: Vec<_> = files
        .iter()
        .filter(|((owner, _), _)| owner == repo)
        .map(|((_, name), file)| match &file.claims {
            Some(digest) => serde_json::json!({
                "rfilename": name,
                "size": file.bytes.len(),
                "lfs": { "sha256": digest, "size": file.bytes.len() },
            }),
            None => serde_json::json!({ "rfilename": name }),
        })
        .collect();
    if siblings.is_empty() {
        return respond(stream, 404, &[], b"Repository not found", usize::MAX);
    }
    let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
    respond(stream, 200, &[], body.as_bytes(), usize::MAX)
}

fn send_file(
    stream: TcpStream,
    file: &mut Served,
    path: &str,
    range: Option<&str>,
) -> std::io::Result<()> {
    let etag = format!("\"{}\"", file.etag);
    if let Some(elsewhere) = &file.elsewhere {
        let headers = [
            ("Location", format!("{elsewhere}/bytes{path}?signature=x")),
            ("X-Linked-Etag", etag),
            ("X-Linked-Size", file.bytes.len().to_string()),
            ("X-Repo-Commit", COMMIT.to_owned()),
        ];
        return respond(stream, 302, &headers, b"", usize::MAX);
    }
    let from: usize = range
        .filter(|_| !file.whole_only)
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let total = file.bytes.len();
    if from >= total && from > 0 {
        let headers = [("Content-Range", format!("bytes */{total}"))];
        return respond(stream, 416, &headers, b"", usize::MAX);
    }
    let mut headers = vec![("ETag", etag), ("X-Repo-Commit", COMMIT.to_owned())];
    let status = if from > 0 {
        headers.push((
            "Content-Range",
            format!("bytes {from}-{}/{total}", total - 1),
        ));
        206
    } else {
        200
    };
    let mut end = usize::MAX;
    if file.breaks.0 > 0 {
        file.breaks.0 -= 1;
        end = file.breaks.1;
        if file.stalls {
            file.open.lock().unwrap().push(stream.try_clone()?);
        }
    }
    respond(stream, status, &headers, &file.bytes[from..], end)
}

/// Announces the whole body and sends at most `end` bytes of it.
fn respond(
    mut stream: TcpStream,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
    end: usize,
) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body[..end.min(body.len())])?;
    stream.flush()
}
