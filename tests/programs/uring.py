"""Serves HTTP on one connection with every byte moved by io_uring:

    uring.py COUNT

prints `listening PORT`, answers COUNT requests, prints `moved BYTES`. The ring is set up by hand:
the standard library has no name for it.
"""

import ctypes
import mmap
import socket
import struct
import sys

SETUP, ENTER = 425, 426
SEND, RECEIVE = 26, 27
WAIT_FOR_COMPLETIONS = 1
ENTRIES_AT = 0x10000000

libc = ctypes.CDLL(None, use_errno=True)


class Ring:
    """One submission at a time, waited for at once."""

    def __init__(self):
        parameters = (ctypes.c_char * 120)()
        self.fd = libc.syscall(SETUP, 4, parameters)
        assert self.fd >= 0, f"io_uring_setup: errno {ctypes.get_errno()}"
        entries, completions = struct.unpack_from("II", parameters, 0)
        offsets = struct.unpack_from("7I", parameters, 40)
        self.submit_tail, self.submit_mask, self.submit_array = offsets[1], offsets[2], offsets[6]
        offsets = struct.unpack_from("6I", parameters, 80)
        self.head, self.mask, self.completions = offsets[0], offsets[2], offsets[5]
        size = max(self.submit_array + 4 * entries, self.completions + 16 * completions)
        self.ring = mmap.mmap(self.fd, size)
        self.entries = mmap.mmap(self.fd, 64 * entries, offset=ENTRIES_AT)

    def word(self, at):
        return struct.unpack_from("I", self.ring, at)[0]

    def call(self, operation, fd, address, size):
        tail = self.word(self.submit_tail)
        slot = tail & self.word(self.submit_mask)
        entry = struct.pack("BBHiQQIIQ", operation, 0, 0, fd, 0, address, size, 0, 7)
        self.entries[64 * slot:64 * slot + 64] = entry.ljust(64, b"\0")
        struct.pack_into("I", self.ring, self.submit_array + 4 * slot, slot)
        struct.pack_into("I", self.ring, self.submit_tail, tail + 1)
        done = libc.syscall(ENTER, self.fd, 1, 1, WAIT_FOR_COMPLETIONS, None, 0)
        assert done == 1, f"io_uring_enter: errno {ctypes.get_errno()}"
        head = self.word(self.head)
        at = self.completions + 16 * (head & self.word(self.mask))
        tag, result = struct.unpack_from("Qi", self.ring, at)
        struct.pack_into("I", self.ring, self.head, head + 1)
        assert tag == 7 and result >= 0, result
        return result


def main():
    ring = Ring()
    listener = socket.create_server(("127.0.0.1", 0))
    print("listening", listener.getsockname()[1], flush=True)
    sock, _ = listener.accept()
    buffer = ctypes.create_string_buffer(65536)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    moved = 0
    for _ in range(int(sys.argv[1])):
        request = b""
        while b"\r\n\r\n" not in request:
            count = ring.call(RECEIVE, sock.fileno(), ctypes.addressof(buffer), len(buffer))
            assert count, "closed inside a head"
            request += buffer.raw[:count]
        outgoing = ctypes.create_string_buffer(answer, len(answer))
        sent = ring.call(SEND, sock.fileno(), ctypes.addressof(outgoing), len(answer))
        assert sent == len(answer)
        moved += len(request) + sent
    print("moved", moved, flush=True)


main()
