//! The section `tracer:`: every option of the command line by its name, with `_` for `-`.
//!
//! What the file says becomes the option's default. So a value passes through the same parser as
//! on the command line, and an option is one of the file as soon as there is one of the command line.

use std::error::Error as _;

use clap::{Arg, ArgAction, Command};

use super::document::{Node, Position, Scalar, Value};
use super::{FileError, FileOption};
use crate::config::suggestion::unknown;

/// Options that choose a file, which a file cannot.
const OF_THE_COMMAND_LINE: [&str; 4] = ["config", "help", "version", "json"];

/// The options of `command` that a file may set.
pub(in crate::config) fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| {
        argument.get_long().is_some_and(|name| !OF_THE_COMMAND_LINE.contains(&name))
    })
}

/// The key of an option.
pub(in crate::config) fn key(argument: &Arg) -> String {
    argument.get_long().unwrap_or_default().replace('-', "_")
}

/// Reads the section, checking every value. Gives all mistakes, not the first.
pub(super) fn read(section: &Node, command: &Command) -> Result<Vec<FileOption>, Vec<FileError>> {
    let Value::Map(entries) = &section.value else {
        if section.value == Value::Scalar(String::new(), Scalar::Null) {
            return Ok(Vec::new());
        }
        let message = format!("`tracer` is {}; expected a mapping of options", section.kind());
        return Err(vec![FileError::at(section.position, message)]);
    };
    let (mut options, mut errors) = (Vec::new(), Vec::new());
    for (name, node) in entries {
        match option(&name.text, name.position, node, command) {
            Ok(option) => options.push(option),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(options) } else { Err(errors) }
}

fn option(
    name: &str,
    position: Position,
    node: &Node,
    command: &Command,
) -> Result<FileOption, FileError> {
    let Some(argument) = settable(command).find(|argument| key(argument) == name) else {
        let known: Vec<String> = settable(command).map(key).collect();
        let message = unknown("option", name, known.iter().map(String::as_str));
        return Err(FileError::at(position, message));
    };
    let values = values(node, argument)?;
    let option = FileOption {
        name: argument.get_long().unwrap_or_default().to_owned(),
        values,
        position: node.position,
    };
    check(&option, command)?;
    Ok(option)
}

fn values(node: &Node, argument: &Arg) -> Result<Vec<String>, FileError> {
    let expected = |what: &str| {
        Err(FileError::at(node.position, format!("this is {}; expected {what}", node.kind())))
    };
    let list = matches!(argument.get_action(), ArgAction::Append);
    match (&node.value, argument.get_action()) {
        (Value::Scalar(_, Scalar::Null), _) => expected("a value"),
        (Value::Scalar(_, Scalar::Bool(value)), ArgAction::SetTrue) => Ok(vec![value.to_string()]),
        (_, ArgAction::SetTrue) => expected("true or false"),
        (Value::Scalar(text, _), _) => Ok(vec![text.clone()]),
        (Value::List(items), _) if list => items
            .iter()
            .map(|item| match &item.value {
                Value::Scalar(_, Scalar::Null) | Value::List(_) | Value::Map(_) => {
                    let message = format!("this is {}; expected text or a number", item.kind());
                    Err(FileError::at(item.position, message))
                }
                Value::Scalar(text, _) => Ok(text.clone()),
            })
            .collect(),
        _ => expected(if list { "a value or a list of them" } else { "one value" }),
    }
}

/// Has the option's own parser judge the values, with nothing else in its way.
fn check(option: &FileOption, command: &Command) -> Result<(), FileError> {
    let alone = |argument: Arg| argument.env(clap::builder::Resettable::Reset);
    let command = command.clone().mut_args(alone).no_binary_name(true);
    let command = with_defaults(command, std::slice::from_ref(option));
    let Err(error) = command.try_get_matches_from(std::iter::empty::<&str>()) else {
        return Ok(());
    };
    let message = error.source().map_or_else(|| shortened(&error.to_string()), ToString::to_string);
    Err(FileError::at(option.position, message))
}

/// Without what is meant for terminals: `error: invalid value … [possible values: …]`.
fn shortened(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("For more"));
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// Makes what the file says the defaults of a command and those below it.
pub(super) fn with_defaults(command: Command, options: &[FileOption]) -> Command {
    let set = |argument: Arg| {
        let named = options.iter().find(|option| argument.get_long() == Some(option.name.as_str()));
        match named {
            Some(option) if !option.values.is_empty() => {
                argument.default_values(option.values.clone())
            }
            _ => argument,
        }
    };
    command.mut_args(set).mut_subcommands(|command| with_defaults(command, options))
}
