//! Where the releases of Python keep things, in bytes from the start of the structure, as their
//! headers say for 64-bit Linux. Bug-fix releases do not change them; whatever is read by them is
//! checked all the same.

use tracer_ebpf::python::keys;

/// How an instance keeps its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instances {
    /// In a dictionary that shares its keys with other instances.
    Dictionary,
    /// In an array that the fourth word before the instance points at.
    Before,
    /// In an array that the third word before the instance points at, less one.
    Tagged,
    /// In an array after the instance.
    Inline,
}

/// One minor release.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    pub(super) minor: u32,
    /// `_PyRuntimeState.interpreters.main`.
    pub(super) interpreter: u64,
    /// `PyInterpreterState`: `sys.modules`.
    pub(super) modules: u64,
    /// `PyInterpreterState`: its newest thread.
    pub(super) threads: u64,
    /// `PyThreadState.thread_id`.
    pub(super) thread_id: u32,
    /// `PyThreadState.context`.
    pub(super) context: u32,
    /// `PyThreadState` to the innermost frame.
    pub(super) frame: &'static [i32],
    /// Frame: the calling one.
    pub(super) frame_back: u32,
    /// Frame: its code.
    pub(super) frame_code: u32,
    /// Frame: its variables.
    pub(super) frame_variables: i32,
    /// `PyCodeObject`: the names of those variables.
    pub(super) variable_names: u64,
    /// `PyFunctionObject.func_code`.
    pub(super) function_code: u64,
    /// `PyFunctionObject.func_closure`.
    pub(super) closure: u32,
    /// `PyHeapTypeObject.ht_cached_keys`.
    pub(super) shared_keys: u64,
    /// Characters of a string that is ASCII.
    pub(super) characters: u64,
    /// `TaskObj.task_context`.
    pub(super) task_context: u32,
    pub(super) instances: Instances,
    /// Layout of dictionary keys.
    pub(super) keys: u32,
}

/// 3.8, from which the others differ.
const OLDEST: Release = Release {
    minor: 8,
    interpreter: 40,
    modules: 56,
    threads: 8,
    thread_id: 176,
    context: 240,
    frame: &[24],
    frame_back: 24,
    frame_code: 32,
    frame_variables: 360,
    variable_names: 72,
    function_code: 16,
    closure: 48,
    shared_keys: 872,
    characters: 48,
    task_context: 128,
    instances: Instances::Dictionary,
    keys: keys::SIZED,
};
const WITH_MODULES_LAST: Release =
    Release { minor: 9, modules: 856, shared_keys: 864, task_context: 168, ..OLDEST };
const WITH_FRAME_CONSTRUCTORS: Release = Release {
    minor: 10,
    frame_variables: 352,
    function_code: 48,
    closure: 72,
    shared_keys: 872,
    task_context: 176,
    ..WITH_MODULES_LAST
};
const WITH_LEAN_FRAMES: Release = Release {
    minor: 11,
    interpreter: 48,
    modules: 888,
    threads: 16,
    thread_id: 152,
    context: 224,
    frame: &[56, 8],
    frame_back: 48,
    frame_code: 32,
    frame_variables: 72,
    variable_names: 96,
    task_context: 152,
    instances: Instances::Before,
    keys: keys::LOGARITHMIC,
    ..WITH_FRAME_CONSTRUCTORS
};
const WITH_INTERPRETER_LOCKS: Release = Release {
    minor: 12,
    modules: 944,
    threads: 72,
    thread_id: 136,
    context: 208,
    frame: &[56, 0],
    frame_back: 8,
    frame_code: 0,
    shared_keys: 880,
    characters: 40,
    instances: Instances::Tagged,
    ..WITH_LEAN_FRAMES
};
const WITH_INLINE_VALUES: Release = Release {
    minor: 13,
    interpreter: 640,
    modules: 7656,
    threads: 7344,
    thread_id: 152,
    frame: &[72],
    task_context: 136,
    instances: Instances::Inline,
    ..WITH_INTERPRETER_LOCKS
};

const ALL: [Release; 6] = [
    OLDEST,
    WITH_MODULES_LAST,
    WITH_FRAME_CONSTRUCTORS,
    WITH_LEAN_FRAMES,
    WITH_INTERPRETER_LOCKS,
    WITH_INLINE_VALUES,
];

impl Release {
    /// Python 3.`minor`, if its layout is known.
    pub(super) fn of(minor: u32) -> Option<&'static Self> {
        ALL.iter().find(|release| release.minor == minor)
    }
}
