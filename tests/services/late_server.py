"""Answers, and goes on calling after that, on the thread that answered; knows nothing of tracing.
`/late?url=URL` calls the URL once before it answers and three times afterwards."""

import http.server
import os
import urllib.parse
import urllib.request


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        urls = query.get("url", [])
        for url in urls:
            urllib.request.urlopen(url).read()
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"done\n")
        self.wfile.flush()
        for url in urls * 3:
            urllib.request.urlopen(f"{url}-late").read()

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])), Handler).serve_forever()
