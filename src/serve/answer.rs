//! What a request is answered: the page, or in a line of text why not.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What every answer says. Names are escaped; should one ever get through, it would find nothing
/// that it may do.
const HEADERS: &[(HeaderName, &str)] = &[
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Answers `request`, which came to the `address` that is listened on. Its body is not looked at.
pub(super) fn answer<B>(
    request: &Request<B>,
    address: SocketAddr,
    page: impl FnOnce() -> Bytes,
) -> Response<Full<Bytes>> {
    use StatusCode as Status;
    let text =
        |status, text: &'static str| response(status, TEXT, Bytes::from_static(text.as_bytes()));
    match host(request) {
        Err(Malformed) => return text(Status::BAD_REQUEST, "One Host is needed.\n"),
        // DNS rebinding: a page of evil.example that the user looks at has its name resolve to
        // 127.0.0.1 a moment later, and may then read what we serve as if it were its own. The
        // browser tells: Host is still evil.example. Addresses and localhost can't be had by
        // anybody else. Who listens on another address than loopback serves others, by whatever
        // name they have for this host.
        Ok(host) if address.ip().is_loopback() && !host.is_some_and(is_local) => {
            return text(
                Status::MISDIRECTED_REQUEST,
                "Only an IP address or localhost is answered as the name of this host.\n",
            );
        }
        Ok(_) => {}
    }
    if request.uri().path() != "/" {
        return text(Status::NOT_FOUND, "There is nothing but / here.\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(Status::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    response(Status::OK, HTML, page())
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A request that RFC 9112 wants refused: without Host, or with more than one.
struct Malformed;

/// The host that the client believes to talk to, with the port if it says one.
fn host<B>(request: &Request<B>) -> Result<Option<&str>, Malformed> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let said = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Malformed),
        (None, None) if request.version() > Version::HTTP_10 => return Err(Malformed),
        (said, None) => said.map(HeaderValue::to_str).transpose().map_err(|_| Malformed)?,
    };
    // A target with a host in it goes before the header.
    Ok(request.uri().authority().map(|authority| authority.as_str()).or(said))
}

/// Whether `host`, with or without a port, is a literal address or `localhost`.
fn is_local(host: &str) -> bool {
    let (is_local, rest) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
            (name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok(), rest)
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    is_local && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_localhost_are_local() {
        let local = [
            "localhost",
            "LocalHost:8000",
            "127.0.0.1",
            "127.0.0.1:8000",
            "192.0.2.1:1",
            "[::1]",
            "[::1]:8000",
            "[::ffff:127.0.0.1]:8000",
            "localhost:",
        ];
        for host in local {
            assert!(is_local(host), "{host}");
        }
        let foreign = [
            "",
            ":8000",
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.1",
            "2130706433",
            "::1",
            "[::1",
            "[::1]evil",
            "[evil]",
            "[::1]:80:80",
            "localhost:80@evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1:evil",
            " localhost",
            "localhost ",
            "0x7f.1",
            "[127.0.0.1]",
        ];
        for host in foreign {
            assert!(!is_local(host), "{host}");
        }
    }

    fn status(address: &str, target: &str, version: Version, hosts: &[&[u8]]) -> u16 {
        let mut request = Request::builder().uri(target).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let request = request.body(()).unwrap();
        answer(&request, address.parse().unwrap(), Bytes::new).status().as_u16()
    }

    #[test]
    fn a_loopback_listener_answers_only_to_local_names() {
        let v11 = Version::HTTP_11;
        for address in ["127.0.0.1:8000", "127.9.9.9:1", "[::1]:8000"] {
            assert_eq!(status(address, "/", v11, &[b"localhost:8000"]), 200);
            assert_eq!(status(address, "/", v11, &[b"evil.example"]), 421);
            assert_eq!(status(address, "/else", v11, &[b"evil.example"]), 421);
            assert_eq!(status(address, "/", Version::HTTP_10, &[]), 421);
            // What stands in the target counts, not what stands beside it.
            assert_eq!(status(address, "http://evil.example/", v11, &[b"localhost"]), 421);
            assert_eq!(status(address, "http://[::1]:8000/", v11, &[b"evil.example"]), 200);
        }
        for address in ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:8000"] {
            assert_eq!(status(address, "/", v11, &[b"host.example"]), 200);
            assert_eq!(status(address, "/", Version::HTTP_10, &[]), 200);
        }
    }

    #[test]
    fn one_host_is_needed() {
        for address in ["0.0.0.0:8000", "127.0.0.1:8000"] {
            assert_eq!(status(address, "/", Version::HTTP_11, &[]), 400);
            assert_eq!(status(address, "/", Version::HTTP_11, &[b"localhost", b"localhost"]), 400);
            assert_eq!(status(address, "/", Version::HTTP_11, &[b"\xff"]), 400);
        }
    }

    proptest! {
        #[test]
        fn no_name_with_a_letter_but_localhost_is_local(host in "[a-z.:\\[\\]@0-9]{0,20}[g-kmnp-z][.a-z]{0,5}") {
            prop_assume!(!host.starts_with("localhost") && !host.starts_with('['));
            prop_assert!(!is_local(&host));
        }
    }
}
