//! `--propagate proxy` and protocols that are no HTTP: real servers and clients work as without the
//! agent, and each of their connections is a tunnel.

use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tracer_tests::service::Nginx;
use tracer_tests::wire::{end, play, send, shutdown, until};
use tracer_tests::{AgentOptions, Backend, Launcher, Service, layout};

/// Bytes of what is transferred at once, beside small things.
const LARGE: usize = 4 << 20;

/// Does something without the agent and with it: both have to give the same, and every connection
/// has to be a tunnel from its first byte on.
fn unchanged<T: PartialEq + Debug>(work: impl Fn(&mut Launcher) -> Result<T>) -> Result<T> {
    let mut launcher = Launcher::start()?;
    let without = work(&mut launcher).context("without the agent")?;
    let options = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
    let agent = options.without_file().exporter("none").start()?;
    let with = work(&mut launcher).with_context(|| format!("through it: {}", agent.log()))?;
    let report = agent.stop()?.report.json;
    let propagation = &report["propagation"];
    ensure!(with == without, "{with:?} instead of {without:?}: {propagation}");
    let count = |reason: &str| propagation["forwarder"][reason].as_u64().unwrap_or_default();
    let tunnels = count("opaque.not_http") + count("opaque.server_first");
    ensure!(tunnels > 0 && count("accepted") == tunnels, "{propagation}");
    ensure!(count("injected") + count("kept") == 0 && propagation["cut"] == 0, "{propagation}");
    Ok(with)
}

fn run(launcher: &mut Launcher, words: &[&str]) -> Result<String> {
    Ok(launcher.run(words)?.success().with_context(|| words.join(" "))?.stdout)
}

/// A program that has to end well before the test can begin.
fn prepare(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(())
}

/// Protects: a server that greets, answers statements and sends large rows.
#[test]
fn mariadb() -> Result<()> {
    let server = Service::start("mariadbd", |port, directory| {
        let data = format!("--datadir={}", directory.join("data").display());
        let install = ["--no-defaults", "--user=root", "--auth-root-authentication-method=normal"];
        prepare(Command::new("mariadb-install-db").args(install).arg("--skip-test-db").arg(&data))?;
        let mut command = Command::new("mariadbd");
        command.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1"]).arg(data);
        command.arg(format!("--port={port}"));
        command.arg(format!("--socket={}", directory.join("socket").display()));
        command.arg(format!("--pid-file={}", directory.join("pid").display()));
        Ok(command)
    })?;
    let port = server.port().to_string();
    let answer = unchanged(|launcher| {
        let client = ["mariadb", "--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-uroot", "-N"];
        let statements = format!(
            "create database shop; use shop; create table items (id int primary key, name text); \
             insert into items select seq, concat('item ', seq) from seq_1_to_20000; \
             select * from items; select repeat('x', {LARGE}); drop database shop"
        );
        run(launcher, &[&client[..], &["-P", &port, "-e", &statements]].concat())
    })?;
    assert!(answer.contains("item 20000") && answer.len() > LARGE, "{} bytes", answer.len());
    Ok(())
}

fn lines(count: u32, line: impl Fn(u32) -> String) -> String {
    (0..count).map(line).collect()
}

/// The newest of the installed versions, whose programs are in nobody's path.
fn postgresql(program: &str) -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")?.flatten();
    let mut programs: Vec<_> = versions.map(|it| it.path().join("bin").join(program)).collect();
    programs.sort();
    programs.pop().context("no PostgreSQL; run `cargo xtask setup`")
}

/// Runs as the user that the package made: these programs refuse to run as root.
fn as_postgres(program: &str) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
    command.arg(postgresql(program)?);
    Ok(command)
}

/// Numeric id of a user.
fn user(name: &str) -> Result<u32> {
    let output = Command::new("id").args(["-u", name]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// Protects: a client that asks for TLS in words of its own, then statements and bulk copies both
/// ways.
#[test]
fn postgresql_copies() -> Result<()> {
    let server = Service::start("postgres", |port, directory| {
        chown(directory, Some(user("postgres")?), None)?;
        let data = directory.join("data");
        let data = data.to_string_lossy();
        prepare(as_postgres("initdb")?.args(["-A", "trust", "-U", "shop", "-D", &data]))?;
        let mut command = as_postgres("postgres")?;
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-D", &data]);
        command.arg("-k").arg(directory).args(["-c", "fsync=off"]);
        Ok(command)
    })?;
    let port = server.port().to_string();
    let directory = tempfile::tempdir()?;
    let (source, sink) = (directory.path().join("source"), directory.path().join("sink"));
    let lines = lines(100_000, |line| format!("{line}\titem {line}\n"));
    fs::write(&source, &lines)?;
    unchanged(|launcher| {
        let client = ["psql", "-h", "127.0.0.1", "-p", &port, "-U", "shop", "-d", "postgres"];
        let copies = [
            "create table items (id int primary key, name text)".to_owned(),
            format!("\\copy items from '{}'", source.display()),
            "select count(*), sum(id) from items".to_owned(),
            format!("\\copy (select * from items order by id) to '{}'", sink.display()),
            "drop table items".to_owned(),
        ];
        let commands = copies.iter().flat_map(|copy| ["-c", copy.as_str()]);
        let words: Vec<_> = client.into_iter().chain(["-v", "ON_ERROR_STOP=1"]).collect();
        let words: Vec<_> = words.into_iter().chain(commands).collect();
        let answer = run(launcher, &words)?;
        ensure!(fs::read_to_string(&sink)? == lines, "what was copied out is not what went in");
        fs::remove_file(&sink)?;
        Ok(answer)
    })?;
    Ok(())
}

/// Protects: pipelined requests, large values, many clients, and a client that waits to be told.
#[test]
fn redis() -> Result<()> {
    let server = Service::start("redis-server", |port, directory| {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.arg("--dir").arg(directory);
        Ok(command)
    })?;
    let port = server.port().to_string();
    let answers = unchanged(|launcher| {
        let listening = launcher.spawn(["redis-cli", "-p", &port, "subscribe", "news"])?;
        listening.wait_for("subscribe")?;
        let cli = ["redis-cli", "-p", &port];
        let load = ["redis-benchmark", "-p", &port, "-q", "-n", "20000", "-c", "50", "-P", "16"];
        run(launcher, &[&load[..], &["-t", "set,get,lrange"]].concat())?;
        let eval = format!("return string.rep('x', {LARGE})");
        let answers = [
            run(launcher, &[&cli[..], &["flushall"]].concat())?,
            run(launcher, &[&cli[..], &["set", "greeting", "hello"]].concat())?,
            run(launcher, &[&cli[..], &["get", "greeting"]].concat())?,
            run(launcher, &[&cli[..], &["eval", &eval, "0"]].concat())?,
            run(launcher, &[&cli[..], &["publish", "news", "extra"]].concat())?,
        ];
        listening.wait_for("extra")?;
        listening.signal(rustix::process::Signal::KILL)?;
        launcher.wait(&listening)?;
        Ok(answers)
    })?;
    assert_eq!(answers[2].trim(), "hello");
    assert_eq!((answers[3].trim().len(), answers[4].trim()), (LARGE, "1"));
    Ok(())
}

/// Protects: a server that greets and talks line by line, and takes a large message in between.
#[test]
fn smtp() -> Result<()> {
    let python = layout::python_program("python3")?;
    let server = Service::start("aiosmtpd", |port, _| {
        let mut command = Command::new(python);
        command.env("PYTHONUNBUFFERED", "1").args(["-m", "aiosmtpd", "-n"]);
        command.args(["-l", &format!("127.0.0.1:{port}")]);
        command.args(["-c", "aiosmtpd.handlers.Debugging", "stdout"]);
        Ok(command)
    })?;
    let directory = tempfile::tempdir()?;
    let letter = directory.path().join("letter");
    let lines = lines(20_000, |line| format!("line {line}\r\n"));
    fs::write(&letter, format!("Subject: news\r\n\r\n{lines}"))?;
    let (url, letter) = (format!("smtp://{}", server.address()), letter.to_string_lossy());
    unchanged(|launcher| {
        let from_to = ["--mail-from", "a@mail.test", "--mail-rcpt", "b@mail.test"];
        let before = server.log().len();
        launcher.curl([&["-T", &letter][..], &from_to, &[&url]].concat())?;
        // Curl has its answer, and the server has printed the letter before.
        let log = server.log()[before..].to_owned();
        ensure!(log.contains("line 19999"), "{log}");
        // That of the client's connection differs.
        Ok(log
            .lines()
            .filter(|line| !line.starts_with("X-Peer"))
            .map(str::to_owned)
            .collect::<Vec<_>>())
    })?;
    Ok(())
}

fn key(path: &Path) -> Result<()> {
    prepare(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path))
}

/// Protects: both ends say who they are before they listen; commands, and files both ways.
#[test]
fn ssh() -> Result<()> {
    // Where sshd wants to have its privileges separated; the service manager makes it elsewhere.
    fs::create_dir_all("/run/sshd")?;
    let server = Service::start("sshd", |port, directory| {
        key(&directory.join("host"))?;
        key(&directory.join("user"))?;
        let place = directory.display();
        let configuration = directory.join("sshd_config");
        let text = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {place}/host\nPidFile none\nUsePAM no\n\
             AuthorizedKeysFile {place}/user.pub\nStrictModes no\nPermitRootLogin yes\n\
             Subsystem sftp internal-sftp\n"
        );
        fs::write(&configuration, text)?;
        // It starts itself anew for each connection, and has to know where it is.
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(configuration);
        Ok(command)
    })?;
    let place = server.directory().display();
    let (port, identity) = (server.port().to_string(), format!("{place}/user"));
    let (known, source) = (format!("UserKnownHostsFile={place}/known"), format!("{place}/source"));
    let (there, back) = (format!("{place}/there"), format!("{place}/back"));
    let content: Vec<u8> = (0..LARGE).map(|at| (at * 7 / 5) as u8).collect();
    fs::write(&source, &content)?;
    let options = ["-o", &known, "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"];
    let options = [&options[..], &["-q", "-i", &identity]].concat();
    unchanged(|launcher| {
        let ssh = [&["ssh", "-p", &port], &options[..], &["root@127.0.0.1"]].concat();
        let scp = [&["scp", "-P", &port], &options[..]].concat();
        let answer = run(launcher, &[&ssh[..], &["echo hello; sha256sum", &source]].concat())?;
        let remote = |file: &str| format!("root@127.0.0.1:{file}");
        run(launcher, &[&scp[..], &[&source, &remote(&there)]].concat())?;
        run(launcher, &[&scp[..], &[&remote(&there), &back]].concat())?;
        ensure!(fs::read(&back)? == content, "what came back is not what was sent");
        fs::remove_file(&there)?;
        fs::remove_file(&back)?;
        Ok(answer)
    })?;
    Ok(())
}

/// Protects: TLS in which both ends show certificates, and the refusal of a client without.
#[test]
fn tls_with_client_certificates() -> Result<()> {
    let directives = "ssl_verify_client on; ssl_client_certificate certificate.pem;\n\
                      location = /who { return 200 $ssl_client_s_dn; }";
    let large: Vec<u8> = (0..LARGE).map(|at| b'a' + (at * 7 / 5 % 26) as u8).collect();
    let server = Nginx::new(directives)?.tls()?.file("large", &large)?.start()?;
    let (place, port) = (server.directory().display(), server.port());
    let (certificate, key) = (format!("{place}/certificate.pem"), format!("{place}/key.pem"));
    let resolved = format!("localhost:{port}:127.0.0.1");
    let url = |path: &str| format!("https://localhost:{port}{path}");
    let (who, status, big) = unchanged(|launcher| {
        let trusting = ["--cacert", &certificate, "--resolve", &resolved];
        let known = [&trusting[..], &["--cert", &certificate, "--key", &key]].concat();
        let who = launcher.curl([&known[..], &[&url("/who")]].concat())?.stdout;
        let big = launcher.curl([&known[..], &[&url("/large")]].concat())?.stdout;
        let status = ["-o", "/dev/null", "-w", "%{http_code}"];
        let status = launcher.curl([&trusting[..], &status, &[&url("/who")]].concat())?.stdout;
        Ok((who, status, big))
    })?;
    assert_eq!((who.as_str(), status.as_str()), ("CN=localhost", "400"));
    assert!(big.as_bytes() == large, "{} bytes", big.len());
    Ok(())
}

/// Protects: one end may have said its last while the other talks on, whichever it is.
#[test]
fn half_closes() -> Result<()> {
    // Nothing of HTTP begins like this.
    let long = format!("\u{1}{}", "z".repeat(50_000));
    unchanged(|launcher| {
        let server = [end(), send(&long), send("done"), shutdown()];
        play(launcher, &server, &[send(&long), shutdown(), until("done"), end()])?;
        let server = [send("220 hello\r\n"), send(&long), shutdown(), until("done"), end()];
        play(launcher, &server, &[end(), send(&long), send("done"), shutdown()])?;
        Ok(())
    })
}
