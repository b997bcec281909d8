//! What program a process runs, by the name its users would use: `python3 app.py` is `app`.
//!
//! The name is taken only from places of the command line that are known to hold a program: the
//! executable, the script, the module, the jar. Values of unknown options are never looked at:
//! they may be secrets.

mod application;
mod command_line;
mod naming;
mod title;

use std::path::Path;

use serde::{Deserialize, Serialize};

use naming::{Candidate, acceptable};

/// What is known of a process's program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program<'a> {
    /// Path of the executable, if the process could still be asked.
    pub(super) executable: Option<&'a Path>,
    /// Its arguments, the zeroth included; possibly a rewritten title.
    pub(super) arguments: &'a [String],
    /// The kernel's 15-character name.
    pub(super) comm: &'a str,
    /// Working directory.
    pub(super) directory: Option<&'a Path>,
}

/// Where a program's name was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProgramName {
    /// Script, module, jar, application, or a title the program gave itself.
    Script(String),
    /// The executable.
    Executable(String),
    /// Only the kernel's short name is known.
    Comm(String),
}

/// What interprets or hosts the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Bun
    Bun,
    /// Deno
    Deno,
    /// .NET
    DotNet,
    /// Erlang, Elixir
    Erlang,
    /// A Go binary
    Go,
    /// Java and other languages of its virtual machine
    Java,
    /// Node.js
    Node,
    /// Perl
    Perl,
    /// PHP
    Php,
    /// Python
    Python,
    /// Ruby
    Ruby,
    /// A POSIX shell
    Shell,
}

impl Runtime {
    /// By an executable's file name, versions and all.
    pub(super) fn of_executable(file_name: &str) -> Option<Self> {
        // `python3.11`, `ruby3.1`, `php-fpm8.2`, `node20`, `pypy3`
        let name = file_name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        Some(match name.trim_end_matches('-') {
            "python" | "pypy" | "python-dbg" => Self::Python,
            "node" | "nodejs" => Self::Node,
            "java" => Self::Java,
            "ruby" | "jruby" => Self::Ruby,
            "php" | "php-fpm" | "php-cgi" => Self::Php,
            "perl" => Self::Perl,
            "dotnet" => Self::DotNet,
            "deno" => Self::Deno,
            "bun" => Self::Bun,
            "beam.smp" | "beam" => Self::Erlang,
            "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" => Self::Shell,
            _ => return None,
        })
    }

    /// By the first bytes of the executable: a Go binary carries a note of its linker.
    pub(super) fn of_contents(start: &[u8]) -> Option<Self> {
        // ELF note header: name of 4 bytes, any length of description, type 4, name `Go\0\0`.
        let note = |window: &[u8]| {
            window[..4] == 4_u32.to_ne_bytes()
                && window[8..12] == 4_u32.to_ne_bytes()
                && &window[12..] == b"Go\0\0"
        };
        (start.starts_with(b"\x7fELF") && start.windows(16).any(note)).then_some(Self::Go)
    }

    /// `process.runtime.name`; `None` for shells, which are no runtime of a service.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Bun => "bun",
            Self::Deno => "deno",
            Self::DotNet => "dotnet",
            Self::Erlang => "erlang",
            Self::Go => "go",
            Self::Java => "java",
            Self::Node => "nodejs",
            Self::Perl => "perl",
            Self::Php => "php",
            Self::Python => "cpython",
            Self::Ruby => "ruby",
            Self::Shell => return None,
        })
    }

    /// `telemetry.sdk.language`: the language of the traced program, in the conventions' spelling
    /// where they have one.
    pub fn language(self) -> Option<&'static str> {
        Some(match self {
            Self::Bun | Self::Deno | Self::Node => "nodejs",
            Self::Python => "python",
            Self::Shell => return None,
            other => other.name()?,
        })
    }
}

/// Bytes of an executable that [`Runtime::of_contents`] needs.
pub(super) const CONTENTS_NEEDED: u64 = 8 * 1024;

impl Program<'_> {
    /// File name of the executable, else of the zeroth argument.
    pub(super) fn file_name(&self) -> Option<&str> {
        let path = self.executable.or_else(|| self.arguments.first().map(Path::new));
        path?.file_name()?.to_str()
    }

    /// The interpreter by name; a compiled program has none.
    pub(super) fn runtime(&self) -> Option<Runtime> {
        Runtime::of_executable(self.file_name()?)
    }

    /// The best name there is.
    pub(super) fn name(&self) -> Option<ProgramName> {
        let runtime = self.runtime();
        if let Some(title) = self.rewritten_title()
            && let Some(name) = title::name(title)
            // An interpreter's own name is no better than the executable's.
            && Runtime::of_executable(&name).is_none_or(|of| of == Runtime::Php)
        {
            return Some(ProgramName::Script(name));
        }
        let arguments = self.arguments.get(1..).unwrap_or_default();
        if let Some(runtime) = runtime
            && let Some(candidate) = command_line::program(runtime, arguments)
            && let Some(name) = candidate.name(self.directory)
        {
            return Some(ProgramName::Script(name));
        }
        self.executable_name()
    }

    /// The zeroth argument, where the program has put a description of itself there.
    fn rewritten_title(&self) -> Option<&str> {
        let title = self.arguments.first()?;
        let is_path = self.executable.is_some_and(|path| path == Path::new(title));
        (!is_path && title.contains(' ') || title.ends_with(':')).then_some(title)
    }

    fn executable_name(&self) -> Option<ProgramName> {
        match self.file_or_applet().and_then(acceptable) {
            Some(name) => Some(ProgramName::Executable(name)),
            None => acceptable(self.comm.to_owned()).map(ProgramName::Comm),
        }
    }

    fn file_or_applet(&self) -> Option<String> {
        let multi_call = |name: &str| matches!(name, "busybox" | "toybox" | "coreutils");
        let applet = || file_name(self.arguments.first()?);
        let Some(path) = self.executable else { return applet().map(str::to_owned) };
        let file = path.file_name()?.to_str()?;
        if multi_call(file) {
            let applet = applet()?;
            let next = self.arguments.get(1).filter(|_| multi_call(applet));
            return Some(next.map_or(applet, String::as_str).to_owned());
        }
        match self.runtime() {
            Some(Runtime::Php) => Some(without_version(file).to_owned()),
            Some(_) => Some(file.to_owned()),
            None => Candidate::Path(path.to_str()?.to_owned()).name(self.directory),
        }
    }
}

/// `php-fpm8.2` is `php-fpm`.
fn without_version(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

fn file_name(path: &str) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}

#[cfg(test)]
mod tests;
