"""A Flask service like any other; knows nothing of tracing."""

import requests
from flask import Flask, Response, request

app = Flask(__name__)


@app.get("/hello")
def hello():
    return "hello\n"


@app.get("/items/<int:item>")
def items(item):
    return {"item": item, "query": request.args.to_dict()}


@app.get("/status/<int:code>")
def status(code):
    return Response(status=code)


@app.post("/echo")
def echo():
    return Response(request.get_data(), content_type="application/octet-stream")


@app.get("/stream", defaults={"count": 5})
@app.get("/stream/<int:count>")
def stream(count):
    return Response((f"line {number}\n" for number in range(count)), content_type="text/plain")


@app.get("/call")
def call():
    """Calls another service, passing a trace context on unchanged when it got one."""
    passed_on = {
        name: request.headers[name]
        for name in ("traceparent", "tracestate")
        if name in request.headers
    }
    try:
        answer = requests.get(request.args["url"], headers=passed_on, timeout=10)
    except requests.RequestException as error:
        return f"{error}\n", 502
    return {"status": answer.status_code, "length": len(answer.content)}
