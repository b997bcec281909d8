//! A line of text that shows how a value went.

use super::report::median;

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One character for each of at most `columns` parts of the series: the median of its values,
/// between zero and `top`.
pub(crate) fn line(series: &[f64], columns: usize, top: f64) -> String {
    let width = series.len().div_ceil(columns.max(1)).max(1);
    let height = |part: &[f64]| {
        let share = median(part.iter().copied()) / top.max(f64::MIN_POSITIVE);
        ((share * LEVELS.len() as f64) as usize).min(LEVELS.len() - 1)
    };
    series.chunks(width).map(|part| LEVELS[height(part)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_medians_of_parts_from_zero_to_the_top() {
        assert_eq!(line(&[0.0, 50.0, 100.0], 3, 100.0), "▁▅█");
        assert_eq!(line(&[1.0, 1.0, 9.0, 1.0, 8.0, 8.0], 2, 8.0), "▂█");
        assert_eq!(line(&[], 10, 8.0), "");
        assert_eq!(line(&[0.0], 10, 0.0), "▁");
    }
}
