"""Connects, and tells what it is told about the connection.

    dial.py once WAY HOST PORT     connects in a certain way and prints what it saw as JSON
    dial.py gated FILE HOST PORT   prints `waiting`, waits for the file, then as `once plain`
    dial.py hold HOST PORT FILE    connects, prints `held`, waits for the file, asks again
    dial.py loop THREADS HOST PORT connects over and over until SIGTERM, then prints, as JSON, how
                                   often, and what failed at which step

The server answers each line with the address and port that it sees. WAY is `plain`,
`nonblocking`, `fastopen`, `fastopen-connect`, `reused` (after another connection), or one of
`from-port`, `from-address`, `marked`, which make the socket special before it connects.
"""

import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time

PATIENCE = 20
MSG_FASTOPEN = 0x20000000
TCP_FASTOPEN_CONNECT = 30
SO_MARK = 36
ORIGINAL_DESTINATION = 80


def made(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    return sock


def disconnect(sock):
    """`connect` to no address: Python has no words for it."""
    nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
    assert ctypes.CDLL(None, use_errno=True).connect(sock.fileno(), nowhere, 16) == 0


def dialed(way, host, port):
    sock = made(host)
    if way == "nonblocking":
        sock.setblocking(False)
        code = sock.connect_ex((host, port))
        assert code in (0, errno.EINPROGRESS), errno.errorcode[code]
        assert select.select([], [sock], [], PATIENCE)[1], "not connected in time"
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert code == 0, errno.errorcode[code]
        sock.settimeout(PATIENCE)
    elif way == "fastopen":
        # With a timeout, the call would come back before the connection is there.
        sock.settimeout(None)
        sock.sendto(b"?\n", MSG_FASTOPEN, (host, port))
        sock.settimeout(PATIENCE)
        return sock
    elif way == "reused":
        with made(host) as other:
            other.bind((host, 0))
            other.listen()
            sock.connect((host, other.getsockname()[1]))
        disconnect(sock)
        sock.connect((host, port))
    else:
        if way == "fastopen-connect":
            sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        elif way == "from-port":
            sock.bind(("::" if ":" in host else "0.0.0.0", 0))
        elif way == "from-address":
            sock.bind((host, 0))
        elif way == "marked":
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, 7)
        sock.connect((host, port))
    sock.sendall(b"?\n")
    return sock


def original(sock, level, size):
    try:
        found = sock.getsockopt(level, ORIGINAL_DESTINATION, size)
    except OSError as error:
        return errno.errorcode[error.errno]
    port = struct.unpack_from("!H", found, 2)[0]
    if level == socket.IPPROTO_IPV6:
        return f"{socket.inet_ntop(socket.AF_INET6, found[8:24])} {port}"
    return f"{socket.inet_ntop(socket.AF_INET, found[4:8])} {port}"


def line_of(sock):
    data = b""
    while not data.endswith(b"\n"):
        more = sock.recv(4096)
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "no answer")
        data += more
    return data.decode().strip()


def told(sock):
    seen = line_of(sock)
    report = {
        "peer": " ".join(map(str, sock.getpeername()[:2])),
        "original4": original(sock, socket.IPPROTO_IP, 16),
        # The server sees our own socket, unless somebody else connected to it.
        "redirected": seen.split()[1] != str(sock.getsockname()[1]),
        "seen": seen.split()[0],
    }
    if sock.family == socket.AF_INET6:
        report["original6"] = original(sock, socket.IPPROTO_IPV6, 28)
    return report


def once(way, host, port):
    print(json.dumps(told(dialed(way, host, int(port)))))


def wait_for(file):
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(file):
        assert time.monotonic() < deadline, "the file does not come"
        time.sleep(0.01)


def gated(file, host, port):
    print("waiting", flush=True)
    wait_for(file)
    once("plain", host, port)


def hold(host, port, file):
    sock = dialed("plain", host, int(port))
    line_of(sock)
    print("held", flush=True)
    wait_for(file)
    sock.sendall(b"?\n" * 1000)
    answers = 0
    while answers < 1000:
        data = sock.recv(4096)
        assert data, "end of stream"
        answers += data.count(b"\n")
    print("answered", flush=True)


def loop(threads, host, port):
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    lock = threading.Lock()
    counts = {"connections": 0, "redirected": 0, "connect": {}, "exchange": {}}

    def count(step, error):
        name = errno.errorcode.get(error.errno, str(error)) if error.errno else str(error)
        with lock:
            counts[step][name] = counts[step].get(name, 0) + 1

    def work():
        while not done.is_set():
            sock = made(host)
            step = "connect"
            try:
                sock.connect((host, int(port)))
                step = "exchange"
                sock.sendall(b"?\n")
                answer = line_of(sock)
                redirected = answer.split()[1] != str(sock.getsockname()[1])
                with lock:
                    counts["connections"] += 1
                    counts["redirected"] += redirected
            except OSError as error:
                # What resets a connection that is not there yet refuses it (ECONNREFUSED). A reset
                # means that it was there, and broke before this thread looked: with a time limit,
                # Python asks for the outcome of a connect some time after the kernel had it.
                count("exchange" if error.errno == errno.ECONNRESET else step, error)
            finally:
                sock.close()

    workers = [threading.Thread(target=work) for _ in range(int(threads))]
    for worker in workers:
        worker.start()
    print("looping", flush=True)
    done.wait()
    for worker in workers:
        worker.join()
    print("looped " + json.dumps(counts), flush=True)


if __name__ == "__main__":
    {"once": once, "gated": gated, "hold": hold, "loop": loop}[sys.argv[1]](*sys.argv[2:])
