//! What the agent logs about itself: to standard error, by a filter that can change at run time,
//! and never much of the same.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tracer::config::{LogFormat, LogOptions};
use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing_subscriber::layer::{Context, Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is logged: beside trouble, that a receiver of spans is back.
const DEFAULT: &str = "warn,tracer::export=info";
/// Messages of one place in the code that are written within [`INTERVAL`].
const BURST: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(10);

/// Changes what is logged.
pub(crate) type LogHandle = reload::Handle<EnvFilter, Registry>;

/// What is logged, from the option, else the variable.
pub(crate) fn filter(options: &LogOptions, level: Option<&str>) -> EnvFilter {
    let given = options.log.as_deref().or(level).unwrap_or(DEFAULT);
    EnvFilter::try_new(given).unwrap_or_else(|error| {
        eprintln!("tracer: --log {given}: {error}; using {DEFAULT}");
        EnvFilter::new(DEFAULT)
    })
}

/// Starts logging. Once only.
pub(crate) fn start(options: &LogOptions, level: Option<&str>) -> Result<LogHandle> {
    let (filter, handle) = reload::Layer::new(filter(options, level));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let limit = RateLimit::default();
    let registry = tracing_subscriber::registry().with(filter);
    match options.log_format {
        LogFormat::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            registry.with(lines.with_filter(limit)).try_init()?;
        }
        LogFormat::Json => {
            registry.with(lines.json().flatten_event(true).with_filter(limit)).try_init()?;
        }
    }
    Ok(handle)
}

/// Lets each place in the code log so much and no more.
#[derive(Debug, Default)]
struct RateLimit(Mutex<HashMap<Identifier, Window>>);

#[derive(Debug)]
struct Window {
    since: Instant,
    messages: u32,
}

impl RateLimit {
    fn admits(&self, place: Identifier, now: Instant) -> bool {
        // Bounded by the number of places in the code.
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(place).or_insert(Window { since: now, messages: 0 });
        if now.duration_since(window.since) >= INTERVAL {
            let held_back = window.messages.saturating_sub(BURST);
            *window = Window { since: now, messages: 0 };
            if held_back > 0 {
                eprintln!("tracer: {held_back} messages like the next one were not logged");
            }
        }
        window.messages += 1;
        window.messages <= BURST
    }
}

impl<S> Filter<S> for RateLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &tracing::Event<'_>, _: &Context<'_, S>) -> bool {
        self.admits(event.metadata().callsite(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_floods_is_held_back_and_others_are_not() {
        let place = |metadata: &'static Metadata<'static>| metadata.callsite();
        let (one, other) = (first(), second());
        let (one, other) = (place(one.metadata()), place(other.metadata()));
        let limit = RateLimit::default();
        let start = Instant::now();
        let admitted = (0..100).filter(|_| limit.admits(one.clone(), start)).count();
        assert_eq!(admitted, BURST as usize);
        assert!(limit.admits(other, start));
        assert!(!limit.admits(one.clone(), start + INTERVAL / 2));
        assert!(limit.admits(one, start + INTERVAL));
    }

    fn first() -> &'static dyn tracing::Callsite {
        tracing::callsite! { name: "first", kind: tracing::metadata::Kind::EVENT, fields: message }
    }

    fn second() -> &'static dyn tracing::Callsite {
        tracing::callsite! { name: "second", kind: tracing::metadata::Kind::EVENT, fields: message }
    }
}
