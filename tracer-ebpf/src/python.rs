//! Which asyncio task a thread of a CPython process runs, and which task waits for that one.
//!
//! Follows pointers through the process' memory, the same way in both halves of the agent: the
//! kernel half while the thread is inside a system call, the tests while the process is stopped.
//! The interpreter's lock is not held meanwhile, so other threads may change what is looked at.
//! Therefore nothing counts as a task that does not say of itself that it is one, and a chain that
//! breaks anywhere is followed no further.

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
const LOOPS: u64 = 12;
/// Tasks and futures that wait for each other in a row.
const CHAIN: u32 = 12;
/// Callbacks of a future that are looked through.
const CALLBACKS: u64 = 3;
/// Arguments of a partial function that are looked through.
const ARGUMENTS: u64 = 2;
/// Variables of a closure that are looked through.
const CELLS: u64 = 8;
/// Frames of a thread that are looked through.
const FRAMES: u32 = 64;

/// Where a release of CPython, and this process, keep things. Offsets are within the structure
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
    /// Up to CPython 3.10: the size is a word, and each index one byte in small dictionaries.
    pub const SIZED: u32 = 0;
    /// From CPython 3.11 on: logarithms of sizes.
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
/// `TaskWakeupMethWrapper.ww_task`, up to CPython 3.9.
const WAKEUP_TASK: u64 = 16;
/// `task_wakeup`, the method that has a task go on, from CPython 3.10 on.
const WAKEUP_METHOD: u64 = u64::from_le_bytes(*b"task_wak");
/// `TaskWakeupMethWrapper`, the same thing up to CPython 3.9.
const WAKEUP_WRAPPER: u64 = u64::from_le_bytes(*b"TaskWake");

impl Path {
    /// Where it leads from `start`.
    #[inline(always)]
    pub fn follow(&self, start: u64, memory: &impl Memory) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let mut at = start;
        let mut index = 0;
        while index < STEPS {
            if index as u32 >= self.len {
                break;
            }
            at = memory.word(at.wrapping_add_signed(i64::from(self.steps[index])))?;
            index += 1;
        }
        Some(at)
    }
}

impl PythonLayout {
    /// The task for which the thread with this thread pointer is working: the one that its event
    /// loop is running, or one that waits for what the thread does.
    #[inline(always)]
    pub fn task(&self, thread: u64, memory: &impl Memory) -> Option<Waiting> {
        let state = memory.word(thread.wrapping_add_signed(self.thread_state))?;
        if memory.word(state + u64::from(self.thread_id))? != thread {
            return None;
        }
        let start = match self.running(state, memory) {
            Some(task) => task,
            None => self.carried(state, memory)?,
        };
        self.outermost(start, memory)
    }

    /// The task that the thread's event loop is running.
    #[inline(always)]
    fn running(&self, state: u64, memory: &impl Memory) -> Option<u64> {
        let context = memory.word(state + u64::from(self.context))?;
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
                return Some(task);
            }
            index += 1;
        }
        None
    }

    /// What waits for the work that the thread does for somebody else.
    #[inline(always)]
    fn carried(&self, state: u64, memory: &impl Memory) -> Option<u64> {
        let mut frame = self.frame.follow(state, memory)?;
        let mut depth = 0;
        while depth < FRAMES {
            if frame == 0 {
                return None;
            }
            let code = memory.word(frame + u64::from(self.frame_code))?;
            if code != 0 && code == self.carriers[0].code {
                return self.carriers[0].waiter.follow(frame, memory);
            }
            if code != 0 && code == self.carriers[1].code {
                return self.carriers[1].waiter.follow(frame, memory);
            }
            frame = memory.word(frame + u64::from(self.frame_back))?;
            depth += 1;
        }
        None
    }

    /// Goes from an object to what waits for it as far as that is known; gives the first and the
    /// last task on the way.
    #[inline(always)]
    fn outermost(&self, start: u64, memory: &impl Memory) -> Option<Waiting> {
        let mut first = 0;
        let mut last = 0;
        let mut before = 0;
        let mut at = start;
        let mut length = 0;
        while length < CHAIN {
            let kind = memory.word(at + TYPE).unwrap_or(0);
            if kind == self.task_type {
                if first == 0 {
                    first = at;
                }
                last = at;
            }
            let next = if kind == self.task_type || self.is_future_type(kind, memory) {
                self.waiter(at, before, memory)
            } else {
                self.woken(at, memory)
            };
            let Some(next) = next else { break };
            before = at;
            at = next;
            length += 1;
        }
        if first == 0 { None } else { Some(Waiting { task: first, outermost: last }) }
    }

    /// What goes on once a future or task is done, if that is one thing only. A future may also
    /// tell the one that it was made for, `before`, of its own end.
    #[inline(always)]
    fn waiter(&self, future: u64, before: u64, memory: &impl Memory) -> Option<u64> {
        let list = memory.word(future + MORE_CALLBACKS)?;
        let count = if list == 0 { 0 } else { memory.word(list + SIZE)? };
        let items = if list == 0 { 0 } else { memory.word(list + LIST_ITEMS)? };
        let mut callback = memory.word(future + FIRST_CALLBACK)?;
        let mut waiter = 0;
        let mut index = 0;
        while index < CALLBACKS {
            let woken = self.woken(callback, memory).unwrap_or(0);
            if woken != 0 && woken != before {
                if waiter != 0 && waiter != woken {
                    return None;
                }
                waiter = woken;
            }
            if index >= count {
                break;
            }
            // A pair of the callback and its context.
            let pair = memory.word(items + index * 8).unwrap_or(0);
            callback = memory.word(pair + u64::from(self.tuple_items)).unwrap_or(0);
            index += 1;
        }
        if waiter == 0 { None } else { Some(waiter) }
    }

    /// The future or task that a callback completes or has go on.
    #[inline(always)]
    fn woken(&self, callback: u64, memory: &impl Memory) -> Option<u64> {
        if callback == 0 {
            return None;
        }
        let kind = memory.word(callback + TYPE)?;
        if kind == 0 {
            return None;
        }
        if kind == self.builtin_type {
            let definition = memory.word(callback + BUILTIN_DEFINITION)?;
            let name = memory.word(memory.word(definition)?)?;
            let task = memory.word(callback + BOUND_TO)?;
            return (name == WAKEUP_METHOD && self.is_task(task, memory)).then_some(task);
        }
        if kind == self.function_type {
            // `gather`, `shield`, `wait` and what joins threads to a loop: functions that enclose
            // the future they complete.
            let closure = memory.word(callback + u64::from(self.closure))?;
            return self.future_among(closure, CELLS, Some(CELL_CONTENT), memory);
        }
        if kind == self.partial_type {
            // `wait_for`, up to CPython 3.11.
            let arguments = memory.word(callback + PARTIAL_ARGUMENTS)?;
            return self.future_among(arguments, ARGUMENTS, None, memory);
        }
        if kind == self.method_type {
            let group = memory.word(callback + BOUND_TO)?;
            if memory.word(group + TYPE)? != self.group_type {
                return None;
            }
            let task = self.group_parent.follow(group, memory)?;
            return self.is_task(task, memory).then_some(task);
        }
        let name = memory.word(memory.word(kind + TYPE_NAME)?)?;
        let task = memory.word(callback + WAKEUP_TASK)?;
        (name == WAKEUP_WRAPPER && self.is_task(task, memory)).then_some(task)
    }

    /// The first future among a tuple's items, or in what they refer to.
    #[inline(always)]
    fn future_among(
        &self,
        tuple: u64,
        most: u64,
        reference: Option<u64>,
        memory: &impl Memory,
    ) -> Option<u64> {
        if tuple == 0 {
            return None;
        }
        let count = memory.word(tuple + SIZE)?;
        let mut index = 0;
        while index < most {
            if index >= count {
                break;
            }
            let item = memory.word(tuple + u64::from(self.tuple_items) + index * 8).unwrap_or(0);
            let object = match reference {
                Some(offset) => memory.word(item + offset).unwrap_or(0),
                None => item,
            };
            if object != 0 {
                let kind = memory.word(object + TYPE).unwrap_or(0);
                if kind == self.task_type || self.is_future_type(kind, memory) {
                    return Some(object);
                }
            }
            index += 1;
        }
        None
    }

    #[inline(always)]
    fn is_task(&self, object: u64, memory: &impl Memory) -> bool {
        object != 0 && memory.word(object + TYPE) == Some(self.task_type)
    }

    /// Whether objects of a type are futures; that of `gather` has a type of its own.
    #[inline(always)]
    fn is_future_type(&self, kind: u64, memory: &impl Memory) -> bool {
        kind == self.future_type || memory.word(kind + TYPE_BASE) == Some(self.future_type)
    }
}
