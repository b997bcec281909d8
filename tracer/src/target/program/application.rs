//! Programs that run somebody else's application: gunicorn, uvicorn, flask, celery, puma, ….

use super::naming::Candidate;

/// Application servers whose application is a `module:attribute` argument.
const BY_ARGUMENT: &[&str] =
    &["daphne", "granian", "gunicorn", "hypercorn", "uvicorn", "waitress-serve"];

/// Launchers that are told the application by `-A` or `--app`.
const BY_OPTION: &[&str] = &["celery", "flask"];

/// Launchers of whatever project stands in the working directory.
const BY_DIRECTORY: &[&str] =
    &["bundle", "fastapi", "passenger", "puma", "rackup", "thin", "unicorn"];

/// Options of the above that take no value, so that the next argument may be the application.
const FLAGS: &[&str] = &[
    "--access-log",
    "--capture-output",
    "--daemon",
    "--debug",
    "--enable-stdio-inheritance",
    "--factory",
    "--no-access-log",
    "--no-sendfile",
    "--no-use-colors",
    "--preload",
    "--proxy-headers",
    "--reload",
    "--reuse-port",
    "--use-colors",
    "-D",
    "-R",
];

/// The application, if `launcher` (a script's or module's base name) is one that runs some.
pub(super) fn run_by(launcher: &str, arguments: &[String]) -> Option<Candidate> {
    let own_name = || Candidate::Name(launcher.to_owned());
    if BY_ARGUMENT.contains(&launcher) {
        Some(by_argument(arguments).map_or_else(own_name, Candidate::Application))
    } else if BY_OPTION.contains(&launcher) {
        Some(by_option(arguments).unwrap_or_else(own_name))
    } else if BY_DIRECTORY.contains(&launcher) {
        Some(Candidate::Project(launcher.to_owned()))
    } else {
        None
    }
}

/// The last argument that looks like an application and cannot be the value of an option.
fn by_argument(arguments: &[String]) -> Option<String> {
    let takes_value =
        |option: &str| option.starts_with('-') && !option.contains('=') && !FLAGS.contains(&option);
    let positional = |(index, argument): (usize, &String)| {
        let before = index.checked_sub(1).map(|before| &*arguments[before]);
        if before.is_some_and(takes_value) {
            return None;
        }
        let module = argument.split_once(':').map_or(&**argument, |(module, _)| module);
        let factory = argument.split_once(':').is_none_or(|(_, attribute)| {
            attribute.starts_with(|c: char| c.is_alphabetic() || c == '_')
        });
        (factory && is_module(module)).then(|| module.to_owned())
    };
    arguments.iter().enumerate().rev().find_map(positional)
}

fn by_option(arguments: &[String]) -> Option<Candidate> {
    let mut arguments = arguments.iter();
    let value = arguments.find_map(|argument| match argument.as_str() {
        "-A" | "--app" => Some(None),
        other => Some(Some(other.strip_prefix("--app=")?)),
    })?;
    let value = value.or_else(|| arguments.next().map(String::as_str))?;
    let module = value.split(':').next()?;
    if module.contains('/') || module.strip_suffix(".py").is_some() {
        Some(Candidate::Path(module.to_owned()))
    } else {
        is_module(module).then(|| Candidate::Application(module.to_owned()))
    }
}

/// Dotted identifiers.
pub(super) fn is_module(text: &str) -> bool {
    text.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}
