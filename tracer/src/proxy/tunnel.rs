//! Forwards the bytes of a redirected connection both ways, understanding none of them.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::redirect::Accepted;

/// Forwards connections as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forwarder;

impl Forwarder {
    /// Serves one connection to its end.
    pub async fn serve(&self, mut accepted: Accepted) {
        let connected = match accepted.upstream.socket(accepted.destination) {
            Ok(socket) => socket.connect(accepted.destination).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(mut upstream) => {
                if copy_bidirectional(&mut accepted.stream, &mut upstream).await.is_err() {
                    // One end was reset: the other one shall be.
                    reset_on_close(&accepted.stream);
                    reset_on_close(&upstream);
                }
            }
            Err(error) => {
                tracing::debug!(destination = %accepted.destination, %error, "cannot connect");
                reset_on_close(&accepted.stream);
            }
        }
    }
}

fn reset_on_close(stream: &TcpStream) {
    // What fails here leaves an ordinary end instead.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
