"""Many connections at once.

    crowd.py serve                       answers each line with the port it comes from; prints
                                         `listening PORT`
    crowd.py hold HOST PORT COUNT DIRECTORY
                                         prints `ready`, waits for a file `go` in the directory,
                                         opens so many connections at once and asks on each, prints
                                         `held JSON`, waits for a file `end`, asks again on all,
                                         prints `answered JSON`

JSON has how often it got an answer, how many of these connections somebody else carries on
(`redirected`), and what failed, by step and error.
"""

import asyncio
import errno
import json
import os
import resource
import sys

PATIENCE = 60


def take_all_descriptors():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Mirror(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.answer = b"%d\n" % transport.get_extra_info("peername")[1]

    def data_received(self, data):
        self.transport.write(self.answer * data.count(b"\n"))


async def serve():
    server = await asyncio.get_running_loop().create_server(Mirror, "127.0.0.1", 0, backlog=65535)
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Asker(asyncio.Protocol):
    """Asks, and has a future for each answer."""

    def connection_made(self, transport):
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        self.data = b""
        self.error = None
        self.answer = None

    async def ask(self):
        self.answer = asyncio.get_running_loop().create_future()
        if self.error:
            raise self.error
        self.transport.write(b"?\n")
        return await asyncio.wait_for(self.answer, PATIENCE)

    def data_received(self, data):
        self.data += data
        if self.data.endswith(b"\n"):
            answer, self.data = int(self.data), b""
            self.answer.set_result(answer != self.port)

    def connection_lost(self, error):
        self.error = error or ConnectionError("end of stream")
        if self.answer and not self.answer.done():
            self.answer.set_exception(self.error)


class Counts:
    def __init__(self):
        self.counts = {"answered": 0, "redirected": 0, "connect": {}, "exchange": {}}

    def failed(self, step, error):
        name = errno.errorcode.get(getattr(error, "errno", None), type(error).__name__)
        self.counts[step][name] = self.counts[step].get(name, 0) + 1

    async def ask(self, asker):
        try:
            is_redirected = await asker.ask()
            self.counts["redirected"] += is_redirected
            self.counts["answered"] += 1
        except (OSError, asyncio.TimeoutError) as error:
            self.failed("exchange", error)


async def wait_for(file):
    while not os.path.exists(file):
        await asyncio.sleep(0.01)


async def hold(host, port, count, directory):
    loop = asyncio.get_running_loop()
    counts = Counts()
    askers = []

    async def begin():
        try:
            _, asker = await loop.create_connection(Asker, host, int(port))
        except OSError as error:
            counts.failed("connect", error)
            return
        askers.append(asker)
        await counts.ask(asker)

    print("ready", flush=True)
    await wait_for(f"{directory}/go")
    await asyncio.gather(*(begin() for _ in range(int(count))))
    print("held", json.dumps(counts.counts), flush=True)
    await wait_for(f"{directory}/end")
    again = Counts()
    await asyncio.gather(*(again.ask(asker) for asker in askers))
    print("answered", json.dumps(again.counts), flush=True)


take_all_descriptors()
asyncio.run({"serve": serve, "hold": hold}[sys.argv[1]](*sys.argv[2:]))
