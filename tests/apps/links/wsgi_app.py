"""A WSGI service that calls with `requests`; knows nothing of tracing.

With `FAN_OUT=1`, calls that are to be made at once are: on threads of a pool.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import requests
from requests.adapters import HTTPAdapter

from plan import leaf_urls, steps

CONNECTIONS = 256

session = requests.Session()
session.mount("http://", HTTPAdapter(pool_maxsize=CONNECTIONS))
pool = ThreadPoolExecutor(CONNECTIONS) if os.environ.get("FAN_OUT") else None


def call(url):
    session.get(url).raise_for_status()


def app(environ, start_response):
    urls = leaf_urls(environ["PATH_INFO"])
    for step, number in steps(environ["QUERY_STRING"]):
        if step == "s":
            time.sleep(number / 1000)
            continue
        batch = [next(urls) for _ in range(number)]
        if step == "p" and pool:
            list(pool.map(call, batch))
        else:
            for url in batch:
                call(url)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"done\n"]
