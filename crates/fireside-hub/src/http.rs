//! Requests to a hub: redirects, tokens, timeouts, and the headers that identify a file.

use std::io::Read;
use std::net::IpAddr;

use ureq::Agent;
use ureq::http::{HeaderMap, Response, Uri};

use crate::digest::is_hex;
use crate::error::{Error, one_line};
use crate::options::Options;
use crate::slot::Promise;

/// More hops than any hub or mirror makes.
const MAX_REDIRECTS: usize = 10;

/// Whether the same request might succeed in a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would fail in the same way.
    Never,
    /// The server is there and was interrupted or busy.
    Soon,
    /// The server is out of reach, which passes if it was in reach before.
    IfReached,
}

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) retry: Retry,
}

impl Failure {
    /// A body that stopped arriving.
    pub(crate) fn broken(url: &str, reason: &str) -> Self {
        Self {
            retry: Retry::Soon,
            error: Error::Transport {
                url: shown(url),
                reason: one_line(reason),
            },
        }
    }
}

impl From<Error> for Failure {
    /// An error that no retry helps.
    fn from(error: Error) -> Self {
        Self {
            error,
            retry: Retry::Never,
        }
    }
}

/// A successful answer with its body still to be read.
pub(crate) struct Reply {
    /// The offset of the body's first byte in the file.
    pub(crate) start: u64,
    /// The size of the whole file in bytes, where the server says it.
    pub(crate) total: Option<u64>,
    /// What stays the same as long as the file does.
    pub(crate) etag: Option<String>,
    /// The digest that the hub promises for the file.
    pub(crate) promise: Option<Promise>,
    pub(crate) body: Box<dyn Read>,
}

/// How a server answered a request for a range.
pub(crate) enum Answer {
    Content(Reply),
    /// The file does not reach to the offset that was asked for.
    OutOfRange,
}

/// A client of one hub.
pub(crate) struct Http {
    agent: Agent,
    origin: Option<String>,
    token: Option<String>,
}

impl Http {
    /// A client with the timeouts, the token and the proxy settings that apply to the hub.
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let endpoint: Uri = options
            .hub_endpoint
            .parse()
            .ok()
            .filter(|uri| origin(uri).is_some())
            .ok_or_else(|| Error::Unreachable {
                host: one_line(&options.hub_endpoint),
                reason: "HF_ENDPOINT is not an address such as https://host".to_owned(),
            })?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("fireside/", env!("CARGO_PKG_VERSION")))
            // The sizes and offsets of a download are those of the file itself.
            .accept_encoding("identity")
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.stall_timeout))
            .timeout_per_read(Some(options.stall_timeout));
        if is_loopback(&endpoint) {
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            origin: origin(&endpoint),
            token: options.hub_token.clone(),
        })
    }

    /// Asks for a file from byte `from` on and follows redirects. The token goes to the hub's own
    /// host only.
    pub(crate) fn get(&self, url: &str, from: u64) -> Result<Answer, Failure> {
        let mut uri: Uri = url.parse().map_err(|_| bad_answer(url, "no address"))?;
        // The hub describes the file in the first answer; a content network behind it may not.
        let mut linked = Linked::default();
        for hop in 0..MAX_REDIRECTS {
            let response = self.send(&uri, from)?;
            let status = response.status().as_u16();
            let at_hub = origin(&uri) == self.origin;
            if hop == 0 || at_hub {
                linked.read(response.headers(), at_hub);
            }
            match status {
                301 | 302 | 303 | 307 | 308 => {
                    uri = redirect(&uri, response.headers()).map_err(Failure::from)?;
                }
                200 | 206 => return Ok(Answer::Content(reply(url, response, linked)?)),
                416 => return Ok(Answer::OutOfRange),
                _ => return Err(refusal(&uri, status)),
            }
        }
        Err(bad_answer(url, "too many redirects").into())
    }

    fn send(&self, uri: &Uri, from: u64) -> Result<Response<ureq::Body>, Failure> {
        let mut request = self.agent.get(uri);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) = &self.token
            && origin(uri) == self.origin
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| {
            let reason = match &error {
                ureq::Error::Io(error) => error.to_string(),
                error => error.to_string(),
            };
            if is_out_of_reach(&error) {
                Failure {
                    retry: Retry::IfReached,
                    error: Error::Unreachable {
                        host: origin(uri).unwrap_or_default(),
                        reason: one_line(&reason),
                    },
                }
            } else {
                Failure::broken(&uri.to_string(), &reason)
            }
        })
    }
}

/// True if the connection was never made, rather than made and lost.
fn is_out_of_reach(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        // A failed look-up of the name has no kind of its own, so the kinds of a lost connection
        // are the ones to name.
        ureq::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
                | ErrorKind::TimedOut
        ),
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::InvalidProxyUrl
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_) => true,
        _ => false,
    }
}

fn refusal(uri: &Uri, status: u16) -> Failure {
    let hint = match status {
        401 | 403 => {
            "; the repository does not exist, is private, or asks for consent on its page: \
             check its name, or set HF_TOKEN to a token that may read it"
        }
        404 => "; there is no such repository, revision or file",
        429 => "; too many requests: wait, or set HF_TOKEN",
        _ => "",
    };
    Failure {
        retry: if status >= 500 || status == 429 {
            Retry::Soon
        } else {
            Retry::Never
        },
        error: Error::Status {
            url: shown(&uri.to_string()),
            status,
            hint,
        },
    }
}

fn reply(url: &str, response: Response<ureq::Body>, linked: Linked) -> Result<Reply, Error> {
    let headers = response.headers();
    let (start, total) = if response.status().as_u16() == 206 {
        header(headers, "content-range")
            .and_then(content_range)
            .ok_or_else(|| bad_answer(url, "a partial answer without its range"))?
    } else {
        let length = header(headers, "content-length").and_then(|text| text.parse().ok());
        (0, length)
    };
    let etag = linked
        .etag
        .clone()
        .or_else(|| header(headers, "etag").map(clean_etag));
    if let (Some(promised), Some(total)) = (linked.size, total)
        && promised != total
    {
        return Err(bad_answer(
            url,
            "the hub and its content network disagree about the size",
        ));
    }
    Ok(Reply {
        start,
        total: total.or(linked.size),
        etag,
        promise: linked.promise(),
        body: Box::new(response.into_body().into_reader()),
    })
}

/// What the hub says of a file before it redirects to where the bytes are.
#[derive(Default)]
struct Linked {
    etag: Option<String>,
    size: Option<u64>,
}

impl Linked {
    fn read(&mut self, headers: &HeaderMap, at_hub: bool) {
        let etag = header(headers, "x-linked-etag")
            .or_else(|| header(headers, "etag").filter(|_| at_hub))
            .map(clean_etag);
        self.etag = self.etag.take().or(etag);
        let size = header(headers, "x-linked-size").and_then(|text| text.parse().ok());
        self.size = self.size.or(size);
    }

    /// The hub tags large files with their SHA-256 and files in git with their blob id.
    fn promise(&self) -> Option<Promise> {
        let etag = self.etag.as_deref()?;
        if is_hex(etag, 64) {
            Some(Promise::Sha256(etag.to_owned()))
        } else if is_hex(etag, 40) {
            Some(Promise::GitBlob(etag.to_owned()))
        } else {
            None
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn clean_etag(etag: &str) -> String {
    etag.trim()
        .trim_start_matches("W/")
        .trim_matches('"')
        .to_owned()
}

/// Reads `bytes 5-9/10` as the offset 5 and the total 10; the total may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.parse().ok()?, total))
}

/// The address that a redirect leads to. From https it must not lead to plain http.
fn redirect(from: &Uri, headers: &HeaderMap) -> Result<Uri, Error> {
    let wrong = |reason: &str| bad_answer(&from.to_string(), reason);
    let location =
        header(headers, "location").ok_or_else(|| wrong("a redirect without a location"))?;
    let absolute = if location.starts_with('/') && !location.starts_with("//") {
        let base = origin(from).ok_or_else(|| wrong("a redirect from nowhere"))?;
        format!("{base}{location}")
    } else {
        location.to_owned()
    };
    let to: Uri = absolute
        .parse()
        .ok()
        .filter(|uri| origin(uri).is_some())
        .ok_or_else(|| wrong("a redirect to what is no address"))?;
    if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
        return Err(wrong("a redirect from https to http"));
    }
    Ok(to)
}

/// Scheme, host and port; `None` unless the address is an http or https one.
fn origin(uri: &Uri) -> Option<String> {
    let scheme = uri
        .scheme_str()
        .filter(|s| matches!(*s, "http" | "https"))?;
    // The authority without a user and password that would otherwise land in messages.
    let host = uri.host().filter(|host| !host.is_empty())?;
    Some(match uri.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// An address as messages show it: without the query, where signatures and tokens stand.
pub(crate) fn shown(url: &str) -> String {
    one_line(url.split(['?', '#']).next().unwrap_or_default())
}

pub(crate) fn bad_answer(url: &str, reason: &str) -> Error {
    Error::BadAnswer {
        url: shown(url),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, None)));
        for bad in ["", "bytes 5-9", "bytes */10", "items 5-9/10", "bytes -9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn etags_become_promises_only_if_they_are_digests() {
        let linked = |etag: &str| Linked {
            etag: Some(clean_etag(etag)),
            size: None,
        };
        let sha = "a".repeat(64);
        assert_eq!(
            linked(&format!("\"{sha}\"")).promise(),
            Some(Promise::Sha256(sha))
        );
        let git = "b".repeat(40);
        assert_eq!(
            linked(&format!("W/\"{git}\"")).promise(),
            Some(Promise::GitBlob(git))
        );
        assert_eq!(linked("\"5f3a-12\"").promise(), None);
    }

    #[test]
    fn redirects_never_leave_https() {
        let mut headers = HeaderMap::new();
        let from: Uri = "https://hub.example/a/b?x=1".parse().unwrap();
        for (location, expected) in [
            ("/c?y=2", Some("https://hub.example/c?y=2")),
            ("https://cdn.example/z", Some("https://cdn.example/z")),
            ("http://cdn.example/z", None),
            ("//cdn.example/z", None),
            ("ftp://cdn.example/z", None),
            ("", None),
        ] {
            headers.insert("location", location.parse().unwrap());
            let to = redirect(&from, &headers).ok().map(|uri| uri.to_string());
            assert_eq!(to.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn messages_show_no_query() {
        assert_eq!(shown("https://a/b?X-Signature=secret"), "https://a/b");
    }
}
