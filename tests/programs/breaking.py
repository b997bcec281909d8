"""HTTP that breaks off, at either end.

    breaking.py serve                            prints `listening PORT`
    breaking.py call HOST PORT HOW COUNT THREADS does one of these so often, a connection each, so
                                                 many at once, and prints `seen JSON`: how often
                                                 each thing happened

HOW is what to ask for: `whole`, `reset` (half a body, then a reset), `short` (half a body, then an
orderly end), `mute` (no answer at all; the client ends after a moment); or `upload-reset`,
`upload-short`, `upload-whole`: what the client does with a body of its own, once the server has
said that it wants it. `GET /uploads` gives
what the server saw of these, as JSON.
"""

import collections
import concurrent.futures
import errno
import json
import socket
import struct
import sys
import threading
import time

BODY = 1 << 20
HALF = b"x" * (BODY // 2)
PATIENCE = 30
# How long a client waits for a server that says nothing.
MUTE = 0.2
LONGEST_WAIT = 20

uploads = collections.Counter()
lock = threading.Lock()


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_head(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise EOFError
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def read_body(sock, got):
    """How the stream ended, and whether all of the body was there by then."""
    try:
        while got < BODY and (more := sock.recv(65536)):
            got += len(more)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    return "whole" if got == BODY else "short"


def answer(sock):
    sock.settimeout(PATIENCE)
    head, rest = read_head(sock)
    path = head.split(" ")[1]
    if path.startswith("/upload-"):
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        how = read_body(sock, len(rest))
        with lock:
            uploads[f"{path[1:]}: {how}"] += 1
        if how == "whole":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    elif path == "/uploads":
        with lock:
            body = json.dumps(uploads).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode() + body)
    elif path == "/mute":
        while sock.recv(65536):
            pass
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode() + HALF)
        if path == "/whole":
            sock.sendall(HALF)
        elif path == "/reset":
            # The client shall have seen that a body began.
            time.sleep(0.01)
            reset(sock)


def serve():
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print("listening", listener.getsockname()[1], flush=True)

    def served(sock):
        with sock:
            try:
                answer(sock)
            except (OSError, EOFError):
                # The client's doing.
                pass

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=served, args=(sock,), daemon=True).start()


def called(address, how):
    try:
        sock = socket.create_connection(address, PATIENCE)
    except OSError as error:
        return f"connect: {errno.errorcode.get(error.errno)}"
    with sock:
        try:
            return exchange(sock, how)
        except EOFError:
            return "no answer"
        except OSError as error:
            return errno.errorcode.get(error.errno, type(error).__name__)


def exchange(sock, how):
    if how == "mute":
        sock.sendall(b"GET /mute HTTP/1.1\r\nHost: mute.test\r\n\r\n")
        sock.settimeout(MUTE)
        read_head(sock)
        return "an answer"
    if not how.startswith("upload"):
        sock.sendall(f"GET /{how} HTTP/1.1\r\nHost: breaking.test\r\n\r\n".encode())
        _, rest = read_head(sock)
        return read_body(sock, len(rest))
    head = f"PUT /{how} HTTP/1.1\r\nHost: breaking.test\r\nContent-Length: {BODY}\r\n"
    sock.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
    read_head(sock)
    sock.sendall(HALF)
    if how == "upload-whole":
        sock.sendall(HALF)
        return read_head(sock)[0].split(" ")[1]
    if how == "upload-reset":
        time.sleep(0.01)
        reset(sock)
    return "left"


def settled(address, count):
    """What the server saw, once it has seen all."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        with socket.create_connection(address, PATIENCE) as sock:
            sock.sendall(b"GET /uploads HTTP/1.1\r\nHost: breaking.test\r\n\r\n")
            _, body = read_head(sock)
            while more := sock.recv(65536):
                body += more
        seen = json.loads(body)
        if sum(seen.values()) >= count or time.monotonic() > deadline:
            return seen
        time.sleep(0.05)


def call(host, port, how, count, threads):
    address = (host, int(port))
    with concurrent.futures.ThreadPoolExecutor(int(threads)) as pool:
        seen = collections.Counter(pool.map(lambda _: called(address, how), range(int(count))))
    if how.startswith("upload"):
        seen.update({f"server: {how}": count for how, count in settled(address, int(count)).items()})
    print("seen", json.dumps(seen), flush=True)


{"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
