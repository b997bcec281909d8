use super::*;
use crate::export::fixtures::{resource, span};
use crate::trace::context::{SpanId, TraceId};

const MILLISECOND: u64 = 1_000_000;

/// A span of one trace; times in milliseconds.
fn row(
    (id, parent): (u8, u8),
    service: &str,
    name: &str,
    kind: SpanKind,
    (start, end): (u64, u64),
    status: i64,
) -> Span {
    Span {
        trace: TraceId([0xab; 16]),
        id: SpanId([id; 8]),
        parent: (parent > 0).then_some(SpanId([parent; 8])),
        name: name.to_owned().into(),
        kind,
        start: start * MILLISECOND,
        end: end * MILLISECOND,
        status: if status >= 400 { Status::Error } else { Status::Unset },
        attributes: vec![(HTTP_RESPONSE_STATUS_CODE.into(), Value::Int(status))],
        resource: resource(1, service),
        ..span(0)
    }
}

fn shop() -> Vec<Span> {
    use SpanKind::{Client, Server};
    vec![
        row((1, 0), "nginx", "GET", Server, (100, 200), 200),
        row((2, 1), "nginx", "GET", Client, (105, 195), 200),
        row((3, 2), "shop", "GET /cart/{id}", Server, (110, 190), 200),
        row((4, 3), "shop", "GET", Client, (120, 140), 200),
        row((5, 4), "stock", "GET", Server, (122, 138), 200),
        row((6, 3), "shop", "POST", Client, (150, 185), 503),
    ]
}

#[test]
fn a_trace_reads_as_a_tree_beside_its_time_axis() {
    let drawing = render(&shop(), 100, false);
    let expected = format!(
        "\
trace {} · 6 spans · 3 services · 100 ms · 1 error
nginx GET                 server 200     100 ms {}
└─ nginx GET              client 200    90.0 ms   ▐{}▌
   └─ shop GET /cart/{{id}} server 200    80.0 ms      {}
      ├─ shop GET         client 200    20.0 ms           {}
      │  └─ stock GET     server 200    16.0 ms            {}
      └─ shop POST        client ✗ 503  35.0 ms                           {}▌
",
        "ab".repeat(16),
        "█".repeat(52),
        "█".repeat(46),
        "█".repeat(42),
        "█".repeat(11),
        "█".repeat(9),
        "█".repeat(18),
    );
    assert_eq!(drawing, expected);
}

#[test]
fn lines_never_exceed_the_width_and_long_names_are_cut() {
    let mut spans = shop();
    spans[2].name = format!("GET /{}", "very-long/".repeat(30)).into();
    spans[5].resource = resource(2, &"service".repeat(20));
    spans[5].attributes.push((ERROR_TYPE.into(), Value::Text("connection_reset".into())));
    for width in [60, 80, 100, 180] {
        let drawing = render(&spans, width, false);
        let widest = drawing.lines().map(|line| line.chars().count()).max().unwrap();
        assert_eq!(widest, width, "the root's bar reaches the edge\n{drawing}");
        assert_eq!(drawing.lines().count(), 7);
        assert!(drawing.contains('…'));
    }
}

#[test]
fn the_order_of_spans_does_not_matter() {
    let mut reversed = shop();
    reversed.reverse();
    let lines = |spans: &[Span]| {
        render(spans, 100, false).lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&reversed), lines(&shop()));
}

#[test]
fn orphans_are_roots_with_a_mark() {
    let spans = shop();
    let drawing = render(&spans[2..], 100, false);
    let lines: Vec<_> = drawing.lines().collect();
    assert!(lines[0].ends_with("↑ orphan"), "{drawing}");
    assert!(lines[1].starts_with("↑ shop GET /cart/{id}"), "{drawing}");
    assert!(lines[2].starts_with("├─ shop GET"), "{drawing}");
}

#[test]
fn colour_adds_escapes_and_nothing_else() {
    let coloured = render(&shop(), 100, true);
    assert!(coloured.contains("\x1b[31m✗ 503\x1b[0m"));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, escape)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = escape.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain, render(&shop(), 100, false));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut spans = shop();
    spans[0].resource = resource(2, "evil\x1b[2J\r\n");
    let drawing = render(&spans, 100, false);
    assert!(drawing.chars().all(|c| c == '\n' || !c.is_control()), "{drawing:?}");
    assert_eq!(drawing.lines().count(), 7);
}

#[test]
fn failures_without_a_status_show_their_type() {
    let mut spans = shop();
    let reset = (ERROR_TYPE.into(), Value::Text("connection_reset".into()));
    spans[5].attributes = vec![reset.clone()];
    assert!(render(&spans, 100, false).contains("✗ connection_reset"));
    spans[5].attributes = vec![(HTTP_RESPONSE_STATUS_CODE.into(), Value::Int(200)), reset];
    assert!(render(&spans, 100, false).contains("✗ connection_reset"));
    spans[5].attributes.clear();
    spans[5].status = Status::Unset;
    assert!(render(&spans, 100, false).contains(" - "));
}

#[test]
fn durations_have_three_digits() {
    let rows = [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (12_340, "12.3 µs"),
        (873_000, "873 µs"),
        (24_100_000, "24.1 ms"),
        (1_234_000_000, "1.23 s"),
        (59_999_999_999, "60.0 s"),
        (123_000_000_000, "2m 03s"),
        (11_100_000_000_000, "3h 05m"),
    ];
    for (nanos, text) in rows {
        assert_eq!(duration_text(nanos), text);
        assert!(text.chars().count() <= DURATION_WIDTH);
    }
}

#[test]
fn every_bar_is_visible_and_inside_the_axis() {
    let axis = Axis { start: 100, length: 1_000 };
    let bar = |start, end| axis.bar(&Span { start, end, ..span(0) }, 10);
    assert_eq!(bar(100, 1_100), (0, "█".repeat(10)));
    assert_eq!(bar(100, 100), (0, "▌".into()));
    assert_eq!(bar(1_100, 1_100), (9, "▐".into()));
    assert_eq!(bar(150, 250), (0, "▐▌".into()));
    assert_eq!(bar(150, 200), (0, "▐".into()));
    let instant = Axis { start: 5, length: 0 };
    assert_eq!(instant.bar(&Span { start: 5, end: 5, ..span(0) }, 10), (0, "▌".into()));
    assert_eq!(render(&[] as &[Span], 100, false), "");
}
