//! Whatever stands in a configuration file, reading it ends, and ends the same each time; what is
//! wrong is told with a place inside the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::config::check_text;

fuzz_target!(|text: &str| {
    let Err(mistakes) = check_text(text) else { return };
    assert!(!mistakes.is_empty());
    // An end may be told as the line after the last one.
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
    for mistake in mistakes {
        let position = mistake.position.expect("a place");
        assert!((1..=lines).contains(&position.line), "{position} of {lines} lines");
        assert!(position.column >= 1 && !mistake.message.is_empty());
    }
});
