//! Keeps the tables in `docs/links.md` up to date, between two marks.

use std::fs;

use anyhow::{Context, Result};
use tracer_tests::layout;

use crate::bench::report::Report;

/// In the workspace.
pub(crate) const FILE: &str = "docs/links.md";
const BEGIN: &str = "<!-- bench links: begin -->\n";
const END: &str = "<!-- bench links: end -->\n";

/// Replaces what stands between the marks.
pub(crate) fn write(report: &Report) -> Result<()> {
    let file = layout::workspace().join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {FILE}"))?;
    let text = replaced(&text, &report.markdown())
        .with_context(|| format!("{FILE} lacks a line {BEGIN:?} or {END:?}"))?;
    fs::write(&file, text).with_context(|| format!("cannot write {FILE}"))
}

fn replaced(text: &str, generated: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{generated}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(replaced(&text, "new\n"), Some(format!("a\n{BEGIN}new\n{END}b\n")));
        assert_eq!(replaced("a\nb\n", "new\n"), None);
    }
}
