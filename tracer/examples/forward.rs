//! The forwarder on its own, as a plain reverse proxy: `forward LISTEN DESTINATION [THREADS]`.
//!
//! For measurements against other proxies. Prints what it counted when it is interrupted.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tracer::proxy::{Accepted, Forwarder, NewRoots, Options, SameNamespace};
use tracer::sampling::Sampler;
use tracer::trace::context::IdSource;

const BACKLOG: u32 = 4096;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name| arguments.next().with_context(|| format!("{name} is missing"));
    let listen: SocketAddr = next("LISTEN")?.parse()?;
    let destination = next("DESTINATION")?.parse()?;
    let threads: usize = next("THREADS").map_or(Ok(1), |threads| threads.parse())?;
    let contexts = Arc::new(NewRoots::new(IdSource::random(), Sampler::default()));
    let forwarder = Forwarder::new(contexts, Options::default());
    let serve = move |forwarder: Forwarder| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = listener(listen)?;
            tokio::select! {
                result = accept(&listener, destination, &forwarder) => result,
                result = tokio::signal::ctrl_c() => {
                    println!("{}", forwarder.counts());
                    Ok(result?)
                }
            }
        })
    };
    for _ in 1..threads {
        let forwarder = forwarder.clone();
        std::thread::spawn(move || serve(forwarder));
    }
    serve(forwarder)
}

fn listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}

async fn accept(
    listener: &TcpListener,
    destination: SocketAddr,
    forwarder: &Forwarder,
) -> anyhow::Result<()> {
    loop {
        let (stream, application) = listener.accept().await?;
        let forwarder = forwarder.clone();
        tokio::spawn(async move {
            let (sockets, draining) = (Arc::new(SameNamespace), watch::channel(false).1);
            let connection = None;
            let accepted =
                Accepted { stream, application, destination, connection, sockets, draining };
            forwarder.serve(accepted).await;
        });
    }
}
