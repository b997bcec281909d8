"""The shop: answers checkouts, asks the price service. Knows nothing of tracing."""

import os

import requests
from flask import Flask, request

app = Flask(__name__)
prices = requests.Session()


def passed_on():
    """Headers that this company's services hand from call to call when they got them."""
    names = ("traceparent", "tracestate", "x-request-id")
    return {name: request.headers[name] for name in names if name in request.headers}


@app.get("/checkout/<item>")
def checkout(item):
    url = f"{os.environ['PRICES_URL']}/prices/{item}"
    answer = prices.get(url, headers=passed_on(), timeout=5)
    if answer.status_code != 200:
        return {"error": "no price", "item": item}, 502
    price = answer.json()
    return {"item": item, "total": price["amount"], "in_stock": price["stock"] > 0}
