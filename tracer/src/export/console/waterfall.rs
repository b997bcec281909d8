//! Draws one trace: a tree of spans on the left, their bars on a shared time axis on the right.

use std::borrow::Borrow;
use std::fmt::Write;

use super::tree::{Row, rows};
use crate::trace::semconv::attribute::{ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE};
use crate::trace::{Span, SpanKind, Status, Value};

/// Below this the columns do not fit.
const MIN_WIDTH: usize = 60;
const KIND_WIDTH: usize = 6;
const DURATION_WIDTH: usize = 8;
/// Blanks between the five columns.
const GAPS: usize = 4;
/// Marks a span whose parent is not among those drawn.
const ORPHAN: &str = "↑ ";
const ERROR: &str = "✗ ";

/// The spans of one trace as lines of at most `width` columns, each ended by a newline.
///
/// Spans may come in any order. With `colour`, ANSI escapes colour services and errors. Control
/// characters in names are replaced, so that no traced program writes to the terminal.
pub fn render<S: Borrow<Span>>(spans: &[S], width: usize, colour: bool) -> String {
    let spans: Vec<&Span> = spans.iter().map(Borrow::borrow).collect();
    let Some(first) = spans.first() else { return String::new() };
    let mut services = Vec::new();
    for span in &spans {
        if !services.contains(&span.resource.service.as_str()) {
            services.push(&span.resource.service);
        }
    }
    let rows = rows(&spans);
    let width = width.max(MIN_WIDTH);
    let axis = Axis::of(&spans);
    let columns = Columns::fit(&rows, width);

    let mut drawing = String::new();
    let mut header = Line::new(&mut drawing, width, colour);
    header.put(&format!("trace {}", first.trace), Some(Style::Bold));
    header.put(&summary(&spans, &rows, services.len(), axis), None);
    header.end();
    for row in &rows {
        let service = services.iter().position(|name| **name == row.span.resource.service);
        let style = Style::service(service.unwrap_or(0));
        draw(row, columns, axis, style, Line::new(&mut drawing, width, colour));
    }
    drawing
}

fn summary(spans: &[&Span], rows: &[Row<'_>], services: usize, axis: Axis) -> String {
    let count = |count: usize, what: &str| {
        format!(" · {count} {what}{}", if count == 1 { "" } else { "s" })
    };
    let errors = spans.iter().filter(|span| span.status == Status::Error).count();
    let mut text = count(spans.len(), "span") + &count(services, "service");
    // Writing to a `String` does not fail.
    let _ = write!(text, " · {}", duration_text(axis.length));
    if errors > 0 {
        text += &count(errors, "error");
    }
    if rows.iter().any(|row| row.orphan) {
        text += " · ↑ orphan";
    }
    text
}

fn draw(row: &Row<'_>, columns: Columns, axis: Axis, service: Style, mut line: Line<'_>) {
    let failed = row.span.status == Status::Error;
    let mut label = line.part(columns.label);
    label.put(&guides(&row.last_at, columns.label), Some(Style::Dim));
    if row.orphan {
        label.put(ORPHAN, Some(Style::Dim));
    }
    label.put(&row.span.resource.service, Some(service));
    label.put(" ", None);
    label.put(&row.span.name, None);
    label.fill();
    line.put(" ", None);

    let kind = match row.span.kind {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
    };
    line.part(KIND_WIDTH).put(kind, Some(Style::Dim));
    line.put(" ", None);

    let mut status = line.part(columns.status);
    status.put(&status_text(row.span), failed.then_some(Style::Error));
    status.fill();
    line.put(" ", None);

    let duration = duration_text(row.span.end.saturating_sub(row.span.start));
    let indent = DURATION_WIDTH.saturating_sub(duration.chars().count());
    line.put(&" ".repeat(indent), None);
    line.put(&duration, None);
    line.put(" ", None);

    let (blank, bar) = axis.bar(row.span, columns.bar);
    line.put(&" ".repeat(blank), None);
    line.put(&bar, Some(if failed { Style::Error } else { service }));
    line.end();
}

/// Widths of the columns that depend on the spans.
#[derive(Clone, Copy, Debug)]
struct Columns {
    label: usize,
    status: usize,
    bar: usize,
}

impl Columns {
    fn fit(rows: &[Row<'_>], width: usize) -> Self {
        let label = rows.iter().map(label_width).max().unwrap_or(0).min(width * 45 / 100);
        let status = rows.iter().map(|row| status_text(row.span).chars().count());
        let status = status.max().unwrap_or(0).min(width / 5);
        let others = label + KIND_WIDTH + status + DURATION_WIDTH + GAPS;
        Self { label, status, bar: width.saturating_sub(others).max(1) }
    }
}

fn label_width(row: &Row<'_>) -> usize {
    let text = row.span.resource.service.chars().count() + 1 + row.span.name.chars().count();
    3 * row.last_at.len() + text + if row.orphan { ORPHAN.chars().count() } else { 0 }
}

/// The lines that lead from a span's ancestors to it. Deep ones lose their outer part, so that
/// half of the column stays for the name.
fn guides(last_at: &[bool], width: usize) -> String {
    let Some((last, ancestors)) = last_at.split_last() else { return String::new() };
    let mut guides = String::new();
    for ancestor_is_last in ancestors {
        guides.push_str(if *ancestor_is_last { "   " } else { "│  " });
    }
    guides.push_str(if *last { "└─ " } else { "├─ " });
    let excess = guides.chars().count().saturating_sub(width / 2);
    if excess == 0 {
        return guides;
    }
    std::iter::once('…').chain(guides.chars().skip(excess + 1)).collect()
}

/// The status code, or what went wrong without one.
fn status_text(span: &Span) -> String {
    let find = |name| span.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let what = match (find(HTTP_RESPONSE_STATUS_CODE), find(ERROR_TYPE)) {
        (Some(Value::Int(code)), Some(Value::Text(error))) if *error != code.to_string() => {
            error.to_string()
        }
        (Some(Value::Int(code)), _) => code.to_string(),
        (_, Some(Value::Text(error))) => error.to_string(),
        _ => "-".to_owned(),
    };
    if span.status == Status::Error { format!("{ERROR}{what}") } else { what }
}

/// Three digits and a unit, in at most [`DURATION_WIDTH`] columns.
fn duration_text(nanos: u64) -> String {
    let scaled = |unit: f64, name: &str| {
        let value = nanos as f64 / unit;
        let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        format!("{value:.decimals$} {name}")
    };
    let seconds = nanos / 1_000_000_000;
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => scaled(1e3, "µs"),
        1_000_000..1_000_000_000 => scaled(1e6, "ms"),
        _ if seconds < 60 => scaled(1e9, "s"),
        _ if seconds < 3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

/// The time that all bars share.
#[derive(Clone, Copy, Debug)]
struct Axis {
    start: u64,
    length: u64,
}

impl Axis {
    fn of(spans: &[&Span]) -> Self {
        let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
        let end = spans.iter().map(|span| span.end).max().unwrap_or(0);
        Self { start, length: end.saturating_sub(start) }
    }

    /// Blank columns before a span's bar, and the bar in half columns, at least one of them.
    fn bar(self, span: &Span, columns: usize) -> (usize, String) {
        let halves = 2 * columns as u128;
        let length = u128::from(self.length.max(1));
        let position = |time: u64| u128::from(time.saturating_sub(self.start)) * halves;
        let from = (position(span.start) / length).min(halves - 1) as usize;
        let to = (position(span.end).div_ceil(length).min(halves) as usize).max(from + 1);
        let bar = (from / 2..to.div_ceil(2))
            .map(|column| match (2 * column >= from, 2 * column + 1 < to) {
                (true, true) => '█',
                (true, false) => '▌',
                (false, _) => '▐',
            })
            .collect();
        (from / 2, bar)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bold,
    Dim,
    Error,
    /// An ANSI foreground colour.
    Colour(u8),
}

impl Style {
    /// Services are told apart by the order in which they appear.
    fn service(index: usize) -> Self {
        const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 96];
        Self::Colour(COLOURS[index % COLOURS.len()])
    }

    fn code(self) -> u8 {
        match self {
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Error => 31,
            Self::Colour(code) => code,
        }
    }
}

/// A line, or a column of it, that takes no more than its width.
struct Line<'a> {
    drawing: &'a mut String,
    room: usize,
    colour: bool,
}

impl<'a> Line<'a> {
    fn new(drawing: &'a mut String, width: usize, colour: bool) -> Self {
        Self { drawing, room: width, colour }
    }

    /// The next `width` columns as a line of their own.
    fn part(&mut self, width: usize) -> Line<'_> {
        let width = width.min(self.room);
        self.room -= width;
        Line { drawing: self.drawing, room: width, colour: self.colour }
    }

    /// Appends text; what does not fit is cut and shown as cut.
    fn put(&mut self, text: &str, style: Option<Style>) {
        if self.room == 0 || text.is_empty() {
            return;
        }
        let style = style.filter(|_| self.colour);
        if let Some(style) = style {
            // Writing to a `String` does not fail.
            let _ = write!(self.drawing, "\x1b[{}m", style.code());
        }
        let length = text.chars().count();
        let kept = if length <= self.room { length } else { self.room - 1 };
        self.drawing
            .extend(text.chars().take(kept).map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        self.room -= kept;
        if kept < length {
            self.drawing.push('…');
            self.room = 0;
        }
        if style.is_some() {
            self.drawing.push_str("\x1b[0m");
        }
    }

    fn fill(&mut self) {
        self.put(&" ".repeat(self.room), None);
    }

    fn end(self) {
        self.drawing.push('\n');
    }
}

#[cfg(test)]
mod tests;
