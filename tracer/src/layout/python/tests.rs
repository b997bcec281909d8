use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tracer_ebpf::python::{Waiting, Walk};

use super::*;

/// Threads that work for tasks in all the ways that tasks wait, and then an event loop that stands
/// still. For each: what the thread is, its pointer, and the tasks that are expected.
const PROGRAM: &str = r#"
import asyncio, functools, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

me = asyncio.current_task

def tell(name, task, outermost):
    ids = [id(task), id(outermost)] if task else [0, 0]
    line = " ".join(map(str, [name, threading.get_ident(), *ids]))
    os.write(1, f"{line}\n".encode())

def work(name, task, outermost):
    tell(name, task, outermost)
    time.sleep(1000)

def on_thread(name, task, outermost):
    return loop.run_in_executor(None, functools.partial(work, name, task, outermost))

async def below(name, outermost):
    await on_thread(name, me(), outermost)

async def gathered():
    await asyncio.gather(below("gathered", me()), asyncio.sleep(1000))

async def gathered_twice():
    async def middle(outermost):
        await asyncio.gather(below("gathered_twice", outermost), asyncio.sleep(1000))
    await asyncio.gather(middle(me()), asyncio.sleep(1000))

async def awaited():
    task = asyncio.ensure_future(below("awaited", me()))
    task.add_done_callback(set().discard)
    await task

async def shielded():
    await asyncio.shield(below("shielded", me()))

async def waited():
    await asyncio.wait([asyncio.ensure_future(below("waited", me()))])

async def limited():
    # With a task of its own only up to 3.11.
    own = sys.version_info < (3, 12)
    await asyncio.wait_for(below("limited", me()) if own else alone("limited"), 1000)

async def shared():
    # Two wait: whose work is it?
    task = asyncio.ensure_future(alone("shared"))
    async def wait():
        await task
    await asyncio.gather(wait(), wait())

async def alone(name):
    await on_thread(name, me(), me())

async def grouped():
    async with asyncio.TaskGroup() as group:
        group.create_task(below("grouped", me()))

async def abandoned():
    on_thread("abandoned", None, None)

async def stuck(outermost):
    await asyncio.sleep(1)
    tell("loop", me(), outermost)
    os.write(1, b"end\n")
    time.sleep(1000)

async def request():
    await asyncio.gather(stuck(me()), asyncio.sleep(1000))

async def main():
    global loop
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(32))
    tasks = [alone("alone"), gathered(), gathered_twice(), awaited(), shielded(), waited(),
        limited(), shared(), abandoned(), request()]
    if sys.version_info >= (3, 11):
        tasks.append(grouped())
    tasks = [asyncio.ensure_future(task) for task in tasks]
    await asyncio.sleep(1000)

asyncio.run(main())
"#;

/// A running program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All interpreters that can be found; there is at least one, as the rest of the tests need it.
fn interpreters() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/usr/bin/python3")];
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let versions = std::fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten();
    found.extend(versions.flatten().map(|version| version.path().join("bin/python3")));
    found.retain(|path| path.exists());
    found
}

#[test]
fn every_interpreter_here_tells_which_task_waits() {
    let mut looked_at = 0;
    for interpreter in interpreters() {
        let version = Command::new(&interpreter).arg("-V").output().expect("it runs").stdout;
        let version = String::from_utf8(version).expect("text");
        let minor = version.trim().split('.').nth(1).and_then(|minor| minor.parse().ok());
        if Release::of(minor.expect("a version")).is_none() {
            continue;
        }
        looked_at += 1;
        check(&interpreter, version.trim());
    }
    assert!(looked_at > 0);
}

fn check(interpreter: &std::path::Path, version: &str) {
    let child = Command::new(interpreter).args(["-c", PROGRAM]).stdout(Stdio::piped()).spawn();
    let mut program = Program(child.expect("it runs"));
    let output = BufReader::new(program.0.stdout.take().expect("piped"));
    let told: Vec<String> =
        output.lines().map_while(Result::ok).take_while(|line| line != "end").collect();

    let process = FilePath::new("/proc").join(program.0.id().to_string());
    let Seen::Layout(layout) = look(&process) else { panic!("nothing found in {version}") };
    let memory = ProcessMemory::of(&process).expect("it runs");
    assert!(told.len() >= 9, "{version} told {told:?}");
    for line in told {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().expect("a number");
        let expected = (number(2) != 0).then(|| Waiting { task: number(2), outermost: number(3) });
        assert_eq!(
            layout.task(number(1), &mut Walk::default(), &memory),
            expected,
            "{version}: {}",
            words[0]
        );
    }
}

#[test]
fn a_process_that_is_not_python_has_no_layout() {
    assert_eq!(look(FilePath::new("/proc/self")), Seen::Nothing);
}

#[test]
fn the_release_is_in_the_name() {
    let minor = |name| named_release(name).map(|release| release.minor);
    assert_eq!(minor("python3.11"), Some(11));
    assert_eq!(minor("libpython3.8.so.1.0"), Some(8));
    assert_eq!(minor("libpython3.13t.so.1.0"), None);
    assert_eq!(minor("python3"), None);
    assert_eq!(minor("python2.7"), None);
    assert_eq!(minor("libpython3.99.so"), None);
}
