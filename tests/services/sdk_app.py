"""A Flask service that calls others in two ways: by requests, which OpenTelemetry instruments, and
by urllib, which it is not asked to."""

from urllib.request import urlopen

import requests
from flask import Flask, request

app = Flask(__name__)


@app.get("/hello")
def hello():
    return "hello\n"


@app.get("/work")
def work():
    for url in request.args.getlist("known"):
        requests.get(url, timeout=10).raise_for_status()
    for url in request.args.getlist("unknown"):
        with urlopen(url, timeout=10) as answer:
            answer.read()
    return "done\n"
