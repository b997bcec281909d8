"""An ASGI service that calls with httpx or, with `CLIENT=to_thread`, with `requests` on threads of
the event loop's pool; knows nothing of tracing."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import httpx
import requests
from requests.adapters import HTTPAdapter

from plan import leaf_urls, steps

CONNECTIONS = 256

if os.environ["CLIENT"] == "httpx":
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60)

    async def call(url):
        (await client.get(url)).raise_for_status()

else:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_maxsize=CONNECTIONS))

    async def call(url):
        (await asyncio.to_thread(session.get, url)).raise_for_status()


async def lifespan(receive, send):
    # The pool of `asyncio.to_thread`; by default it has few threads.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CONNECTIONS))
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    urls = leaf_urls(scope["path"])
    for step, number in steps(scope["query_string"].decode()):
        if step == "s":
            await asyncio.sleep(number / 1000)
            continue
        batch = [next(urls) for _ in range(number)]
        if step == "p":
            await asyncio.gather(*map(call, batch))
        else:
            for url in batch:
                await call(url)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"done\n"})
