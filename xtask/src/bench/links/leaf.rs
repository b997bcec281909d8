//! The service that is called last: answers after a random delay and remembers who asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::plan::Call;

/// The longest delay of an answer.
const LONGEST_DELAY: Duration = Duration::from_millis(15);

/// How often the leaf was asked for each call: once, unless a client tried again.
pub(crate) type Asked = BTreeMap<Call, u32>;

/// A leaf service on a thread of this process.
pub(crate) struct Leaf {
    address: SocketAddr,
    asked: Arc<Mutex<Asked>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Leaf {
    /// Listens on a free loopback port; `seed` decides the delays.
    pub(crate) fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(Asked::new()));
        let (stop, stopped) = oneshot::channel();
        let answers = Answers { seed, asked: Arc::clone(&asked) };
        let thread = std::thread::Builder::new().name("leaf".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    ended = serve(listener, answers) => ended,
                    _ = stopped => Ok(()),
                }
            })
        })?;
        Ok(Self { address, asked, stop, thread })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it and tells who asked.
    pub(crate) fn stop(self) -> Result<Asked> {
        // It cannot be told when it has ended already, and then its thread says why.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the leaf service panicked"))??;
        Ok(std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[derive(Clone)]
struct Answers {
    seed: u64,
    asked: Arc<Mutex<Asked>>,
}

async fn serve(listener: TcpListener, answers: Answers) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await.context("the leaf service cannot accept")?;
        stream.set_nodelay(true)?;
        let answers = answers.clone();
        let service = service_fn(move |request| answers.clone().answer(request));
        tokio::spawn(async move {
            // Services may break a connection; what matters is whether their requests succeed.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Answers {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let Some(call) = Call::in_path(request.uri().path()) else {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        };
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_default() += 1;
        let delay = LONGEST_DELAY.mul_f64(call.random(self.seed).f64());
        tokio::time::sleep(delay).await;
        Ok(Response::new(Full::from("leaf\n")))
    }
}
