//! Keeps web pages of other sites from using a server without keys through those who look at them.
//!
//! A browser sends a page's `POST` to any server that it can reach, also where the page may not read
//! the answer, and a name that a page's owner points at this machine makes the page look like this
//! server's own. The first is known by `Origin` and `Sec-Fetch-Site`, which pages cannot forge, the
//! second by the name in `Host`. Other clients send neither header, or a `Host` that is right.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use fireside_openai::{ApiError, ErrorKind};

use crate::Options;
use crate::http::error::Dialect;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Longest part of a header that an error shows.
const SHOWN: usize = 80;

/// Whose pages may call.
#[derive(Debug, Clone)]
pub(crate) struct Visitors {
    /// Whether anything is to be checked: a page has no key, and `*` allows all.
    checked: bool,
    /// Origins that the owner allows.
    origins: Arc<[String]>,
    /// Whether the server listens on a loopback address, so that no name but `localhost` is its own.
    loopback: bool,
}

impl Visitors {
    /// The rules of a server with these settings that listens on this address.
    pub(crate) fn new(options: &Options, address: Option<IpAddr>) -> Self {
        let origins = &options.cors_allow_origin;
        Self {
            checked: options.api_keys.is_empty() && !origins.iter().any(|own| own == "*"),
            origins: origins.as_slice().into(),
            loopback: address.is_some_and(|address| address.to_canonical().is_loopback()),
        }
    }

    /// Whether a request may go on.
    ///
    /// # Errors
    ///
    /// It comes from a page of another site, or was sent to a name that is not this server's.
    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
        if !self.checked {
            return Ok(());
        }
        let text = |name: &HeaderName| {
            let value = headers.get(name);
            value.map(|value| String::from_utf8_lossy(value.as_bytes()))
        };
        let host = text(&header::HOST);
        if self.loopback
            && let Some(host) = &host
            && !self.is_own_name(host)
        {
            let shown = shorten(host);
            return Err(forbidden(
                "foreign_host",
                format!(
                    "host is {shown:?}; expected localhost or an address, as the server listens on \
                     loopback; start it with --cors-allow-origin http://{shown} to allow the name"
                ),
            ));
        }
        if method.is_safe() {
            return Ok(());
        }
        let origin = text(&header::ORIGIN);
        let own = match text(&SEC_FETCH_SITE).as_deref() {
            Some("same-origin" | "none") => true,
            // A browser that does not say, or no browser.
            None => origin
                .as_deref()
                .is_none_or(|origin| host.as_deref().is_some_and(|host| is_same(origin, host))),
            Some(_) => false,
        };
        let allowed = |origin: &str| self.origins.iter().any(|own| own == origin);
        if own || origin.as_deref().is_some_and(allowed) {
            return Ok(());
        }
        let shown = shorten(origin.as_deref().unwrap_or("null"));
        Err(forbidden(
            "foreign_origin",
            format!(
                "a page of {shown:?} may not call this server; start it with --cors-allow-origin \
                 {shown} to allow it"
            ),
        ))
    }

    /// Whether a name in `Host` can only lead here by this machine's own doing: nobody else can point
    /// `localhost`, or an address, at it.
    fn is_own_name(&self, host: &str) -> bool {
        let name = name_of(host);
        let is_address = || {
            let bare = name.strip_prefix('[').and_then(|v6| v6.strip_suffix(']'));
            bare.map_or_else(
                || name.parse::<IpAddr>().is_ok(),
                |v6| v6.parse::<Ipv6Addr>().is_ok(),
            )
        };
        let dotless = name.strip_suffix('.').unwrap_or(&name);
        dotless == "localhost"
            || dotless.ends_with(".localhost")
            || is_address()
            || self.origins.iter().any(|origin| {
                let allowed = origin.split_once("://");
                allowed.is_some_and(|(_, authority)| name_of(authority) == name)
            })
    }
}

/// Whether an origin is that of the server that a client calls by this `Host`. Behind a proxy that
/// ends TLS the scheme is another one, so it decides nothing but the port that is left out.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |text: &str| {
        let text = text.strip_suffix(port).unwrap_or(text);
        text.to_ascii_lowercase()
    };
    bare(authority) == bare(host)
}

/// The name in a host with a port or without, in lower case; all of what is neither.
fn name_of(host: &str) -> String {
    let end = if host.starts_with('[') {
        host.rfind(']').map_or(host.len(), |at| at + 1)
    } else {
        host.rfind(':').unwrap_or(host.len())
    };
    let (name, port) = host.split_at(end);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let sound = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    let name = if sound { name } else { host };
    name.to_ascii_lowercase()
}

fn shorten(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic())
        .take(SHOWN)
        .collect()
}

fn forbidden(code: &'static str, message: String) -> ApiError {
    ApiError::new(ErrorKind::Forbidden, message).with_code(code)
}

/// Refuses what comes from pages of other sites.
pub(crate) async fn turn_away(
    State(visitors): State<Visitors>,
    request: Request,
    next: Next,
) -> Response {
    match visitors.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => Dialect::of(request.uri().path()).response(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn visitors(address: &str, set: impl FnOnce(&mut Options)) -> Visitors {
        let mut options = Options::new("m");
        set(&mut options);
        Visitors::new(&options, Some(address.parse().unwrap()))
    }

    /// The code of the error that a `POST` with these headers gets.
    fn code(visitors: &Visitors, headers: &[(HeaderName, &str)]) -> Option<&'static str> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        let error = visitors.check(&Method::POST, &headers.collect()).err();
        error.and_then(|error| error.code)
    }

    #[test]
    fn a_loopback_server_is_called_by_localhost_or_an_address_and_by_no_other_name() {
        let own = visitors("127.0.0.1", |_| {});
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.:8080",
            "chat.localhost:8080",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "192.168.1.5:8080",
        ] {
            assert_eq!(code(&own, &[(header::HOST, host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
            "localhost@evil.example",
            "localhost:80@evil.example",
            "",
        ] {
            let code = code(&own, &[(header::HOST, host)]);
            assert_eq!(code, Some("foreign_host"), "{host}");
        }
        assert_eq!(code(&own, &[]), None);
        let mapped = visitors("::ffff:127.0.0.1", |_| {});
        let evil = [(header::HOST, "evil.example")];
        assert_eq!(code(&mapped, &evil), Some("foreign_host"));
        for open in ["0.0.0.0", "::", "10.0.0.7"] {
            assert_eq!(code(&visitors(open, |_| {}), &evil), None, "{open}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_turned_away_and_the_servers_own_are_not() {
        let own = visitors("0.0.0.0", |_| {});
        for (host, origin) in [
            ("example.org", "https://example.org"),
            ("example.org:443", "https://example.org"),
            ("Example.org:8080", "http://example.org:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            let headers = [(header::HOST, host), (header::ORIGIN, origin)];
            assert_eq!(code(&own, &headers), None, "{host} {origin}");
        }
        for (host, origin) in [
            ("example.org", "https://evil.example"),
            ("example.org:8080", "http://example.org:3000"),
            ("example.org:80", "https://example.org"),
            ("example.org", "http://example.org.evil.example"),
            ("null", "null"),
            ("x", "file://x"),
        ] {
            let headers = [(header::HOST, host), (header::ORIGIN, origin)];
            let code = code(&own, &headers);
            assert_eq!(code, Some("foreign_origin"), "{host} {origin}");
        }
    }

    #[test]
    fn what_a_browser_says_of_a_request_goes_before_a_host_that_a_proxy_wrote() {
        let own = visitors("127.0.0.1", |_| {});
        let request = |site| {
            [
                (header::HOST, "127.0.0.1:8080"),
                (header::ORIGIN, "https://chat.example.org"),
                (SEC_FETCH_SITE, site),
            ]
        };
        assert_eq!(code(&own, &request("same-origin")), None);
        for site in ["same-site", "cross-site", "anything"] {
            assert_eq!(code(&own, &request(site)), Some("foreign_origin"), "{site}");
        }
        let silent = [(header::HOST, "localhost"), (SEC_FETCH_SITE, "cross-site")];
        assert_eq!(code(&own, &silent), Some("foreign_origin"));
    }

    #[test]
    fn what_the_owner_allows_and_what_has_a_key_passes() {
        let origin = "https://chat.example.org";
        let allowed = |options: &mut Options| options.cors_allow_origin = vec![origin.to_owned()];
        let named = visitors("127.0.0.1", allowed);
        let page = [(header::HOST, "localhost"), (header::ORIGIN, origin)];
        assert_eq!(code(&named, &page), None);
        assert_eq!(code(&named, &[(header::HOST, "chat.example.org")]), None);
        let evil = [
            (header::HOST, "evil.example"),
            (header::ORIGIN, "http://evil.example"),
        ];
        assert_eq!(code(&named, &evil), Some("foreign_host"));
        let all = visitors("127.0.0.1", |o| o.cors_allow_origin = vec!["*".to_owned()]);
        assert_eq!(code(&all, &evil), None);
        let keyed = visitors("127.0.0.1", |o| o.api_keys = vec!["key".to_owned()]);
        assert_eq!(code(&keyed, &evil), None);
    }

    #[test]
    fn an_error_names_the_option_that_allows_it_in_one_line() {
        let own = visitors("127.0.0.1", |_| {});
        let message = |headers: &[(HeaderName, &str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
            let error = own.check(&Method::POST, &headers.collect()).unwrap_err();
            assert_eq!(error.kind.status(), 403);
            error.message
        };
        let origin = "http://localhost:3000";
        let page = [(header::HOST, "localhost:8080"), (header::ORIGIN, origin)];
        assert_eq!(
            message(&page),
            "a page of \"http://localhost:3000\" may not call this server; start it with \
             --cors-allow-origin http://localhost:3000 to allow it"
        );
        let long = "x".repeat(5000);
        assert!(message(&[(header::HOST, &long)]).len() < 400);
    }
}
