//! Which asyncio task a thread of a Python process runs, and which task waits for that one.
//!
//! Follows pointers through the process' memory, the same way in both halves of the agent: the
//! kernel half while the thread is inside a system call, the tests while the process is stopped.
//! The interpreter's lock is not held meanwhile, so other threads may change what is looked at.
//! Therefore nothing counts as a task that does not say of itself that it is one, and a chain that
//! breaks anywhere is followed no further.

#![allow(clippy::inline_always, reason = "the kernel half calls no functions of its own")]

/// Somebody's memory.
pub trait Memory {
    /// The eight bytes at an address, if they can be read.
    fn word(&self, address: u64) -> Option<u64>;
}

/// Steps of a [`Path`] at most.
pub const STEPS: usize = 11;
/// Kinds of frames that carry a task's work on another thread.
pub const CARRIERS: usize = 2;
/// Event loops whose current tasks are looked through.
const LOOPS: u64 = 8;
/// Tasks and futures that wait for each other in a row.
const CHAIN: u32 = 8;
/// Callbacks of a future that are looked through.
const CALLBACKS: u64 = 3;
/// Variables of a closure, or arguments, that are looked through.
const CELLS: u64 = 8;
/// Frames of a thread that are looked through.
const FRAMES: u32 = 64;

/// Where a release of Python, and this process, keep things. Offsets are within the structure
/// named; zero addresses stand for what is not there, and match nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonLayout {
    /// From the thread pointer to the word that holds the address of the thread's state.
    pub thread_state: i64,
    /// The dictionary of event loops and the tasks that they are running.
    pub current_tasks: u64,
    /// `_asyncio.Task`.
    pub task_type: u64,
    /// `_asyncio.Future`.
    pub future_type: u64,
    /// `builtin_function_or_method`.
    pub builtin_type: u64,
    /// `function`.
    pub function_type: u64,
    /// `method`.
    pub method_type: u64,
    /// `functools.partial`.
    pub partial_type: u64,
    /// `asyncio.TaskGroup`.
    pub group_type: u64,
    /// Thread state: the thread's own pointer, by which it proves to be this thread's.
    pub thread_id: u32,
    /// Thread state: the current context.
    pub context: u32,
    /// Thread state to the innermost frame.
    pub frame: Path,
    /// Frame: the one that called it.
    pub frame_back: u32,
    /// Frame: its code.
    pub frame_code: u32,
    /// Task: its context.
    pub task_context: u32,
    /// Function: its closure.
    pub closure: u32,
    /// Tuple: its first item.
    pub tuple_items: u32,
    /// How a dictionary's keys are laid out: one of [`keys`].
    pub keys: u32,
    /// Task group to the task that it belongs to.
    pub group_parent: Path,
    /// Frames that work for a task while it waits.
    pub carriers: [Carrier; CARRIERS],
}

/// Ways to lay out the keys of a dictionary.
pub mod keys {
    /// Up to Python 3.10: the size is a word, and each index one byte in small dictionaries.
    pub const SIZED: u32 = 0;
    /// From Python 3.11 on: logarithms of sizes.
    pub const LOGARITHMIC: u32 = 1;
}

/// A function whose frames belong to a task that waits elsewhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    /// Its code object.
    pub code: u64,
    /// From its frame to what is to be done when it is done: a future, or the callback of one.
    pub waiter: Path,
}

/// A way through memory: each step adds to an address and reads the next address there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// What is added.
    pub steps: [i32; STEPS],
    /// How many of them there are; without any, it leads nowhere.
    pub len: u32,
}

/// A task, and the last one in the row of those that wait for it: itself if nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The task's address.
    pub task: u64,
    /// The last one's address.
    pub outermost: u64,
}

/// `PyObject.ob_type`.
const TYPE: u64 = 8;
/// `PyTypeObject.tp_name`.
const TYPE_NAME: u64 = 24;
/// `PyTypeObject.tp_base`.
const TYPE_BASE: u64 = 256;
/// `PyVarObject.ob_size`.
const SIZE: u64 = 16;
/// `PyListObject.ob_item`.
const LIST_ITEMS: u64 = 24;
/// `PyDictObject.ma_keys`.
const DICT_KEYS: u64 = 32;
/// `PyCellObject.ob_ref`.
const CELL_CONTENT: u64 = 16;
/// Instead of an offset: the object itself.
const ITSELF: u64 = 0;
/// `PyCFunctionObject.m_ml`, whose first word is the name.
const BUILTIN_DEFINITION: u64 = 16;
/// `PyCFunctionObject.m_self`, as `PyMethodObject.im_self`.
const BOUND_TO: u64 = 24;
/// `partialobject.args`.
const PARTIAL_ARGUMENTS: u64 = 24;
/// `FutureObj.fut_callback0`.
const FIRST_CALLBACK: u64 = 24;
/// `FutureObj.fut_callbacks`.
const MORE_CALLBACKS: u64 = 40;
/// `TaskWakeupMethWrapper.ww_task`, up to Python 3.9.
const WAKEUP_TASK: u64 = 16;
/// `task_wakeup`, the method that has a task go on, from Python 3.10 on.
const WAKEUP_METHOD: u64 = u64::from_le_bytes(*b"task_wak");
/// `TaskWakeupMethWrapper`, the same thing up to Python 3.9.
const WAKEUP_WRAPPER: u64 = u64::from_le_bytes(*b"TaskWake");

/// Working values of a search. They are in memory and read anew each time, so that the verifier of
/// the kernel half does not follow every combination of what they may be.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// The state of the thread.
    state: u64,
    /// Where the search is.
    at: u64,
    /// Where it was before.
    before: u64,
    /// Which callback of a future is looked at.
    callback: u64,
    /// What a callback completes or has go on.
    woken: u64,
    /// What goes on once the future is done.
    waiter: u64,
    /// The first task on the way.
    first: u64,
    /// The last task on the way.
    last: u64,
}

#[inline(always)]
fn get(value: &u64) -> u64 {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::from_ref(value).read_volatile() }
}

#[inline(always)]
fn set(value: &mut u64, to: u64) {
    // SAFETY: a reference is valid for writes.
    unsafe { core::ptr::from_mut(value).write_volatile(to) };
}

impl Path {
    /// Leads from `at` to where it ends; to zero if it breaks, or leads nowhere.
    #[inline(always)]
    fn follow(&self, at: &mut u64, memory: &impl Memory) {
        let mut index = 0;
        if self.len == 0 {
            set(at, 0);
        }
        while index < STEPS {
            if index as u32 >= self.len || get(at) == 0 {
                break;
            }
            let step = i64::from(self.steps[index]);
            let next = memory.word(get(at).wrapping_add_signed(step));
            set(at, next.unwrap_or(0));
            index += 1;
        }
    }
}

impl PythonLayout {
    /// The task for which the thread with this thread pointer is working: the one that its event
    /// loop is running, or one that waits for what the thread does.
    #[inline(always)]
    pub fn task(&self, thread: u64, walk: &mut Walk, memory: &impl Memory) -> Option<Waiting> {
        set(&mut walk.state, memory.word(thread.wrapping_add_signed(self.thread_state))?);
        if memory.word(get(&walk.state) + u64::from(self.thread_id))? != thread {
            return None;
        }
        set(&mut walk.at, 0);
        self.running(walk, memory);
        if get(&walk.at) == 0 {
            self.carried(walk, memory);
        }
        self.climb(walk, memory);
        let (task, outermost) = (get(&walk.first), get(&walk.last));
        if task == 0 { None } else { Some(Waiting { task, outermost }) }
    }

    /// Goes to the task that the thread's event loop is running.
    #[inline(always)]
    fn running(&self, walk: &mut Walk, memory: &impl Memory) -> Option<()> {
        let context = memory.word(get(&walk.state) + u64::from(self.context))?;
        let keys = memory.word(self.current_tasks + DICT_KEYS)?;
        let (count, entries) = if self.keys == keys::SIZED {
            let size = memory.word(keys + 8)?;
            // Only small dictionaries have indices of one byte.
            if size > 0x80 {
                return None;
            }
            (memory.word(keys + 32)?, keys + 40 + size)
        } else {
            let [_, index_bytes, kind, ..] = memory.word(keys + 8)?.to_le_bytes();
            if kind != 0 || index_bytes > 8 {
                return None;
            }
            (memory.word(keys + 24)?, keys + 32 + (1 << index_bytes))
        };
        let mut index = 0;
        while index < LOOPS {
            if index >= count {
                break;
            }
            // Hash, key and value.
            let task = memory.word(entries + index * 24 + 16).unwrap_or(0);
            if self.is_task(task, memory)
                && memory.word(task + u64::from(self.task_context)) == Some(context)
            {
                set(&mut walk.at, task);
                break;
            }
            index += 1;
        }
        Some(())
    }

    /// Goes to what waits for the work that the thread does for somebody else.
    #[inline(always)]
    fn carried(&self, walk: &mut Walk, memory: &impl Memory) {
        set(&mut walk.at, get(&walk.state));
        self.frame.follow(&mut walk.at, memory);
        let mut code = 0;
        let mut depth = 0;
        while depth < FRAMES {
            let frame = get(&walk.at);
            if frame == 0 {
                return;
            }
            code = memory.word(frame + u64::from(self.frame_code)).unwrap_or(0);
            if code != 0 && (code == self.carriers[0].code || code == self.carriers[1].code) {
                break;
            }
            let back = memory.word(frame + u64::from(self.frame_back));
            set(&mut walk.at, back.unwrap_or(0));
            depth += 1;
        }
        if code != 0 && code == self.carriers[0].code {
            self.carriers[0].waiter.follow(&mut walk.at, memory);
        } else if code != 0 && code == self.carriers[1].code {
            self.carriers[1].waiter.follow(&mut walk.at, memory);
        } else {
            set(&mut walk.at, 0);
        }
    }

    /// Goes from an object to what waits for it as far as that is known; notes the first and the
    /// last task on the way.
    #[inline(always)]
    fn climb(&self, walk: &mut Walk, memory: &impl Memory) {
        set(&mut walk.before, 0);
        set(&mut walk.first, 0);
        set(&mut walk.last, 0);
        let mut length = 0;
        while length < CHAIN {
            let at = get(&walk.at);
            if at == 0 {
                return;
            }
            let kind = memory.word(at + TYPE).unwrap_or(0);
            if kind == self.task_type {
                if get(&walk.first) == 0 {
                    set(&mut walk.first, at);
                }
                set(&mut walk.last, at);
            }
            set(&mut walk.waiter, 0);
            if self.is_future_type(kind, memory) {
                self.wait(walk, memory);
            } else {
                set(&mut walk.callback, at);
                self.wake(walk, memory);
                set(&mut walk.waiter, get(&walk.woken));
            }
            set(&mut walk.before, at);
            set(&mut walk.at, get(&walk.waiter));
            length += 1;
        }
    }

    /// Finds what goes on once the future or task is done, if that is one thing only. A future may
    /// also tell the one that it was made for of its own end.
    #[inline(always)]
    fn wait(&self, walk: &mut Walk, memory: &impl Memory) -> Option<()> {
        let future = get(&walk.at);
        let list = memory.word(future + MORE_CALLBACKS)?;
        let count = memory.word(list + SIZE).unwrap_or(0);
        let items = memory.word(list + LIST_ITEMS).unwrap_or(0);
        set(&mut walk.callback, memory.word(future + FIRST_CALLBACK)?);
        let mut index = 0;
        while index < CALLBACKS {
            self.wake(walk, memory);
            let woken = get(&walk.woken);
            if woken != 0 && woken != get(&walk.before) {
                let waiter = get(&walk.waiter);
                if waiter != 0 && waiter != woken {
                    set(&mut walk.waiter, 0);
                    break;
                }
                set(&mut walk.waiter, woken);
            }
            if list == 0 || index >= count {
                break;
            }
            // A pair of the callback and its context.
            let pair = memory.word(items + index * 8).unwrap_or(0);
            let callback = memory.word(pair + u64::from(self.tuple_items)).unwrap_or(0);
            set(&mut walk.callback, callback);
            index += 1;
        }
        Some(())
    }

    /// Finds the future or task that the callback completes or has go on.
    #[inline(always)]
    fn wake(&self, walk: &mut Walk, memory: &impl Memory) -> Option<()> {
        set(&mut walk.woken, 0);
        let callback = get(&walk.callback);
        if callback == 0 {
            return None;
        }
        let kind = memory.word(callback + TYPE)?;
        if kind == self.function_type {
            // `gather`, `shield`, `wait` and what joins threads to a loop: functions that enclose
            // the future they complete.
            let closure = memory.word(callback + u64::from(self.closure))?;
            return self.find_future(closure, CELL_CONTENT, walk, memory);
        }
        if kind != 0 && kind == self.partial_type {
            // `wait_for`, up to Python 3.11.
            let arguments = memory.word(callback + PARTIAL_ARGUMENTS)?;
            return self.find_future(arguments, ITSELF, walk, memory);
        }
        if kind == self.method_type {
            let group = memory.word(callback + BOUND_TO)?;
            if memory.word(group + TYPE)? == self.group_type {
                set(&mut walk.woken, group);
                self.group_parent.follow(&mut walk.woken, memory);
            }
        } else if kind == self.builtin_type {
            let definition = memory.word(callback + BUILTIN_DEFINITION)?;
            if memory.word(memory.word(definition)?)? == WAKEUP_METHOD {
                set(&mut walk.woken, memory.word(callback + BOUND_TO)?);
            }
        } else if memory.word(memory.word(kind + TYPE_NAME)?)? == WAKEUP_WRAPPER {
            set(&mut walk.woken, memory.word(callback + WAKEUP_TASK)?);
        }
        if !self.is_task(get(&walk.woken), memory) {
            set(&mut walk.woken, 0);
        }
        Some(())
    }

    /// Finds the first future among a tuple's items, or in what they refer to at an offset.
    #[inline(always)]
    fn find_future(
        &self,
        tuple: u64,
        offset: u64,
        walk: &mut Walk,
        memory: &impl Memory,
    ) -> Option<()> {
        if tuple == 0 {
            return None;
        }
        let count = memory.word(tuple + SIZE)?;
        let mut index = 0;
        while index < CELLS {
            if index >= count {
                break;
            }
            let mut object = memory.word(tuple + u64::from(self.tuple_items) + index * 8)?;
            if offset != ITSELF {
                object = memory.word(object + offset).unwrap_or(0);
            }
            let kind = memory.word(object + TYPE).unwrap_or(0);
            if self.is_future_type(kind, memory) {
                set(&mut walk.woken, object);
                break;
            }
            index += 1;
        }
        Some(())
    }

    #[inline(always)]
    fn is_task(&self, object: u64, memory: &impl Memory) -> bool {
        object != 0 && memory.word(object + TYPE) == Some(self.task_type)
    }

    /// Whether objects of a type are futures, as tasks are; that of `gather` has a type of its own.
    #[inline(always)]
    fn is_future_type(&self, kind: u64, memory: &impl Memory) -> bool {
        kind == self.task_type
            || kind == self.future_type
            || kind != 0 && memory.word(kind + TYPE_BASE) == Some(self.future_type)
    }
}
