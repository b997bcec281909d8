//! How much memory a span takes, near enough for the bounds of queues.

use std::borrow::Cow;
use std::mem::size_of;

use smol_str::SmolStr;

use super::{Link, Span, Value};

type Attribute = (Cow<'static, str>, Value);

impl Span {
    /// Bytes of the span with all that it owns. The resource, which spans share, is not counted.
    pub fn footprint(&self) -> usize {
        let name = |name: &Cow<'_, str>| if let Cow::Owned(name) = name { name.len() } else { 0 };
        let attributes: usize =
            self.attributes.iter().map(|(key, value)| name(key) + heap(value)).sum();
        let links: usize = self.links.iter().map(link).sum();
        size_of::<Self>()
            + text(&self.name)
            + text(&self.state.0)
            + self.attributes.capacity() * size_of::<Attribute>()
            + attributes
            + self.links.capacity() * size_of::<Link>()
            + links
    }
}

fn link(link: &Link) -> usize {
    let values: usize = link.attributes.iter().map(|(_, value)| heap(value)).sum();
    link.attributes.capacity() * size_of::<(&str, Value)>() + values
}

fn heap(value: &Value) -> usize {
    match value {
        Value::Text(value) => text(value),
        Value::TextList(list) => {
            list.iter().map(|item| size_of::<String>() + item.capacity()).sum()
        }
        Value::Int(_) | Value::Double(_) | Value::Bool(_) => 0,
    }
}

fn text(text: &SmolStr) -> usize {
    if text.is_heap_allocated() { text.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures::span;

    #[test]
    fn what_a_span_owns_counts() {
        let small = span(1);
        let long = "x".repeat(1_000);
        let least = small.footprint();
        assert!(least >= size_of::<Span>());
        let grown = |change: &dyn Fn(&mut Span)| {
            let mut span = small.clone();
            change(&mut span);
            span.footprint() - least
        };
        assert!(grown(&|span| span.name = long.as_str().into()) >= 1_000);
        assert!(grown(&|span| span.state.0 = long.clone().into()) >= 1_000);
        let value = |value: Value| grown(&|span| span.attributes.push(("a".into(), value.clone())));
        assert!(value(Value::Text(long.as_str().into())) >= 1_000);
        assert!(value(Value::TextList(vec![long.clone(), long.clone()])) >= 2_000);
        assert!(value(Value::Int(1)) < 1_000);
        let owned = |span: &mut Span| span.attributes.push((long.clone().into(), Value::Int(1)));
        assert!(grown(&owned) >= 1_000);
    }
}
