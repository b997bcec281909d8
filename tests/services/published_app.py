"""A server whose SDK publishes its resource as process context; requests to it, the SDK knows
nothing of. Listens at PORT."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ddtrace.auto  # noqa: F401


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
