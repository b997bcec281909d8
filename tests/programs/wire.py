"""One end of a connection that does exactly what it is told, step by step:

    wire.py serve PORT STEPS    listens on a port (0: a free one), prints `listening PORT`, takes
                                one connection
    wire.py call PORT STEPS     connects to it

STEPS is a JSON list of `[VERB, TEXT]`; characters of TEXT stand for bytes. Prints `done` when all
were taken. See `tests/src/wire.rs` for what the verbs mean.
"""

import json
import os
import signal
import socket
import struct
import sys
import time

PATIENCE = 20


class Wire:
    def __init__(self, sock):
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.data = b""

    def take(self, steps):
        for verb, text in steps:
            getattr(self, verb)(text.encode("latin-1"))

    def send(self, data):
        self.sock.sendall(data)

    def bytewise(self, data):
        for byte in data:
            self.sock.sendall(bytes([byte]))

    def until(self, mark, size=65536):
        while mark not in self.data:
            more = self.sock.recv(size)
            assert more, f"end of stream before {mark!r}, after {self.data!r}"
            self.data += more
        _, _, self.data = self.data.partition(mark)

    def sip(self, mark):
        self.until(mark, 1)

    def end(self, _):
        while self.sock.recv(65536):
            pass

    def broken(self, _):
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            return
        raise AssertionError("an orderly end of stream")

    def shutdown(self, _):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self, _):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self, _):
        self.sock.close()

    def say(self, text):
        print(text.decode("latin-1"), flush=True)

    def gate(self, path):
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(path):
            assert time.monotonic() < deadline, f"nobody made {path!r}"
            time.sleep(0.005)

    def hang(self, _):
        print("hanging", flush=True)
        signal.pause()


def main():
    role, port, steps = sys.argv[1:]
    if role == "serve":
        listener = socket.create_server(("127.0.0.1", int(port)))
        listener.settimeout(PATIENCE)
        print("listening", listener.getsockname()[1], flush=True)
        sock, _ = listener.accept()
        listener.close()
    else:
        sock = socket.create_connection(("127.0.0.1", int(port)), PATIENCE)
    with sock:
        Wire(sock).take(json.loads(steps))
    print("done", flush=True)


main()
