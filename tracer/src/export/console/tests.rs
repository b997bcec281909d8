use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::export::fixtures::{room, spans};
use crate::export::ledger::{DropReason, Ledger};
use crate::export::queue::{BatchTrigger, Submission};

/// A terminal that remembers.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn queue() -> Arc<Queue> {
    let trigger = BatchTrigger { size: 100, linger: Duration::ZERO };
    Arc::new(Queue::new(room(100), trigger, Arc::new(Ledger::new("console".to_owned()))))
}

fn exporter(output: impl Write + Send + 'static) -> ConsoleExporter {
    let settings = ConsoleSettings::default();
    ConsoleExporter { settings, colour: false, output: Box::new(output) }
}

#[tokio::test]
async fn quiet_traces_are_printed_and_the_rest_at_the_end() {
    let (screen, queue) = (Screen::default(), queue());
    let mut exporter = exporter(screen.clone());
    exporter.settings.quiet = Duration::from_millis(1);
    let running = tokio::spawn(exporter.run(Arc::clone(&queue)));
    queue.push(&Submission::share(spans(0..2)));
    tokio::time::timeout(Duration::from_mins(1), async {
        while queue.ledger().report().sent < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();

    queue.push(&Submission::share(spans(2..3)));
    queue.close();
    running.await.unwrap();
    let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("trace 0").count(), 3, "{text}");
    assert_eq!(queue.ledger().report().sent, 3);
}

#[tokio::test]
async fn a_closed_terminal_is_counted() {
    let queue = queue();
    queue.push(&Submission::share(spans(0..2)));
    queue.close();
    exporter(Closed).run(Arc::clone(&queue)).await;
    let report = queue.ledger().report();
    assert_eq!((report.sent, report.dropped(DropReason::Unwritable)), (0, 2));
}
