"""An ASGI service without a framework; knows nothing of tracing."""

import urllib.parse

import httpx


async def answer(send, status, body, content_type="text/plain"):
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    body = await read_body(receive)
    path = scope["path"]
    if path == "/hello":
        await answer(send, 200, b"hello\n")
    elif path.startswith("/status/"):
        await answer(send, int(path.removeprefix("/status/")), b"")
    elif path == "/echo":
        await answer(send, 200, body, "application/octet-stream")
    elif path == "/stream":
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(5):
            line = f"line {number}\n".encode()
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path.startswith("/blocks/"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(int(path.removeprefix("/blocks/"))):
            block = bytes(65536)
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/call":
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        passed_on = {
            name.decode(): value.decode()
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        try:
            async with httpx.AsyncClient() as client:
                called = await client.get(query["url"], headers=passed_on)
            await answer(send, 200, str(called.status_code).encode())
        except httpx.HTTPError as error:
            await answer(send, 502, f"{error}\n".encode())
    else:
        await answer(send, 404, b"not found\n")
