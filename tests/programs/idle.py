"""Opens connections and leaves them alone.

    idle.py COUNT HOST PORT PATH   asks for PATH once on each of so many connections, prints `idle`,
                                   keeps them open until SIGTERM
"""

import signal
import socket
import sys

PATIENCE = 20


def opened(host, port, request):
    sock = socket.create_connection((host, port), timeout=PATIENCE)
    sock.sendall(request)
    answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return sock


def main(count, host, port, path):
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    connections = [opened(host, int(port), request) for _ in range(int(count))]
    print("idle", flush=True)
    signal.sigwait({signal.SIGTERM})
    del connections


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(*sys.argv[1:])
