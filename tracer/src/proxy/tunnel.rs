//! Forwards the bytes of a redirected connection both ways, understanding none of them.

use std::net::Shutdown;

use tokio::io::copy_bidirectional;

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
                // An error has closed or reset both ends; there is nobody to tell.
                let _ = copy_bidirectional(&mut accepted.stream, &mut upstream).await;
            }
            Err(error) => {
                tracing::debug!(destination = %accepted.destination, %error, "cannot connect");
                let stream = socket2::SockRef::from(&accepted.stream);
                let _ = stream.set_linger(Some(std::time::Duration::ZERO));
                let _ = stream.shutdown(Shutdown::Read);
            }
        }
    }
}
