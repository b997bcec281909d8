//! The JSON schema of configuration files, for editors.

use clap::{Arg, ArgAction};
use serde_json::{Value as Json, json};

use super::file::{declarative_schema, key, settable};
use super::load::run_command;

/// The schema: OpenTelemetry's part from its types, the agent's own from the command line.
pub fn schema() -> Json {
    let mut schema = declarative_schema().to_value();
    let command = run_command();
    let own: serde_json::Map<String, Json> =
        settable(&command).map(|argument| (key(argument), property(argument))).collect();
    schema["title"] = json!("Configuration of tracer");
    schema["properties"]["tracer"] = json!({
        "description": "Options of the command line, by name",
        "type": ["object", "null"],
        "properties": own,
        "additionalProperties": false,
    });
    schema
}

fn property(argument: &Arg) -> Json {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let scalar = json!({ "type": ["string", "number"] });
    let words: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|word| !word.is_hide_set())
        .map(|word| word.get_name().to_owned())
        .collect();
    let mut property = match argument.get_action() {
        ArgAction::SetTrue => json!({ "type": "boolean" }),
        ArgAction::Append => json!({ "anyOf": [scalar, { "type": "array", "items": scalar }] }),
        _ if !words.is_empty() => json!({ "enum": words }),
        _ => scalar,
    };
    property["description"] = json!(help);
    property
}
