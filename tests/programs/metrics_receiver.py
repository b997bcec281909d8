"""Receives OTLP metrics over gRPC and HTTP, and prints the values of each export.

A line a metric: name, service.name of its resource, and the sum of its values or counts.
"""

import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1 import (
    metrics_service_pb2 as messages,
    metrics_service_pb2_grpc as services,
)

lock = threading.Lock()


def tell(request):
    sums = {}
    for resource in request.resource_metrics:
        service = next(
            a.value.string_value
            for a in resource.resource.attributes
            if a.key == "service.name"
        )
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                key = (metric.name, service)
                for point in metric.sum.data_points:
                    sums[key] = sums.get(key, 0) + point.as_int
                for point in metric.histogram.data_points:
                    assert sum(point.bucket_counts) == point.count
                    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
                    sums[key] = sums.get(key, 0) + point.count
    with lock:
        print("export")
        for (name, service), total in sums.items():
            print(f"{name}|{service}|{total}")
        sys.stdout.flush()


class Grpc(services.MetricsServiceServicer):
    def Export(self, request, context):
        tell(request)
        return messages.ExportMetricsServiceResponse()


class Http(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = messages.ExportMetricsServiceRequest()
        if self.headers["Content-Type"] == "application/json":
            json_format.Parse(body, request)
        else:
            request.ParseFromString(body)
        assert self.path == "/v1/metrics", self.path
        tell(request)
        self.send_response(200)
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = grpc.server(futures.ThreadPoolExecutor(2))
services.add_MetricsServiceServicer_to_server(Grpc(), server)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Http).serve_forever()
