//! Kernel structure offsets and start-up settings, written by the loader before load.
//!
//! They live in read-only data which is frozen before verification, so the verifier sees
//! constants. Nothing here is ever written by a program.

use core::ptr::addr_of;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            static $name: u32 = 0;
        )*

        /// Accessors that the compiler cannot fold.
        pub(crate) mod at {
            $(
                #[allow(non_snake_case)]
                #[inline(always)]
                pub(crate) fn $name() -> u64 {
                    // SAFETY: a plain read of a static of this type.
                    u64::from(unsafe { super::addr_of!(super::$name).read_volatile() })
                }
            )*
        }
    };
}

offsets! {
    SOCK_FAMILY, SOCK_FLAGS, SOCK_NUM, SOCK_DPORT, SOCK_DADDR, SOCK_RCV_SADDR, SOCK_NET,
    SOCK_V6_DADDR, SOCK_V6_RCV_SADDR, SOCK_TYPE, SOCK_PROTOCOL, SOCK_ERR, SOCK_SHUTDOWN,
    SOCK_SOCKET, SOCK_BACKLOG, SOCK_MAX_BACKLOG, SOCK_COOKIE, NET_INUM,
    TCP_WRITE_SEQ, TCP_SND_NXT, TCP_COPIED_SEQ, TCP_RCV_NXT, TCP_MSTAMP,
    TCP_BYTES_SENT, TCP_BYTES_RECEIVED,
    UNIX_ADDR, UNIX_PEER, UNIX_ADDR_LEN, UNIX_ADDR_NAME,
    SOCKET_SK, SOCKET_FILE, FILE_INODE, FILE_PRIVATE, INODE_INO, INODE_MODE,
    TASK_FILES, FILES_FDT, FDT_FD, FDT_MAX,
    TASK_MM, TASK_LEADER, TASK_REAL_PARENT, TASK_TGID, TASK_COMM, TASK_START, TASK_WAITS,
    TASK_READS, TASK_FS_BASE,
    MM_ARG_START, MM_ARG_END, MM_ENV_START, MM_ENV_END,
    /// The agent's own process.
    AGENT_TGID,
    /// Bytes copied of one message.
    MESSAGE_BUDGET,
    /// One of `verdict`: what a process without an entry is.
    DEFAULT_VERDICT,
    /// Non-zero if `SELECTED_CGROUPS` holds that many entries.
    CGROUP_COUNT,
    /// Non-zero if `PORTS` has entries.
    PORT_SELECTION,
    /// Ring fill in bytes from which the agent is woken at once.
    WAKE_BYTES,
    /// State is kept in the `CONNECTIONS` map (non-zero) or in socket storage.
    STATE_IN_MAP,
    /// Non-zero if connections may be redirected.
    REDIRECTS,
    /// Non-zero if only processes with the `PROPAGATE` flag are redirected.
    REDIRECT_CHOSEN,
}
