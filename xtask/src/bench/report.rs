//! Results: tables for people, and the same figures by stable names for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// Outcome of one benchmark.
pub(crate) struct Report {
    name: &'static str,
    /// What was compared with what, and under which conditions.
    conditions: Vec<String>,
    tables: Vec<Table>,
    figures: BTreeMap<String, f64>,
    /// What could not be measured.
    failed: Vec<String>,
}

/// A table with a title; the first column is text, the others are right-aligned.
pub(crate) struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Report {
    pub(crate) fn new(name: &'static str, conditions: Vec<String>) -> Self {
        Self { name, conditions, tables: Vec::new(), figures: BTreeMap::new(), failed: Vec::new() }
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds a figure; the name says its unit.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.insert(name.into(), value);
    }

    /// Notes that something could not be measured.
    pub(crate) fn failed(&mut self, name: &str) {
        self.failed.push(name.to_owned());
    }

    /// Fails, naming it, if something could not be measured.
    pub(crate) fn check_complete(&self) -> Result<()> {
        ensure!(self.failed.is_empty(), "could not measure {}", self.failed.join(", "));
        Ok(())
    }

    /// Conditions and tables for a document.
    pub(crate) fn markdown(&self) -> String {
        let mut text = self.conditions.join("\n\n") + "\n";
        for table in &self.tables {
            text.push('\n');
            text += &table.markdown();
        }
        text
    }

    /// Writes the figures; names are stable from version to version.
    pub(crate) fn write_json(&self, file: &Path) -> Result<()> {
        let json = json!({
            "benchmark": self.name,
            "conditions": self.conditions,
            "figures": self.figures,
        });
        fs::write(file, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, header: &[&str]) -> Self {
        let header = header.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.into(), rows: vec![header] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("{}:\n\n", self.title);
        for (index, row) in self.rows.iter().enumerate() {
            text += &line(row);
            if index == 0 {
                text += &line(&vec!["---".to_owned(); row.len()]);
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.conditions {
            writeln!(f, "{condition}")?;
        }
        self.tables.iter().try_for_each(|table| write!(f, "\n{table}"))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "  {cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The middle value, or the mean of the two middle ones; zero of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_outliers() {
        assert!((median([9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median([]).abs() < f64::EPSILON);
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new("t", &["variant", "req/s"]);
        table.row(vec!["untraced".to_owned(), "7".to_owned()]);
        assert_eq!(table.to_string(), "t\n  variant   req/s\n  untraced      7\n");
        let markdown = "t:\n\n| variant | req/s |\n| --- | --- |\n| untraced | 7 |\n";
        assert_eq!(table.markdown(), markdown);
    }
}
