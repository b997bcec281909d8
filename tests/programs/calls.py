"""Moves one HTTP exchange over a socket with the system calls named on the command line.

Both ends run in this process, so that each call is seen as a server's and as a client's:

    calls.py SEND RECEIVE [FAMILY]

prints `done STATUS` when the exchange is over. Standard library only; the calls Python has no
name for go through libc.
"""

import ctypes
import os
import socket
import sys
import tempfile
import threading

libc = ctypes.CDLL(None, use_errno=True)


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", Msghdr), ("len", ctypes.c_uint)]


def message_vector(buffers):
    """An array of one-buffer messages, and what must be kept alive while it is used."""
    vectors = [Iovec(ctypes.cast(b, ctypes.c_void_p), len(b)) for b in buffers]
    messages = (Mmsghdr * len(buffers))()
    for message, vector in zip(messages, vectors):
        message.hdr.iov = ctypes.pointer(vector)
        message.hdr.iovlen = 1
    return messages, (vectors, buffers)


def halves(data):
    middle = len(data) // 2
    return data[:middle], data[middle:]


def send_all(write):
    def send(sock, data):
        while data:
            data = data[write(sock, data):]
    return send


def sendmmsg(sock, data):
    buffers = [ctypes.create_string_buffer(part, len(part)) for part in halves(data)]
    messages, _alive = message_vector(buffers)
    sent = libc.sendmmsg(sock.fileno(), messages, len(messages), 0)
    assert sent == len(messages), os.strerror(ctypes.get_errno())


def sendfile(sock, data):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        offset = 0
        while offset < len(data):
            offset += os.sendfile(sock.fileno(), file.fileno(), offset, len(data) - offset)


def splice_out(sock, data):
    reader, writer = os.pipe()
    os.write(writer, data)
    moved = 0
    while moved < len(data):
        moved += os.splice(reader, sock.fileno(), len(data) - moved)
    os.close(reader)
    os.close(writer)


SEND = {
    "write": send_all(lambda s, d: os.write(s.fileno(), d)),
    "writev": send_all(lambda s, d: os.writev(s.fileno(), list(halves(d)) if len(d) > 1 else [d])),
    "pwritev2": send_all(lambda s, d: libc.pwritev2(
        s.fileno(), (Iovec * 1)(Iovec(ctypes.cast(ctypes.c_char_p(d), ctypes.c_void_p), len(d))),
        1, ctypes.c_long(-1), 0)),
    "send": send_all(lambda s, d: s.send(d)),
    "sendmsg": send_all(lambda s, d: s.sendmsg(halves(d))),
    "sendmmsg": sendmmsg,
    # Heads are written, bodies moved inside the kernel, as servers do.
    "sendfile": sendfile,
    "splice": splice_out,
    "bytewise": lambda s, d: [s.send(d[i:i + 1]) for i in range(len(d))],
}
BODY_ONLY = {"sendfile", "splice"}


def recvmmsg(sock, size):
    buffers = [ctypes.create_string_buffer(size)]
    messages, _alive = message_vector(buffers)
    received = libc.recvmmsg(sock.fileno(), messages, 1, 0, None)
    assert received >= 0, os.strerror(ctypes.get_errno())
    return buffers[0].raw[:messages[0].len]


def readv(sock, size):
    first, second = bytearray(7), bytearray(size)
    count = os.readv(sock.fileno(), [first, second])
    return bytes(first + second)[:count]


def recvmsg(sock, size):
    first, second = bytearray(5), bytearray(size)
    count = sock.recvmsg_into([first, second])[0]
    return bytes(first + second)[:count]


def peek(sock, size):
    seen = sock.recv(size, socket.MSG_PEEK)
    data = sock.recv(size)
    assert data.startswith(seen) or seen.startswith(data)
    return data


def splice_in(sock, size):
    reader, writer = os.pipe()
    count = os.splice(sock.fileno(), writer, size)
    data = os.read(reader, count) if count else b""
    os.close(reader)
    os.close(writer)
    return data


RECEIVE = {
    "read": lambda s, n: os.read(s.fileno(), n),
    "readv": readv,
    "recv": lambda s, n: s.recv(n),
    "recvmsg": recvmsg,
    "recvmmsg": recvmmsg,
    "peek": peek,
    "waitall": lambda s, n: s.recv(n, socket.MSG_WAITALL),
    "splice": splice_in,
    "bytewise": lambda s, n: s.recv(1),
}

BODY = b"x" * 40_000


class Stream:
    """Reads heads and bodies with one receive call each time."""

    def __init__(self, sock, how):
        self.sock, self.how, self.data = sock, how, b""

    def head(self):
        # `splice` and `waitall` are ways to read a body whose length is known.
        receive = RECEIVE["recv" if self.how in ("splice", "waitall") else self.how]
        size = 4096 if self.how not in ("splice", "waitall") else 1
        while b"\r\n\r\n" not in self.data:
            more = receive(self.sock, size)
            assert more, "closed inside a head"
            self.data += more
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        return head

    def body(self, length):
        while len(self.data) < length:
            more = RECEIVE[self.how](self.sock, length - len(self.data))
            assert more, "closed inside a body"
            self.data += more
        body, self.data = self.data[:length], self.data[length:]
        return body


def send_message(sock, how, head, body):
    SEND["write" if how in BODY_ONLY else how](sock, head)
    SEND[how](sock, body)


def serve(listener, send, receive, length):
    sock, _ = listener.accept()
    with sock:
        stream = Stream(sock, receive)
        stream.head()
        assert stream.body(length) == BODY[:length]
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length
        send_message(sock, send, head, BODY[:length])
        sock.recv(1)


def listen(family, directory):
    if family == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(directory, "s"))
    elif family == "inet":
        listener = socket.socket(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
    listener.listen()
    return listener


def connect(family, listener):
    if family == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(listener.getsockname())
        return sock
    host = "::1" if family == "inet6" else "127.0.0.1"
    return socket.create_connection((host, listener.getsockname()[1]))


def main():
    send, receive = sys.argv[1], sys.argv[2]
    family = sys.argv[3] if len(sys.argv) > 3 else "inet"
    length = 600 if "bytewise" in (send, receive) else len(BODY)
    with tempfile.TemporaryDirectory() as directory:
        listener = listen(family, directory)
        arguments = (listener, send, receive, length)
        server = threading.Thread(target=serve, args=arguments, daemon=True)
        server.start()
        sock = connect(family, listener)
        head = b"POST /calls?state=1 HTTP/1.1\r\nHost: calls.test\r\nContent-Length: %d\r\n\r\n"
        send_message(sock, send, head % length, BODY[:length])
        stream = Stream(sock, receive)
        status = stream.head().split(b" ")[1].decode()
        assert stream.body(length) == BODY[:length]
        sock.close()
        server.join(10)
        print("done", status, flush=True)


main()
