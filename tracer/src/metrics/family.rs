//! A metric and its values at one moment, independent of how they are written.

use crate::histogram::Distribution;

/// What values are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// So many of what the name says, in the spelling of UCUM: `{span}`.
    Count(&'static str),
}

/// Attributes of a value, by their OpenTelemetry names.
pub type Labels = Vec<(&'static str, String)>;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// Only ever grows.
    Counter(u64),
    /// The same in fractions.
    Seconds(f64),
    /// Goes up and down.
    Gauge(f64),
    /// How often which sizes occurred.
    Histogram(Box<Distribution>),
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The traced service that it is about; `None` for the agent itself.
    pub service: Option<String>,
    /// What tells it from others of the metric.
    pub labels: Labels,
    /// The value.
    pub number: Number,
}

impl Point {
    /// A value about the agent.
    pub fn of_agent(labels: Labels, number: Number) -> Self {
        Self { service: None, labels, number }
    }
}

/// A metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// OpenTelemetry name.
    pub name: &'static str,
    /// What it tells, in one sentence.
    pub help: &'static str,
    /// What it is measured in.
    pub unit: Unit,
    /// All values; those of one family are all of the same kind.
    pub points: Vec<Point>,
}

impl Family {
    /// A metric without values.
    pub fn new(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self { name, help, unit, points: Vec::new() }
    }

    /// With one value about the agent that has no labels.
    #[must_use]
    pub fn with(mut self, number: Number) -> Self {
        self.points.push(Point::of_agent(Vec::new(), number));
        self
    }

    /// With values about the agent, each told from the others by one label.
    #[must_use]
    pub fn by<K: Into<String>>(
        mut self,
        label: &'static str,
        values: impl IntoIterator<Item = (K, Number)>,
    ) -> Self {
        let points = values
            .into_iter()
            .map(|(key, number)| Point::of_agent(vec![(label, key.into())], number));
        self.points.extend(points);
        self
    }
}
