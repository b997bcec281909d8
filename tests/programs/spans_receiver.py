"""An OTLP receiver over HTTP/protobuf that writes down which spans it got: 24 bytes each, trace and
span id, appended to a file before the answer. `spans_receiver.py PORT FILE`."""

import http.server
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

FILE = open(sys.argv[2], "ab")
ANSWER = ExportTraceServiceResponse().SerializeToString()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        FILE.write(
            b"".join(
                span.trace_id + span.span_id
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            )
        )
        FILE.flush()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *arguments):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
