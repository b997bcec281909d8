"""A server whose connections change hands between two messages:

    handover.py fork|dup|pass

prints `listening PORT`, takes one connection, answers its first request, hands the connection
over, and lets the new owner answer the second. Prints `first PID` and `second PID`.
"""

import os
import socket
import sys


def answer(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        assert more, "closed inside a head"
        data += more
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def second(sock):
    say("second", os.getpid())
    answer(sock)
    sock.recv(1)


def fork(sock):
    child = os.fork()
    if child == 0:
        second(sock)
        os._exit(0)
    sock.close()
    assert os.waitpid(child, 0)[1] == 0


def dup(sock):
    copy = sock.dup()
    sock.close()
    second(copy)


def pass_on(sock, channel, child):
    socket.send_fds(channel, [b"x"], [sock.fileno()])
    sock.close()
    channel.close()
    assert os.waitpid(child, 0)[1] == 0


def main():
    # The receiver of a passed descriptor exists before the connection does.
    ours, theirs = socket.socketpair()
    child = os.fork() if sys.argv[1] == "pass" else None
    if child == 0:
        ours.close()
        _, descriptors, _, _ = socket.recv_fds(theirs, 1, 1)
        second(socket.socket(fileno=descriptors[0]))
        os._exit(0)
    theirs.close()
    listener = socket.create_server(("127.0.0.1", 0))
    say("listening", listener.getsockname()[1])
    sock, _ = listener.accept()
    say("first", os.getpid())
    answer(sock)
    if child:
        pass_on(sock, ours, child)
    else:
        {"fork": fork, "dup": dup}[sys.argv[1]](sock)
    say("done")


main()
