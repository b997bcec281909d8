"""Calls what it is asked to call and answers what it was answered, for each call a line of JSON.

`FORWARD` says what goes along: `none` of the headers of the request, `all` of them as they came,
or `own`, which stands for an SDK: a trace context of its own making.
"""

import http.client
import http.server
import json
import os
import urllib.parse

FORWARD = os.environ["FORWARD"]
# What concerns one connection alone.
HOP = {"host", "connection"}
OWN = [
    ("TraceParent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"),
    ("TRACESTATE", "own=1 ,\tother=2"),
]


class Relay(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        url = urllib.parse.urlsplit(query["url"][0])
        answers = [self.call(url) for _ in range(int(query.get("times", "1")[0]))]
        body = "".join(json.dumps(answer) + "\n" for answer in answers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def call(self, url):
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
        connection.putrequest("GET", url.path or "/", skip_accept_encoding=True)
        for name, value in self.forwarded():
            connection.putheader(name, value)
        connection.endheaders()
        with connection.getresponse() as answer:
            body = answer.read().decode("latin-1")
        connection.close()
        return body

    def forwarded(self):
        if FORWARD == "own":
            return OWN
        if FORWARD == "all":
            return [item for item in self.headers.items() if item[0].lower() not in HOP]
        return []

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


Server(("127.0.0.1", int(os.environ["PORT"])), Relay).serve_forever()
