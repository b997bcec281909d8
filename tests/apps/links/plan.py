"""What a request is to do, in its query: `plan=s5.c2.p3`.

`s5` sleeps 5 ms, `c2` makes two calls one after the other, `p3` three at once. The calls of a
request are numbered from 0; call 1 of request 17 asks the leaf for `/leaf/17/1`.
"""

import os
import urllib.parse

LEAF = os.environ["LEAF"]


def steps(query):
    """The steps of a query: pairs of a letter and a number."""
    plan = urllib.parse.parse_qs(query, keep_blank_values=True)["plan"][0]
    return [(word[0], int(word[1:])) for word in plan.split(".") if word]


def leaf_urls(path):
    """URLs of the calls of the request for `/plan/TAG`, in order, without end."""
    tag = path.split("/")[2]
    number = 0
    while True:
        yield f"{LEAF}/leaf/{tag}/{number}"
        number += 1
