"""An OTLP receiver over gRPC and HTTP that answers as a script has it, and writes down what it did.

`faulty_receiver.py GRPC_PORT HTTP_PORT SCRIPT RECORD`

The script is a JSON object of lists, `grpc`, `protobuf` and `json`: the rows of each encoding. A
request that was not seen before, by its spans, takes the next row, which is a list of answers: the
first for the request, the others for its repetitions. After its row, and after all rows, everything
is taken. An answer is an object:

    code, message   gRPC: a status
    retry_info      gRPC: seconds, in the details of the status
    status, headers HTTP: a status, and headers beside those that are always there
    date            HTTP: `Retry-After` as a date, so many seconds from now
    body            text instead of what belongs there, whatever the status
    rejected        spans of a partial success, whose message is `message`
    delay           seconds before anything is answered
    reset           the connection is reset: `silent` before the answer, `status` within what says
                    how it went, `body` after that (HTTP)

The record has a line of JSON for each attempt: encoding, number of the row or null, number of the
attempt, and spans that were taken for good.
"""

import http.server
import json
import socket
import struct
import sys
import threading
import time
from concurrent import futures
from email.utils import formatdate

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

GRPC_PORT, HTTP_PORT, SCRIPT, RECORD = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
CODES = {code.value[0]: code for code in grpc.StatusCode}
# Closes without a word of farewell.
RESET = struct.pack("ii", 1, 0)


class Ledger:
    """Which row a request has, how often it came, and the record."""

    def __init__(self):
        with open(SCRIPT) as script:
            self.rows = {name: list(enumerate(rows)) for name, rows in json.load(script).items()}
        self.known = {}
        self.lock = threading.Lock()
        self.record = open(RECORD, "a")

    def answer(self, encoding, spans):
        """What to answer to an attempt that delivers these spans."""
        with self.lock:
            key = (encoding, spans[0])
            if key not in self.known:
                rows = self.rows.get(encoding)
                self.known[key] = [0, *(rows.pop(0) if rows else (None, []))]
            self.known[key][0] += 1
            attempt, row, answers = self.known[key]
            answer = answers[attempt - 1] if attempt <= len(answers) else {}
            taken = answer.get("code", 0) == 0 and 200 <= answer.get("status", 200) < 300
            # A client can only know of an answer that says how it went.
            taken = taken and answer.get("reset", "body") == "body"
            line = {
                "encoding": encoding,
                "row": row,
                "attempt": attempt,
                "taken": spans[answer.get("rejected", 0) :] if taken else [],
            }
            print(json.dumps(line), file=self.record, flush=True)
        time.sleep(answer.get("delay", 0))
        return answer


LEDGER = Ledger()


def ids(request):
    return [
        span.span_id.hex()
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def success(answer):
    partial = None
    if "rejected" in answer:
        partial = ExportTracePartialSuccess(
            rejected_spans=answer["rejected"], error_message=answer.get("message", "")
        )
    return ExportTraceServiceResponse(partial_success=partial)


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] == "application/json":
            encoding, spans = "json", [
                span["spanId"]
                for resource in json.loads(body)["resourceSpans"]
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            ]
        else:
            encoding, spans = "protobuf", ids(ExportTraceServiceRequest.FromString(body))
        answer = LEDGER.answer(encoding, spans)
        reset = answer.get("reset")
        if reset == "status":
            self.wfile.write(b"HTTP/1.1 20")
        elif reset != "silent":
            self.respond(encoding, answer, reset == "body")
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.connection.close()
            self.close_connection = True

    def respond(self, encoding, answer, cut):
        status = answer.get("status", 200)
        if "body" in answer:
            body = answer["body"].encode("latin-1")
        elif status >= 300:
            message = answer.get("message", "as the script has it")
            refusal = status_pb2.Status(message=message)
            body = (
                json.dumps({"message": message}).encode()
                if encoding == "json"
                else refusal.SerializeToString()
            )
        elif encoding == "json":
            partial = {"rejectedSpans": str(answer.get("rejected", 0))}
            partial["errorMessage"] = answer.get("message", "")
            body = json.dumps({"partialSuccess": partial} if "rejected" in answer else {}).encode()
        else:
            body = success(answer).SerializeToString()
        self.send_response(status)
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", str(len(body) + cut))
        for name, value in answer.get("headers", {}).items():
            self.send_header(name, value)
        if "date" in answer:
            self.send_header("Retry-After", formatdate(time.time() + answer["date"], usegmt=True))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Relay:
    """In front of the gRPC server, which cannot reset connections: passes on what comes."""

    def __init__(self, port, target):
        self.clients = {}
        self.dead = set()
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            self.clients[server.getsockname()[1]] = (client, server)
            for ends in ((client, server, client), (server, client, client)):
                threading.Thread(target=self.copy, args=ends, daemon=True).start()

    def copy(self, source, sink, client):
        try:
            while (data := source.recv(65536)) and client not in self.dead:
                sink.sendall(data)
            if client not in self.dead:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # One side is gone.

    def reset(self, peer):
        """Of the client that the gRPC server knows by this name."""
        client, server = self.clients[int(peer.rsplit(":", 1)[1])]
        self.dead.add(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        # Threads that read from them would keep them open.
        for end in (client, server):
            end.shutdown(socket.SHUT_RD)
            end.close()


def export(request, context):
    answer = LEDGER.answer("grpc", ids(request))
    if "reset" in answer:
        if answer["reset"] == "status":
            context.send_initial_metadata(())
            # Until it has passed the relay.
            time.sleep(0.1)
        RELAY.reset(context.peer())
        context.abort(grpc.StatusCode.INTERNAL, "nobody hears this")
    code, message = answer.get("code", 0), answer.get("message", "as the script has it")
    if code:
        if "retry_info" in answer:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(int(answer["retry_info"] * 1000))
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
            status = status_pb2.Status(code=code, message=message, details=[detail])
            details = ("grpc-status-details-bin", status.SerializeToString())
            context.set_trailing_metadata((details,))
        context.abort(CODES[code], message)
    if "body" in answer:
        return answer["body"].encode("latin-1")
    return success(answer).SerializeToString()


handler = grpc.unary_unary_rpc_method_handler(export, ExportTraceServiceRequest.FromString)
service = "opentelemetry.proto.collector.trace.v1.TraceService"
server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler(service, {"Export": handler}),)
)
RELAY = Relay(GRPC_PORT, server.add_insecure_port("127.0.0.1:0"))
server.start()
http.server.ThreadingHTTPServer(("127.0.0.1", HTTP_PORT), Http).serve_forever()
