"""Asks for each URL of its command line on one session, then uploads to the first one."""

import sys

import requests

with requests.Session() as session:
    for url in sys.argv[1:]:
        session.get(url, timeout=10)
    session.post(sys.argv[1], data=b"x" * 200_000, timeout=10)
