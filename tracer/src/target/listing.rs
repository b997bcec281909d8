//! `tracer targets`: the processes that use stream sockets, traced or not and why.

use std::fmt::{self, Write};

use serde::Serialize;

use super::process_context::ProcessContext;
use super::sockets::Socket;
use super::{Process, Resolver, Scanner, Selection, ServiceNameSource, Why};
use crate::event::{KernelTime, Pid};
use crate::trace::ResourceId;

/// Widest line of the table.
const WIDTH: usize = 100;

/// All processes of the host that hold stream sockets, by process id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// One process a row.
    pub processes: Vec<Row>,
    /// Processes that may hold sockets, but do not show them to the agent.
    pub hidden: usize,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Process id.
    pub pid: u32,
    /// Path of its executable.
    pub executable: Option<String>,
    /// `service.name` of its spans.
    pub service_name: String,
    /// Who gave that name.
    pub service_name_source: ServiceNameSource,
    /// Whether it is (or would be) traced.
    pub traced: bool,
    /// Why, or why not.
    pub why: Why,
    /// TCP ports it listens on.
    pub ports: Vec<u16>,
    /// Unix stream sockets it listens on.
    pub unix_paths: Vec<String>,
    /// Whether it holds connections.
    pub connected: bool,
    /// How it shows that it reports spans of its own, if it does.
    pub instrumented: Option<Instrumented>,
}

/// What shows, from outside and at one look, that a program reports spans of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Instrumented {
    /// This SDK publishes its resource as process context.
    ProcessContext(String),
    /// Its environment or command line sets one up.
    SetUp,
    /// It is connected to a port that collectors of telemetry listen on: it seems to export.
    Exports(u16),
}

impl fmt::Display for Instrumented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProcessContext(sdk) => write!(f, "is instrumented (by {sdk})"),
            Self::SetUp => write!(f, "seems to be instrumented (by its environment)"),
            Self::Exports(port) => {
                write!(f, "seems to be instrumented (by its use of port {port})")
            }
        }
    }
}

impl Listing {
    /// Looks at every process of the host.
    pub fn scan(resolver: &Resolver, selection: &Selection) -> Self {
        let mut scanner = Scanner::new(resolver, selection);
        let mut pids: Vec<Pid> = resolver.fs().pids().collect();
        pids.sort_unstable();
        let mut hidden = 0;
        let rows = pids.into_iter().filter_map(|pid| {
            let sockets = scanner.sockets(pid);
            if sockets.is_empty() {
                hidden += usize::from(resolver.fs().process(pid).is_hidden());
                return None;
            }
            let process = resolver.running(pid, KernelTime(u64::MAX), ResourceId(0))?;
            let decision = scanner.running(pid)?;
            let context = resolver.process_context(pid);
            Some(Row::new(&process, sockets, decision.traced, decision.why, context.as_ref()))
        });
        let processes = rows.collect();
        Self { processes, hidden }
    }
}

impl Row {
    fn new(
        process: &Process,
        sockets: Vec<Socket>,
        traced: bool,
        why: Why,
        context: Option<&ProcessContext>,
    ) -> Self {
        let executable = process.executable.as_ref();
        let mut row = Self {
            pid: process.pid.0,
            executable: executable.map(|path| path.to_string_lossy().into_owned()),
            service_name: process.resource.service.clone(),
            service_name_source: process.name_source,
            traced,
            why,
            ports: Vec::new(),
            unix_paths: Vec::new(),
            connected: false,
            instrumented: match context {
                Some(context) => Some(Instrumented::ProcessContext(context.sdk())),
                None => process.instrumented.then_some(Instrumented::SetUp),
            },
        };
        for socket in sockets {
            match socket {
                Socket::Listening(port) => row.ports.push(port),
                Socket::UnixListening(path) => row.unix_paths.push(path),
                Socket::Connected { collector, .. } => {
                    row.connected = true;
                    if let (None, Some(port)) = (&row.instrumented, collector) {
                        row.instrumented = Some(Instrumented::Exports(port));
                    }
                }
                Socket::UnixConnected => row.connected = true,
            }
        }
        row
    }

    /// Ports and paths as one cell.
    fn listens(&self) -> String {
        let ports = self.ports.iter().map(u16::to_string);
        let cells: Vec<String> = ports.chain(self.unix_paths.iter().cloned()).collect();
        if cells.is_empty() { "-".to_owned() } else { cells.join(",") }
    }
}

/// The table: at most 100 columns, long cells cut.
impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = ["PID", "TRACED", "SERVICE", "NAMED BY", "EXECUTABLE", "LISTENS", "WHY"];
        write_line(f, heading)?;
        for row in &self.processes {
            let source = match row.service_name_source {
                ServiceNameSource::OtelResourceAttributes => "OTEL_RESOURCE_…".to_owned(),
                source => source.to_string(),
            };
            let executable = row.executable.as_deref().unwrap_or("-");
            let name = executable.rsplit('/').next().unwrap_or(executable);
            let (pid, why) = (row.pid.to_string(), row.why.to_string());
            let traced = if row.traced { "yes" } else { "no" };
            let (service, listens) = (&row.service_name, row.listens());
            write_line(f, [&pid, traced, service, &source, name, &listens, &why])?;
        }
        for row in &self.processes {
            if let Some(instrumented) = &row.instrumented {
                let line =
                    format!("{} {instrumented}: what its SDK reports is left to it", row.pid);
                writeln!(f, "{}", cut(&line, WIDTH))?;
            }
        }
        let traced = self.processes.iter().filter(|row| row.traced).count();
        writeln!(f, "{} processes with stream sockets, {traced} traced", self.processes.len())?;
        if self.hidden > 0 {
            writeln!(
                f,
                "{} more processes hide their sockets; run as root to see them",
                self.hidden
            )?;
        }
        Ok(())
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, cells: [&str; 7]) -> fmt::Result {
    const COLUMNS: [usize; 7] = [7, 6, 16, 17, 12, 12, 24];
    const _: () = {
        let mut width = COLUMNS.len() - 1;
        let mut index = 0;
        while index < COLUMNS.len() {
            width += COLUMNS[index];
            index += 1;
        }
        assert!(width <= WIDTH, "the table is too wide");
    };
    let mut line = String::with_capacity(WIDTH);
    for (cell, width) in cells.into_iter().zip(COLUMNS) {
        write!(line, "{:<width$} ", cut(cell, width))?;
    }
    writeln!(f, "{}", line.trim_end())
}

/// At most `width` characters, none of them a control character of somebody's choosing.
fn cut(cell: &str, width: usize) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut characters = cell.chars().map(printable);
    let mut text: String = characters.by_ref().take(width).collect();
    if characters.next().is_some() {
        text.pop();
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Selectors;
    use crate::target::testing::{FakeHost, tcp_line};

    fn listing() -> Listing {
        let host = FakeHost::new();
        let unix = "0000: 00000002 00000000 00010000 0001 01 9 /run/app.sock\n";
        let table = tcp_line(80, "0A", 5) + &tcp_line(443, "0A", 6) + &tcp_line(80, "01", 7);
        host.process(7)
            .stat("nginx", 1, 1000)
            .executable("/usr/sbin/nginx")
            .network(1, &table, unix)
            .socket(3, 5)
            .socket(4, 6)
            .socket(5, 7);
        host.process(8)
            .stat("python3", 1, 1000)
            .executable("/usr/bin/python3.11")
            .arguments(&["python3", "a_rather_long_program_name.py", "--password=hunter2"])
            .network(1, &table, unix)
            .socket(3, 9);
        host.process(9).stat("sleep", 1, 1000).executable("/bin/sleep").network(1, &table, unix);
        let resolver = host.resolver();
        let selectors = Selectors { executables: vec!["nginx".into()], ..Selectors::default() };
        let selection = Selection::new(&selectors, Pid(99), &resolver).expect("valid");
        Listing::scan(&resolver, &selection)
    }

    #[test]
    fn the_table_shows_who_is_traced_and_why() {
        let expected = "\
PID     TRACED SERVICE          NAMED BY          EXECUTABLE   LISTENS      WHY
7       yes    nginx            executable        nginx        80,443       matches --exe 'nginx'
8       no     a_rather_long_p… program           python3.11   /run/app.so… no selector matches
2 processes with stream sockets, 1 traced
";
        assert_eq!(listing().to_string(), expected);
    }

    #[test]
    fn instrumented_processes_are_named_with_what_shows_it() {
        let mut listing = listing();
        let sdk = "opentelemetry python 1.45.0".to_owned();
        listing.processes[0].instrumented = Some(Instrumented::Exports(4317));
        listing.processes[1].instrumented = Some(Instrumented::ProcessContext(sdk));
        let text = listing.to_string();
        let lines: Vec<&str> = text.lines().skip(3).take(2).collect();
        let expected = [
            "7 seems to be instrumented (by its use of port 4317): what its SDK reports is left to it",
            "8 is instrumented (by opentelemetry python 1.45.0): what its SDK reports is left to it",
        ];
        assert_eq!(lines, expected);
        let json = serde_json::to_value(&listing).expect("serializable");
        let instrumented = |row: usize| json["processes"][row]["instrumented"].clone();
        assert_eq!(instrumented(0), serde_json::json!({"exports": 4317}));
        let context = serde_json::json!({"process_context": "opentelemetry python 1.45.0"});
        assert_eq!(instrumented(1), context);
    }

    #[test]
    fn hidden_processes_are_not_passed_over_in_silence() {
        let listing = Listing { hidden: 3, ..listing() };
        let text = listing.to_string();
        assert!(text.ends_with("\n3 more processes hide their sockets; run as root to see them\n"));
    }

    #[test]
    fn json_has_stable_names() {
        let json = serde_json::to_value(listing()).expect("serializable");
        let expected = serde_json::json!({
            "pid": 7, "executable": "/usr/sbin/nginx", "service_name": "nginx",
            "service_name_source": "executable", "traced": true, "why": "matches --exe 'nginx'",
            "ports": [80, 443], "unix_paths": [], "connected": true, "instrumented": null,
        });
        assert_eq!(json["processes"][0], expected);
    }

    #[test]
    fn cells_are_cut_and_cleaned() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("a\u{1b}[31m", 6), "a\u{fffd}[31m");
    }
}
