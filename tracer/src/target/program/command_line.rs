//! The command-line grammars of interpreters, as far as needed to find what they run.

use super::Runtime;
use super::application::{is_module, run_by};
use super::naming::{Candidate, without_jar_version};

/// What an interpreter runs, from its arguments without the zeroth. `None` when it runs code from
/// its command line or standard input, which have no name.
pub(super) fn program(runtime: Runtime, arguments: &[String]) -> Option<Candidate> {
    match runtime {
        Runtime::Python => python(arguments),
        Runtime::Java => java(arguments),
        Runtime::Node => script(arguments, &NODE),
        Runtime::Ruby => script(arguments, &RUBY),
        Runtime::Perl => script(arguments, &PERL),
        Runtime::Php => php(arguments),
        Runtime::Shell => script(arguments, &SHELL),
        Runtime::DotNet => dotnet(arguments),
        Runtime::Deno | Runtime::Bun => subcommand(arguments),
        Runtime::Erlang | Runtime::Go => None,
    }
}

/// The options of an interpreter that decide where its script stands.
struct Grammar {
    /// Options whose value is the next argument.
    with_value: &'static [&'static str],
    /// Options that make it run code without a file.
    code: &'static [&'static str],
}

const NODE: Grammar = Grammar {
    with_value: &[
        "--conditions",
        "--env-file",
        "--experimental-loader",
        "--import",
        "--loader",
        "--require",
        "--title",
        "-C",
        "-r",
    ],
    code: &["--eval", "--print", "-e", "-p", "-pe"],
};
const RUBY: Grammar =
    Grammar { with_value: &["-C", "-E", "-I", "-r", "--encoding"], code: &["-e"] };
const PERL: Grammar = Grammar { with_value: &["-I"], code: &["-e", "-E"] };
const SHELL: Grammar = Grammar { with_value: &["-o", "--rcfile", "--init-file"], code: &["-c"] };
const PHP: Grammar = Grammar { with_value: &["-S", "-c", "-d", "-t", "-z"], code: &["-r"] };
const DENO_AND_BUN: Grammar = Grammar {
    with_value: &["--config", "--env-file", "--import-map", "--preload", "-c", "-r"],
    code: &["--eval", "-e", "-p"],
};

/// Index of the first argument that is no option.
fn first_operand(arguments: &[String], grammar: &Grammar) -> Option<usize> {
    let mut index = 0;
    while let Some(argument) = arguments.get(index) {
        if grammar.code.contains(&&**argument) || argument == "-" {
            return None;
        } else if argument == "--" {
            return (index + 1 < arguments.len()).then_some(index + 1);
        } else if grammar.with_value.contains(&&**argument) {
            index += 2;
        } else if argument.starts_with('-') {
            index += 1;
        } else {
            return Some(index);
        }
    }
    None
}

fn script(arguments: &[String], grammar: &Grammar) -> Option<Candidate> {
    let index = first_operand(arguments, grammar)?;
    Some(run(&arguments[index], &arguments[index + 1..]))
}

/// A script, or the application it is known to launch.
fn run(script: &str, arguments: &[String]) -> Candidate {
    let launcher = script.rsplit('/').next().unwrap_or(script);
    run_by(launcher, arguments).unwrap_or_else(|| Candidate::Path(script.to_owned()))
}

fn python(arguments: &[String]) -> Option<Candidate> {
    let mut index = 0;
    while let Some(argument) = arguments.get(index) {
        index += 1;
        if argument == "-" {
            return None;
        }
        let Some(options) = argument.strip_prefix('-') else {
            return Some(run(argument, &arguments[index..]));
        };
        if options.starts_with('-') {
            index += usize::from(options == "-check-hash-based-pycs");
            continue;
        }
        // Short options may stand together, the last one with its value: `-um gunicorn`, `-W error`.
        let Some(at) = options.find(['c', 'm', 'W', 'X']) else { continue };
        let attached = Some(&options[at + 1..]).filter(|value| !value.is_empty());
        match options.as_bytes()[at] {
            b'c' => return None,
            b'm' => {
                let rest = index + usize::from(attached.is_none());
                let module = attached.or(arguments.get(index).map(String::as_str))?;
                return python_module(module, arguments.get(rest..).unwrap_or_default());
            }
            _ => index += usize::from(attached.is_none()),
        }
    }
    None
}

/// `-m gunicorn app:app` like the script; other modules by their full dotted name, which is how
/// they were called.
fn python_module(module: &str, arguments: &[String]) -> Option<Candidate> {
    let name = module.strip_suffix(".__main__").unwrap_or(module);
    let known = run_by(name, arguments);
    known.or_else(|| is_module(name).then(|| Candidate::Name(name.to_owned())))
}

fn java(arguments: &[String]) -> Option<Candidate> {
    const WITH_VALUE: &[&str] = &[
        "--add-exports",
        "--add-modules",
        "--add-opens",
        "--add-reads",
        "--class-path",
        "--limit-modules",
        "--module-path",
        "--patch-module",
        "--source",
        "--upgrade-module-path",
        "-classpath",
        "-cp",
        "-p",
    ];
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        match argument {
            "-jar" => return Some(Candidate::Path(without_jar_version(arguments.next()?))),
            "-m" | "--module" => return java_class(arguments.next()?),
            option if WITH_VALUE.contains(&option) => drop(arguments.next()),
            option if option.starts_with(['-', '@']) => {}
            class => return java_class(class),
        }
    }
    None
}

/// `com.acme.Main`, `module/com.acme.Main`, `Hello.java`.
fn java_class(class: &str) -> Option<Candidate> {
    if class.strip_suffix(".java").is_some() {
        return Some(Candidate::Path(class.to_owned()));
    }
    let (module, class) = class.split_once('/').map_or((class, class), |(m, c)| (m, c));
    if class.starts_with("org.springframework.boot.loader.") {
        return Some(Candidate::Project("spring-boot".to_owned()));
    }
    let name = match class {
        "org.apache.catalina.startup.Bootstrap" => "tomcat",
        // A module alone names a whole program.
        class if class == module && !class.contains('.') => class,
        class => class.rsplit('.').next()?,
    };
    Some(Candidate::Name(name.to_owned()))
}

fn php(arguments: &[String]) -> Option<Candidate> {
    let file = arguments.iter().position(|argument| argument == "-f" || argument == "-F");
    match file {
        Some(index) => Some(Candidate::Path(arguments.get(index + 1)?.clone())),
        None => script(arguments, &PHP).or_else(|| {
            // `php -S address` serves the working directory.
            arguments
                .iter()
                .any(|argument| argument == "-S")
                .then(|| Candidate::Project("php".into()))
        }),
    }
}

fn dotnet(arguments: &[String]) -> Option<Candidate> {
    let operand =
        arguments.iter().find(|argument| !argument.starts_with('-') && *argument != "exec")?;
    Some(match operand.as_str() {
        "run" | "watch" => Candidate::Project("dotnet".to_owned()),
        dll if dll.strip_suffix(".dll").is_some() => Candidate::Path(dll.to_owned()),
        _ => return None,
    })
}

/// `deno run -A main.ts`, `bun server.ts`.
fn subcommand(arguments: &[String]) -> Option<Candidate> {
    let index = first_operand(arguments, &DENO_AND_BUN)?;
    match arguments[index].as_str() {
        "run" | "serve" | "x" => script(&arguments[index + 1..], &DENO_AND_BUN),
        "eval" | "repl" | "test" => None,
        script => Some(Candidate::Path(script.to_owned())),
    }
}
