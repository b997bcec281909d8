//! A service on hyper and tokio's work-stealing scheduler; knows nothing of tracing.
//!
//! Calls that are to be made at once run as tasks of their own. The plan in a request's query is
//! explained in `plan.py`. Started with `PORT` and `LEAF` in its environment.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::env;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

struct App {
    leaf: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> Result<()> {
    let port: u16 = env::var("PORT")?.parse()?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let app = Arc::new(App { leaf: env::var("LEAF")?, client });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let app = Arc::clone(&app);
        let service = service_fn(move |request| answer(Arc::clone(&app), request));
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("connection: {error}");
            }
        });
    }
}

async fn answer(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match work(app, &request).await {
        Ok(()) => (StatusCode::OK, "done\n".to_owned()),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}\n")),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    Ok(response)
}

async fn work(app: Arc<App>, request: &Request<Incoming>) -> Result<()> {
    let tag = request.uri().path().split('/').nth(2).context("no tag")?;
    let plan = request.uri().query().and_then(|query| query.strip_prefix("plan="));
    let mut urls = (0..).map(|number| format!("{}/leaf/{tag}/{number}", app.leaf));
    for word in plan.context("no plan")?.split('.').filter(|word| !word.is_empty()) {
        let (step, count) = word.split_at(1);
        let count: usize = count.parse()?;
        match step {
            "s" => tokio::time::sleep(Duration::from_millis(count as u64)).await,
            "p" => {
                let mut running = JoinSet::new();
                for url in urls.by_ref().take(count) {
                    running.spawn(call(Arc::clone(&app), url));
                }
                while let Some(ended) = running.join_next().await {
                    ended??;
                }
            }
            _ => {
                for url in urls.by_ref().take(count) {
                    call(Arc::clone(&app), url).await?;
                }
            }
        }
    }
    Ok(())
}

async fn call(app: Arc<App>, url: String) -> Result<()> {
    let response = app.client.get(url.parse()?).await?;
    ensure!(response.status() == StatusCode::OK, "{url} answered {}", response.status());
    response.into_body().collect().await?;
    Ok(())
}
