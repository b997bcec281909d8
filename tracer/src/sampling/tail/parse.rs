//! The text form of policies: `error or latency>1s or probability 1%`.
//!
//! ```text
//! policy    = both { "or" both }
//! both      = condition { "and" condition }
//! condition = "not" condition | "(" policy ")" | "always" | "error"
//!           | "latency" ">" DURATION
//!           | "probability" PART
//!           | "rate" NUMBER ( "traces/s" | "spans/s" )
//!           | "attribute" NAME [ ( "=" | "!=" | "~" | ">" | ">=" | "<" | "<=" ) VALUE ]
//!           | "route" [ "=" ] PATTERN
//!           | "service" [ "=" ] NAME [ "(" policy ")" ]
//! ```
//!
//! Names and values with blanks, brackets or signs of comparison stand in quotes of either kind.

use std::fmt;
use std::str::FromStr;

use super::attribute::{AttributeTest, Test};
use super::policy::{Policy, PolicyError, ServicePolicy};
use super::rate::{Rate, RateUnit};

/// Brackets and `not` within each other, at most.
const MAX_DEPTH: usize = 32;

/// Why a text is no policy, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The whole text.
    text: String,
    /// Byte where the trouble begins.
    at: usize,
    what: String,
}

impl ParseError {
    /// Character where the trouble begins, counted from one.
    pub fn column(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, what, .. } = self;
        let column = self.column();
        write!(f, "column {column}: {what}\n  {text}\n  {:>column$}", '^')
    }
}

impl FromStr for Policy {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let tokens = tokens(text)?;
        let mut parser = Parser { text, tokens: &tokens, depth: 0 };
        let policy = parser.policy()?;
        match parser.tokens.first() {
            None => Ok(policy),
            Some(token) if token.kind == Kind::Close => {
                Err(parser.error("no bracket is open here"))
            }
            Some(_) => Err(parser.error("expected `and`, `or` or the end")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'a> {
    at: usize,
    kind: Kind,
    text: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Quoted,
    Sign,
    Open,
    Close,
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, skipped, len, after) = match first {
            _ if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            '(' => (Kind::Open, 0, 1, 0),
            ')' => (Kind::Close, 0, 1, 0),
            '"' | '\'' => {
                let Some(len) = rest[1..].find(first) else {
                    let what = "this quote is never closed".to_owned();
                    return Err(ParseError { text: text.to_owned(), at, what });
                };
                (Kind::Quoted, 1, len, 1)
            }
            _ if is_sign(first) => {
                (Kind::Sign, 0, rest.find(|c| !is_sign(c)).unwrap_or(rest.len()), 0)
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || is_sign(c) || "()\"'".contains(c);
                (Kind::Word, 0, rest.find(ends).unwrap_or(rest.len()), 0)
            }
        };
        tokens.push(Token { at, kind, text: &rest[skipped..skipped + len] });
        at += skipped + len + after;
    }
    Ok(tokens)
}

fn is_sign(c: char) -> bool {
    matches!(c, '=' | '!' | '<' | '>' | '~')
}

#[derive(Clone, Copy)]
struct Parser<'a, 't> {
    text: &'a str,
    tokens: &'t [Token<'a>],
    depth: usize,
}

impl<'a> Parser<'a, '_> {
    fn policy(&mut self) -> Result<Policy, ParseError> {
        self.chain("or", Self::both, Policy::Or)
    }

    fn both(&mut self) -> Result<Policy, ParseError> {
        self.chain("and", Self::condition, Policy::And)
    }

    fn chain(
        &mut self,
        word: &str,
        next: fn(&mut Self) -> Result<Policy, ParseError>,
        join: fn(Vec<Policy>) -> Policy,
    ) -> Result<Policy, ParseError> {
        let first = next(self)?;
        if !self.take_word(word) {
            return Ok(first);
        }
        let mut all = vec![first, next(self)?];
        while self.take_word(word) {
            all.push(next(self)?);
        }
        Ok(join(all))
    }

    fn condition(&mut self) -> Result<Policy, ParseError> {
        let begin = *self;
        let Some(token) = self.next() else {
            return Err(begin.error(CONDITIONS));
        };
        match (token.kind, token.text) {
            (Kind::Open, _) => self.nested(&begin),
            (Kind::Word, "not") => {
                let policy = self.deeper(&begin, Self::condition)?;
                let policy = Policy::Not(Box::new(policy));
                policy.check().map(|()| policy).map_err(|error: PolicyError| begin.error(error))
            }
            (Kind::Word, "always") => Ok(Policy::Always),
            (Kind::Word, "error" | "errors") => Ok(Policy::Error),
            (Kind::Word, "latency") => {
                if self.sign() != Some(">") {
                    return Err(self.error("expected `>` and a duration, like `latency>1s`"));
                }
                self.tokens = &self.tokens[1..];
                self.value("a duration like 1s or 250ms").map(Policy::Latency)
            }
            (Kind::Word, "probability") => {
                self.value("a part of all traces like 1% or 0.01").map(Policy::Probability)
            }
            (Kind::Word, "rate") => self.rate(),
            (Kind::Word, "attribute") => self.attribute(),
            (Kind::Word, "route") => {
                self.take_equals();
                self.value("a route like '/users/{id}' or '/static/*'").map(Policy::Route)
            }
            (Kind::Word, "service") => {
                self.take_equals();
                let name = self.value("the name of a service, like checkout or 'pay*'")?;
                let begin = *self;
                let policy = match self.tokens.first() {
                    Some(Token { kind: Kind::Open, .. }) => {
                        self.tokens = &self.tokens[1..];
                        self.nested(&begin)?
                    }
                    _ => Policy::Always,
                };
                Ok(Policy::Service(ServicePolicy { name, policy: Box::new(policy) }))
            }
            _ => Err(begin.error(format!("`{}` is no condition; {CONDITIONS}", token.text))),
        }
    }

    /// What follows an opening bracket, up to the closing one.
    fn nested(&mut self, begin: &Self) -> Result<Policy, ParseError> {
        let policy = self.deeper(begin, Self::policy)?;
        match self.tokens.first() {
            Some(Token { kind: Kind::Close, .. }) => {
                self.tokens = &self.tokens[1..];
                Ok(policy)
            }
            Some(_) => Err(self.error("expected `and`, `or` or `)`")),
            None => Err(begin.error("this bracket is never closed")),
        }
    }

    fn deeper(
        &mut self,
        begin: &Self,
        parse: fn(&mut Self) -> Result<Policy, ParseError>,
    ) -> Result<Policy, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(begin.error(format!("more than {MAX_DEPTH} within each other")));
        }
        self.depth += 1;
        let policy = parse(self)?;
        self.depth -= 1;
        Ok(policy)
    }

    fn rate(&mut self) -> Result<Policy, ParseError> {
        const EXAMPLE: &str = "a number and a unit, like `rate 100 traces/s` or `rate 500 spans/s`";
        let begin = *self;
        let limit: f64 = self.value(EXAMPLE)?;
        if !(limit.is_finite() && limit >= 0.0) {
            return Err(begin.error(format!("expected {EXAMPLE}")));
        }
        let unit = if self.take_word("traces/s") {
            RateUnit::Traces
        } else if self.take_word("spans/s") {
            RateUnit::Spans
        } else {
            return Err(self.error("expected `traces/s` or `spans/s`"));
        };
        Ok(Policy::Rate(Rate::new(limit, unit)))
    }

    fn attribute(&mut self) -> Result<Policy, ParseError> {
        let name: String = self.value("the name of an attribute, like http.route")?;
        let begin = *self;
        let Some(sign) = self.sign() else {
            return Ok(Policy::Attribute(AttributeTest { name, test: Test::Exists }));
        };
        self.tokens = &self.tokens[1..];
        let test = match sign {
            "=" => Test::Is(self.value("a value")?),
            "!=" => Test::IsNot(self.value("a value")?),
            "~" => Test::Matches(self.value("a regular expression")?),
            ">" => Test::MoreThan(self.value("a number")?),
            ">=" => Test::AtLeast(self.value("a number")?),
            "<" => Test::LessThan(self.value("a number")?),
            "<=" => Test::AtMost(self.value("a number")?),
            _ => return Err(begin.error("expected one of = != ~ > >= < <=")),
        };
        Ok(Policy::Attribute(AttributeTest { name, test }))
    }

    /// The next word or quoted text, as what it is to be.
    fn value<T: FromStr<Err: fmt::Display>>(&mut self, what: &str) -> Result<T, ParseError> {
        let begin = *self;
        match self.next() {
            Some(Token { kind: Kind::Word | Kind::Quoted, text, .. }) => text
                .parse()
                .map_err(|error| begin.error(format!("expected {what}, but `{text}`: {error}"))),
            _ => Err(begin.error(format!("expected {what}"))),
        }
    }

    fn sign(&self) -> Option<&'a str> {
        self.tokens.first().filter(|token| token.kind == Kind::Sign).map(|token| token.text)
    }

    fn take_equals(&mut self) {
        if self.sign() == Some("=") {
            self.tokens = &self.tokens[1..];
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is = |token: &Token<'_>| token.kind == Kind::Word && token.text == word;
        let taken = self.tokens.first().is_some_and(is);
        if taken {
            self.tokens = &self.tokens[1..];
        }
        taken
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    /// What is wrong with what comes next.
    fn error(&self, what: impl fmt::Display) -> ParseError {
        let at = self.tokens.first().map_or(self.text.len(), |token| token.at);
        ParseError { text: self.text.to_owned(), at, what: what.to_string() }
    }
}

const CONDITIONS: &str = "expected one of always, error, latency, probability, rate, attribute, \
                          route, service, not or a bracket";

#[cfg(test)]
mod tests;
