//! A receiver of spans that takes next to no processor time from what is measured: as a rule the
//! real one runs on another machine.

use anyhow::Result;
use tracer_tests::service::{Nginx, Service};

/// An nginx that discards what is sent to it by OTLP over HTTP.
pub(crate) fn discarding() -> Result<Service> {
    Nginx::new("client_max_body_size 64m; location / { return 200; }")?.start()
}
