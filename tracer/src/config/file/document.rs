//! YAML as a tree that knows where each value stands, so that every mistake can be pointed at.
//!
//! Variables are put in while scalars are read, after the structure is fixed: what a variable holds
//! can never become structure. Anchors and aliases are refused: no configuration needs them, and
//! they make small files large.

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::FileError;
use super::substitution::substitute;

/// Levels of nesting; a configuration has about ten.
const MAX_DEPTH: usize = 64;

/// Where something stands, both counted from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// As it was written, without quotes, and what that is in YAML's core schema.
    Scalar(String, Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) position: Position,
}

impl Node {
    /// Reads a file of one document; `variable` answers what `${…}` asks for.
    pub(super) fn read(
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, FileError> {
        let mut reader = Reader { parser: Parser::new_from_str(text), variable };
        let mut root = None;
        loop {
            let (event, span) = reader.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                _ if root.is_some() => {
                    return Err(FileError::at(
                        start(span),
                        "one document is enough; remove this one",
                    ));
                }
                event => root = Some(reader.node(event, span, 0)?),
            }
        }
        Ok(root.unwrap_or(Self {
            position: Position { line: 1, column: 1 },
            value: Value::Scalar(String::new(), Scalar::Null),
        }))
    }

    /// The value below keys and indices that are separated by dots.
    pub(super) fn find(&self, path: &str) -> Option<&Self> {
        path.split('.').filter(|step| !step.is_empty()).try_fold(self, |node, step| {
            match &node.value {
                Value::Scalar(..) => None,
                Value::List(items) => items.get(step.parse::<usize>().ok()?),
                Value::Map(entries) => {
                    entries.iter().find(|(key, _)| key.text == step).map(|(_, node)| node)
                }
            }
        })
    }

    /// Takes an entry out of a mapping.
    pub(super) fn take(&mut self, name: &str) -> Option<(Key, Self)> {
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|(key, _)| key.text == name)?;
        Some(entries.remove(index))
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(_, Scalar::Null) => "nothing",
            Value::Scalar(_, Scalar::Bool(_)) => "true or false",
            Value::Scalar(_, Scalar::Int(_) | Scalar::Float(_)) => "a number",
            Value::Scalar(_, Scalar::Text) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), FileError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let mark = error.marker();
                let position = Position { line: mark.line(), column: mark.col() + 1 };
                Err(FileError::at(position, format!("this is not YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, FileError> {
        let position = start(span);
        if depth > MAX_DEPTH {
            return Err(FileError::at(position, "nested too deeply"));
        }
        let value = match event {
            Event::Scalar(text, style, anchor, _) => {
                refuse_anchor(anchor, position)?;
                let text = substitute(&text, self.variable)
                    .map_err(|error| FileError::at(position, error.to_string()))?;
                let kind =
                    if style == ScalarStyle::Plain { Scalar::of(&text) } else { Scalar::Text };
                Value::Scalar(text, kind)
            }
            Event::SequenceStart(anchor, _) => {
                refuse_anchor(anchor, position)?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd | Event::StreamEnd, _) => break Value::List(items),
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(anchor, _) => {
                refuse_anchor(anchor, position)?;
                self.mapping(depth)?
            }
            Event::Alias(_) => {
                return Err(FileError::at(position, "aliases are not supported; write it out"));
            }
            _ => return Err(FileError::at(position, "this is not YAML")),
        };
        Ok(Node { position, value })
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, FileError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd | Event::StreamEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => Key { text: text.into_owned(), position: start(span) },
                _ => return Err(FileError::at(start(span), "a key is a word, not a structure")),
            };
            if let Some((first, _)) = entries.iter().find(|(earlier, _)| earlier.text == key.text) {
                let message = format!(
                    "`{}` stands here twice, first in line {}",
                    key.text, first.position.line
                );
                return Err(FileError::at(key.position, message));
            }
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            entries.push((key, node));
        }
    }
}

fn refuse_anchor(anchor: usize, position: Position) -> Result<(), FileError> {
    if anchor == 0 {
        return Ok(());
    }
    Err(FileError::at(position, "anchors are not supported; write it out where it is needed"))
}

fn start(span: Span) -> Position {
    Position { line: span.start.line().max(1), column: span.start.col() + 1 }
}

impl Scalar {
    /// By the core schema of YAML 1.2: `no` and `off` are texts.
    fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        if let Ok(number) = text.parse() {
            return Self::Int(number);
        }
        let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        match text.parse::<f64>() {
            Ok(number) if numeric && number.is_finite() => Self::Float(number),
            _ => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, FileError> {
        Node::read(text, &|name| (name == "STRANGE").then(|| "a: b\n- c".to_owned()))
    }

    #[test]
    fn everything_knows_its_place() {
        let root = read("a:\n  - b: 1\n    c: \"1\"\n").unwrap();
        let number = root.find("a.0.b").unwrap();
        assert_eq!(number.position, Position { line: 2, column: 8 });
        assert_eq!(number.value, Value::Scalar("1".into(), Scalar::Int(1)));
        let text = root.find("a.0.c").unwrap();
        assert_eq!(text.value, Value::Scalar("1".into(), Scalar::Text));
        assert_eq!(root.find("a.1"), None);
    }

    #[test]
    fn variables_are_values_never_structure() {
        let root = read("a: ${STRANGE}").unwrap();
        assert_eq!(root.find("a").unwrap().value, Value::Scalar("a: b\n- c".into(), Scalar::Text));
    }

    #[test]
    fn mistakes_are_pointed_at() {
        let position = |text: &str| read(text).unwrap_err().position.unwrap().to_string();
        assert_eq!(position("a: 1\na: 2"), "2:1");
        assert_eq!(position("a: [1, 2"), "2:1");
        assert_eq!(position("a: &x 1\nb: *x"), "1:4");
        assert_eq!(position("a: 1\n---\nb: 1"), "3:1");
        assert_eq!(position("? [a]\n: 1"), "1:3");
        assert!(read(&"[".repeat(1_000)).is_err());
    }

    #[test]
    fn no_and_off_are_texts() {
        assert_eq!(Scalar::of("off"), Scalar::Text);
        assert_eq!(Scalar::of("nan"), Scalar::Text);
        assert_eq!(Scalar::of("inf"), Scalar::Text);
        assert_eq!(Scalar::of("0.5"), Scalar::Float(0.5));
        assert_eq!(Scalar::of("-1"), Scalar::Int(-1));
        assert_eq!(Scalar::of(""), Scalar::Null);
    }
}
