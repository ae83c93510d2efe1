//! Answers requests: with the page, or with a line of text that says why not.

use std::future::ready;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{StatusCode, Version};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

/// Headers of every answer. Names are escaped; if markup ever got through, these would forbid it
/// everything.
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

/// Why a request is refused: one line.
type Refusal = (StatusCode, &'static str);

/// The routes of the server that listens on `address`. `page` makes the current page. The bodies of
/// requests are not read.
pub(super) fn routes(
    address: SocketAddr,
    page: impl Fn() -> Bytes + Clone + Send + Sync + 'static,
) -> Router {
    // HEAD is answered like GET, without the body.
    let page = get(move || ready(Html(page()))).fallback(|| ready(not_allowed()));
    Router::new()
        .route("/", page)
        .fallback(|| ready((StatusCode::NOT_FOUND, "There is nothing but / here.\n")))
        // Around all routes, so that a request under another name doesn't even learn which routes
        // exist.
        .layer(middleware::from_fn_with_state(address, guarded))
}

fn not_allowed() -> impl IntoResponse {
    let allowed = [(header::ALLOW, "GET, HEAD")];
    (StatusCode::METHOD_NOT_ALLOWED, allowed, "Only GET and HEAD are answered.\n")
}

/// Answers a request that is for this host, and refuses others; see [`refusal`].
async fn guarded(State(address): State<SocketAddr>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&request, address) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Why a request that came to `address` is not for this host, if it isn't.
///
/// DNS rebinding: a page of evil.example in the user's browser makes its name resolve to 127.0.0.1,
/// and could then read this page as if it were its own. But the browser still sends evil.example as
/// Host. Nobody else can own addresses or localhost, so only these are accepted. A server on
/// another address than loopback serves other hosts, under any name that they use.
fn refusal<B>(request: &Request<B>, address: SocketAddr) -> Option<Refusal> {
    match host(request) {
        Err(Malformed) => Some((StatusCode::BAD_REQUEST, "One Host is needed.\n")),
        // `[::ffff:127.0.0.1]` is loopback too.
        Ok(host) if address.ip().to_canonical().is_loopback() && !host.is_some_and(is_local) => {
            Some((
                StatusCode::MISDIRECTED_REQUEST,
                "Only an IP address or localhost is answered as the name of this host.\n",
            ))
        }
        Ok(_) => None,
    }
}

/// A request that RFC 9112 requires to be refused: without Host, or with more than one.
struct Malformed;

/// The host that the client addresses, with its port if there is one.
fn host<B>(request: &Request<B>) -> Result<Option<&str>, Malformed> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let said = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Malformed),
        (None, None) if request.version() > Version::HTTP_10 => return Err(Malformed),
        (said, None) => said.map(HeaderValue::to_str).transpose().map_err(|_| Malformed)?,
    };
    // A target with a host in it has precedence over the header.
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
    use axum::body::Body;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
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
        let request = request.body(Body::empty()).unwrap();
        let service = TowerToHyperService::new(routes(address.parse().unwrap(), Bytes::new));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(service.call(request)).unwrap().status().as_u16()
    }

    #[test]
    fn a_loopback_listener_answers_only_to_local_names() {
        let v11 = Version::HTTP_11;
        for address in [
            "127.0.0.1:8000",
            "127.9.9.9:1",
            "[::1]:8000",
            "[::ffff:127.0.0.1]:8000",
            "[::ffff:7f00:2]:8000",
        ] {
            assert_eq!(status(address, "/", v11, &[b"localhost:8000"]), 200);
            assert_eq!(status(address, "/", v11, &[b"evil.example"]), 421);
            assert_eq!(status(address, "/else", v11, &[b"evil.example"]), 421);
            assert_eq!(status(address, "/", Version::HTTP_10, &[]), 421);
            // What stands in the target counts, not what stands beside it.
            assert_eq!(status(address, "http://evil.example/", v11, &[b"localhost"]), 421);
            assert_eq!(status(address, "http://[::1]:8000/", v11, &[b"evil.example"]), 200);
        }
        for address in ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:8000", "[::ffff:192.0.2.1]:8000"] {
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
