"""Asks for each URL of its command line on one client, then uploads to the first one in chunks."""

import asyncio
import sys

import httpx


async def chunks():
    for _ in range(20):
        yield b"x" * 10_000


async def main(urls):
    async with httpx.AsyncClient(timeout=10) as client:
        for url in urls:
            await client.get(url)
        await client.post(urls[0], content=chunks())


asyncio.run(main(sys.argv[1:]))
