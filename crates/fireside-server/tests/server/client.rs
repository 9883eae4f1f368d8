//! A small HTTP client that shows what is on the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers
        .iter()
        .find(|(own, _)| own.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if method != "GET" {
        text += &format!("content-length: {}\r\n", body.len());
    }
    text += "\r\n";
    [text.as_bytes(), body].concat()
}

/// Sends bytes and reads one answer; `None` where the server closes without one.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let mut socket = connect(address);
    // A server that has heard enough may close before all is written.
    let _ = socket.write_all(bytes);
    let mut stream = Stream::begin(socket)?;
    let mut body = Vec::new();
    while let Some(piece) = stream.piece() {
        body.extend(piece);
    }
    Some(Reply {
        status: stream.status,
        headers: stream.headers,
        body,
    })
}

/// An answer that is read piece by piece.
#[derive(Debug)]
pub(crate) struct Stream {
    reader: BufReader<TcpStream>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes of the body that are still to come; `None` for a body in chunks.
    left: Option<usize>,
    ready: Vec<u8>,
}

impl Stream {
    pub(crate) fn open(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut socket = connect(address);
        socket.write_all(bytes).unwrap();
        Self::begin(socket).expect("an answer")
    }

    /// Reads the head of an answer.
    pub(crate) fn begin(socket: TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(socket);
        let first = line(&mut reader)?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        while let Some((name, value)) = line(&mut reader)?.split_once(": ") {
            headers.push((name.to_owned(), value.to_owned()));
        }
        let chunked = find(&headers, "transfer-encoding") == Some("chunked");
        let length = find(&headers, "content-length").map_or(0, |l| l.parse().unwrap());
        Some(Self {
            reader,
            status,
            headers,
            left: (!chunked).then_some(length),
            ready: Vec::new(),
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The next piece of the body as the server sent it; `None` at its end.
    pub(crate) fn piece(&mut self) -> Option<Vec<u8>> {
        let size = match &mut self.left {
            Some(left) => std::mem::take(left),
            None => usize::from_str_radix(&line(&mut self.reader)?, 16).unwrap(),
        };
        let mut piece = vec![0; size];
        self.reader.read_exact(&mut piece).ok()?;
        if self.left.is_none() {
            assert_eq!(line(&mut self.reader).as_deref(), Some(""));
        }
        (size > 0).then_some(piece)
    }

    /// The data of the next event.
    pub(crate) fn data(&mut self) -> Option<String> {
        loop {
            let end = self.ready.windows(2).position(|pair| pair == b"\n\n");
            if let Some(end) = end {
                let frame: Vec<u8> = self.ready.drain(..end + 2).collect();
                let frame = String::from_utf8(frame).unwrap();
                if let Some(data) = frame.strip_prefix("data: ") {
                    return Some(data.trim_end_matches('\n').to_owned());
                }
                assert!(
                    frame.starts_with(':'),
                    "neither data nor a comment: {frame:?}"
                );
                continue;
            }
            let piece = self.piece()?;
            self.ready.extend(piece);
        }
    }

    /// The data of all events that are still to come.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.data()).collect()
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut text = String::new();
    let read = reader.read_line(&mut text).ok()?;
    (read > 0).then(|| text.trim_end_matches(['\r', '\n']).to_owned())
}
