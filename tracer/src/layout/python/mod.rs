//! Where a running Python keeps its asyncio tasks, for the kernel half to see which one makes a
//! call. Looks only: at the process' memory, through what the interpreter exports by name.
//!
//! A process that has not imported asyncio, or is not Python, or is of a release whose layout is
//! not known, has no layout.

mod memory;
mod objects;
mod releases;
mod symbols;
mod watch;

use std::path::Path as FilePath;

use tracer_ebpf::python::{Carrier, Memory as _, Path, PythonLayout, STEPS};

use memory::{MappedFile, ProcessMemory, mapped_files};
use objects::Objects;
use releases::Release;
use symbols::Symbols;

pub(super) use watch::Watch;

/// Threads that must agree on where the state of a thread is kept.
const THREADS: usize = 8;
/// Bytes from the thread pointer on in which the C library keeps thread-specific data.
const THREAD_BYTES: u64 = 4_096;

/// Which of a task group's attributes, in the order of its constructor, is the parent task.
const GROUP_PARENT: u64 = 4;
/// Which of a work item's attributes is its future.
const ITEM_FUTURE: u64 = 0;
/// Which of a future's attributes is its list of callbacks.
const FUTURE_CALLBACKS: u64 = 5;

const LIST_ITEMS: i32 = 24;
const TUPLE_ITEMS: u32 = 24;

/// What was found in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is not Python, or nothing is known of its release.
    Nothing,
    /// It may import asyncio yet.
    NotYet,
    /// Its tasks can be told apart. More of it may be found once it has imported more.
    Layout(Box<PythonLayout>),
}

/// Looks into the process whose directory in the process file system this is.
pub(super) fn look(process: &FilePath) -> Seen {
    let Some(interpreter) = Interpreter::of(process) else { return Seen::Nothing };
    match interpreter.layout() {
        Some(layout) => Seen::Layout(Box::new(layout)),
        None => Seen::NotYet,
    }
}

/// A running interpreter.
struct Interpreter {
    memory: ProcessMemory,
    /// The file that holds it.
    file: MappedFile,
    release: &'static Release,
}

impl Interpreter {
    fn of(process: &FilePath) -> Option<Self> {
        let files = mapped_files(process).into_iter();
        let mut candidates = files.filter_map(|file| Some((named_release(&file.name)?, file)));
        let memory = ProcessMemory::of(process)?;
        let (release, file) = candidates.find(|(_, file)| {
            let symbols = Symbols::of(&memory, file.start);
            symbols.is_some_and(|symbols| symbols.address("_PyRuntime").is_some())
        })?;
        Some(Self { memory, file, release })
    }

    fn layout(&self) -> Option<PythonLayout> {
        let Self { memory, release, .. } = self;
        let objects = Objects { memory, release };
        let symbols = Symbols::of(memory, self.file.start)?;
        let interpreter = memory.word(symbols.address("_PyRuntime")? + release.interpreter)?;
        let modules = memory.word(interpreter + release.modules)?;
        let asyncio = |name| objects.global(modules, "_asyncio", name);

        let task_type = asyncio("Task").filter(|it| objects.is_class(*it, "_asyncio.Task"))?;
        let future_type =
            asyncio("Future").filter(|it| objects.is_class(*it, "_asyncio.Future"))?;
        let current_tasks = asyncio("_current_tasks").filter(|it| objects.is_a(*it, "dict"))?;
        let thread_state = self.thread_state(interpreter)?;
        let group = objects.global(modules, "asyncio.taskgroups", "TaskGroup");
        let group_parent =
            group.and_then(|group| objects.attribute(group, "_parent_task", GROUP_PARENT));
        let executor = executor(&objects, modules);
        let anyio = anyio_worker(&objects, modules);
        Some(PythonLayout {
            thread_state,
            current_tasks,
            task_type,
            future_type,
            builtin_type: symbols.address("PyCFunction_Type")?,
            function_type: symbols.address("PyFunction_Type")?,
            method_type: symbols.address("PyMethod_Type")?,
            partial_type: objects.global(modules, "_functools", "partial").unwrap_or(0),
            group_type: group.unwrap_or(0),
            thread_id: release.thread_id,
            context: release.context,
            frame: path(release.frame)?,
            frame_back: release.frame_back,
            frame_code: release.frame_code,
            task_context: release.task_context,
            closure: release.closure,
            tuple_items: TUPLE_ITEMS,
            keys: release.keys,
            group_parent: group_parent.and_then(|steps| path(&steps)).unwrap_or_default(),
            carriers: [executor.unwrap_or_default(), anyio.unwrap_or_default()],
        })
    }

    /// Where, from its thread pointer, each thread keeps the address of its state.
    fn thread_state(&self, interpreter: u64) -> Option<i64> {
        let Self { memory, release, .. } = self;
        let first = memory.word(interpreter + release.threads)?;
        let next = |state: &u64| memory.word(state + 8).filter(|next| *next != 0);
        let states = std::iter::successors(Some(first), next).take(THREADS);
        let threads: Vec<(u64, u64)> = states
            .filter_map(|state| {
                let pointer = memory.word(state + u64::from(release.thread_id))?;
                // The first word of a thread is its own address. A thread that has not run yet
                // has none.
                (memory.word(pointer) == Some(pointer)).then_some((pointer, state))
            })
            .collect();
        let holds = |offset: u64| {
            let mut all = threads.iter();
            all.all(|(pointer, state)| memory.word(pointer + offset) == Some(*state))
        };
        let found = (0..THREAD_BYTES).step_by(8).find(|offset| holds(*offset));
        found.filter(|_| !threads.is_empty()).map(|offset| offset as i64)
    }
}

/// The release that a file is of, by its name: `python3.11`, `libpython3.11.so.1.0`.
fn named_release(name: &str) -> Option<&'static Release> {
    let version = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python3.")?;
    let end = version.find(|it: char| !it.is_ascii_digit()).unwrap_or(version.len());
    let (minor, rest) = version.split_at(end);
    // Builds for debugging (`d`) and without the interpreter's lock (`t`) are laid out otherwise.
    if !(rest.is_empty() || rest.starts_with(".so")) {
        return None;
    }
    Release::of(minor.parse().ok()?)
}

/// `concurrent.futures.ThreadPoolExecutor`, by which `asyncio.to_thread` and `run_in_executor` have
/// other threads work: the item of work holds a future, one of whose callbacks completes the
/// future that the task waits for.
fn executor(objects: &Objects<'_>, modules: u64) -> Option<Carrier> {
    let item = objects.global(modules, "concurrent.futures.thread", "_WorkItem")?;
    let future = objects.global(modules, "concurrent.futures._base", "Future")?;
    let code = code(objects, objects.class_attribute(item, "run")?)?;
    let mut steps = vec![objects.variable(code, "self")?];
    steps.extend(objects.attribute(item, "future", ITEM_FUTURE)?);
    steps.extend(objects.attribute(future, "_done_callbacks", FUTURE_CALLBACKS)?);
    steps.extend([LIST_ITEMS, 0]);
    Some(Carrier { code, waiter: path(&steps)? })
}

/// The threads of anyio's `to_thread.run_sync`, with which frameworks call what is not async: the
/// future that the task waits for is a variable.
fn anyio_worker(objects: &Objects<'_>, modules: u64) -> Option<Carrier> {
    let worker = objects.global(modules, "anyio._backends._asyncio", "WorkerThread")?;
    let code = code(objects, objects.class_attribute(worker, "run")?)?;
    Some(Carrier { code, waiter: path(&[objects.variable(code, "future")?])? })
}

fn code(objects: &Objects<'_>, function: u64) -> Option<u64> {
    let is_function = objects.is_a(function, "function");
    is_function.then(|| objects.memory.word(function + objects.release.function_code)).flatten()
}

fn path(steps: &[i32]) -> Option<Path> {
    let mut path = Path { len: steps.len() as u32, ..Path::default() };
    path.steps.get_mut(..steps.len())?.copy_from_slice(steps);
    debug_assert!(steps.len() <= STEPS);
    Some(path)
}

#[cfg(test)]
mod tests;
