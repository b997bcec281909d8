//! HTTP/2 of a real client and a real server: requests arrive as sent, with one context more.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracer::trace::context::{IdSource, inject};

use crate::wire::{self, Contexts, INSERTED};

type Body = BoxBody<Bytes, Infallible>;

/// A body of these frames.
struct Frames(std::vec::IntoIter<Frame<Bytes>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

/// Every request's head, as the server saw it.
type Seen = Arc<Mutex<Vec<HeaderMap>>>;

async fn serve(seen: Seen) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = seen.clone();
            let service =
                service_fn(move |request| ready(Ok::<_, Infallible>(answer(request, &seen))));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}

/// Sends back what comes, as it comes, and the trailers.
fn answer(request: Request<Incoming>, seen: &Seen) -> Response<Incoming> {
    seen.lock().unwrap().push(request.headers().clone());
    Response::new(request.into_body())
}

async fn client(contexts: Contexts, seen: Seen) -> SendRequest<Body> {
    let address = wire::forward(serve(seen).await, contexts).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    client
}

fn request(headers: HeaderMap, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.uri_mut() = "http://localhost/echo".parse().unwrap();
    *request.headers_mut() = headers;
    request
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}

/// Headers of which some are often the same and some never, enough to fill the table many times.
fn headers(rng: &mut fastrand::Rng, number: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..rng.usize(0..6) {
        let name = format!("x-{}", rng.u8(0..30));
        let value = "v".repeat(rng.usize(0..200)) + &rng.u8(0..4).to_string();
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    headers.insert("x-number", HeaderValue::from(number));
    headers
}

/// All but what hyper adds and the context, which must be there once.
fn split(mut headers: HeaderMap) -> (HeaderMap, String) {
    headers.remove("content-length");
    assert_eq!(headers.get_all("traceparent").iter().count(), 1);
    let parent = headers.remove("traceparent").unwrap();
    (headers, parent.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn requests_arrive_as_sent_with_one_context_each() {
    let seen = Seen::default();
    let mut client = client(Contexts::Fixed, seen.clone()).await;
    let inserted = INSERTED["traceparent: ".len()..].trim_end();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut ids = IdSource::seeded(7);
    let mut carried = String::new();
    for number in 0..600 {
        let sent = headers(&mut rng, number);
        let mut with_context = sent.clone();
        // None, a new one, or the one of an earlier request, which the client's table has.
        if rng.bool() || carried.is_empty() {
            let root = ids.root();
            let parent = ids.child_of(&root);
            let context = tracer::trace::context::RemoteContext {
                trace: parent.trace,
                span: parent.span,
                flags: parent.flags,
                state: parent.state,
            };
            carried = inject::traceparent(&context);
        }
        if rng.u8(0..3) > 0 {
            with_context.insert("traceparent", HeaderValue::try_from(&carried).unwrap());
        }
        let response = client.send_request(request(with_context, full("hi"))).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hi");
        let (arrived, parent) = split(seen.lock().unwrap().pop().unwrap());
        assert_eq!(arrived, sent, "request {number}");
        assert_eq!(parent, inserted, "request {number}");
    }
}

#[tokio::test]
async fn contexts_that_are_kept_are_kept() {
    let seen = Seen::default();
    let mut client = client(Contexts::NewRoots, seen.clone()).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for number in 0..20 {
        let mut sent = HeaderMap::new();
        sent.insert("x-number", HeaderValue::from(number));
        if number % 2 == 0 {
            sent.insert("traceparent", HeaderValue::from_static(parent));
        }
        client.send_request(request(sent, full(""))).await.unwrap();
        let (_, arrived) = split(seen.lock().unwrap().pop().unwrap());
        assert_eq!(arrived == parent, number % 2 == 0, "request {number}: {arrived}");
    }
}

#[tokio::test]
async fn streams_run_at_once_both_ways_with_trailers() {
    const STREAMS: usize = 20;
    const FRAMES: usize = 100;
    let seen = Seen::default();
    let client = client(Contexts::Fixed, seen.clone()).await;
    let mut tasks = JoinSet::new();
    for number in 0..STREAMS {
        let mut client = client.clone();
        tasks.spawn(async move {
            let content: Bytes = vec![number as u8; 10_000].into();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from(number));
            trailers.insert("traceparent", HeaderValue::from_static("in a trailer"));
            let frames: Vec<_> = (0..FRAMES)
                .map(|_| Frame::data(content.clone()))
                .chain([Frame::trailers(trailers.clone())])
                .collect();
            let body = Frames(frames.into_iter()).boxed();
            let response = client.send_request(request(HeaderMap::new(), body)).await.unwrap();
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.trailers(), Some(&trailers));
            let bytes = body.to_bytes();
            assert_eq!(bytes.len(), FRAMES * content.len());
            assert!(bytes.iter().all(|byte| *byte == number as u8));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), STREAMS);
    seen.iter().for_each(|headers| assert_eq!(split(headers.clone()).0, HeaderMap::new()));
}
