"""A service on aiohttp's server and client, with `LOOP=uvloop` on uvloop; knows nothing of
tracing."""

import asyncio
import os

import aiohttp
from aiohttp import web

from plan import leaf_urls, steps

CLIENT = web.AppKey("client", aiohttp.ClientSession)


async def work(request):
    async def call(url):
        async with request.app[CLIENT].get(url) as answer:
            answer.raise_for_status()
            await answer.read()

    urls = leaf_urls(request.path)
    for step, number in steps(request.query_string):
        if step == "s":
            await asyncio.sleep(number / 1000)
            continue
        batch = [next(urls) for _ in range(number)]
        if step == "p":
            await asyncio.gather(*map(call, batch))
        else:
            for url in batch:
                await call(url)
    return web.Response(text="done\n")


async def client(app):
    # No limit on connections: calls of many requests must not wait for each other.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app[CLIENT] = session
        yield


def new_loop():
    if os.environ.get("LOOP") == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


app = web.Application()
app.router.add_get("/plan/{tag}", work)
app.cleanup_ctx.append(client)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, loop=new_loop())
