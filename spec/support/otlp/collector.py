"""An OpenTelemetry collector for specs: takes what a server posts, decodes it
with Google's protobuf and checks it, and answers as it is told.

    collector.py [PORT]          prints `port N` once it listens

    POST /v1/traces|metrics|logs     the protocol
    GET  /answer?...                 how the next ones are answered:
           signal=traces|metrics|logs|all (default all)
           status=503 [retry=SECONDS]    with a status
           reject=N [message=TEXT]       200, with N that were not taken
           hang=1                        never
           cut=1                         half an answer, then the end
           chunked=1                     200, in chunks
           close=1                       200, and the connection is closed
           (none of these)               200
           count=N                       only the next N, then 200 again
    GET  /seen                       all of it as JSON: { requests, spans, metrics,
                                     logs, faults }
    GET  /names                      how many: { spans, logs, faults, names: { span: N } }

Numbers that JSON's readers could not hold exactly are texts; ids are hex.
"""
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def schema():
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["protoc", "-I", here, "--python_out", folder, "otlp.proto"], check=True)
        sys.path.insert(0, folder)
        import otlp_pb2
    return otlp_pb2


pb = schema()
SIGNALS = {
    "/v1/traces": ("traces", pb.ExportTraceServiceRequest),
    "/v1/metrics": ("metrics", pb.ExportMetricsServiceRequest),
    "/v1/logs": ("logs", pb.ExportLogsServiceRequest),
}
lock = threading.Lock()
answers = {}
seen = {"requests": [], "spans": [], "metrics": [], "logs": [], "faults": []}


def fault(text, *values):
    seen["faults"].append(text % values)


def check_known(message):
    """Every field that was sent is in the schema."""
    for unknown in message.UnknownFields():
        fault("%s has a field %d", message.DESCRIPTOR.name, unknown.field_number)
    for field, value in message.ListFields():
        if field.message_type:
            for inner in value if field.label == field.LABEL_REPEATED else [value]:
                check_known(inner)


def plain(value):
    kind = value.WhichOneof("value")
    if kind is None:
        fault("a value without a value")
        return None
    value = getattr(value, kind)
    if isinstance(value, bytes):
        return value.hex()
    return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)


def attributes(pairs):
    found = {}
    for pair in pairs:
        if not pair.key or pair.key in found:
            fault("the key %r is empty or there twice", pair.key)
        found[pair.key] = plain(pair.value)
    return found


def check_id(what, value, size, optional=False):
    if optional and not value:
        return
    if len(value) != size or not any(value):
        fault("%s is %r", what, value)


def check_time(what, ns):
    now = time.time_ns()
    if not now - 3600 * 10**9 < ns < now + 10**9:
        fault("%s is %d, now is %d", what, ns, now)


def envelope(resource, scope):
    return {"resource": attributes(resource.attributes), "scope": scope.name,
            "version": scope.version}


def take_traces(request):
    for of_resource in request.resource_spans:
        for of_scope in of_resource.scope_spans:
            who = envelope(of_resource.resource, of_scope.scope)
            for span in of_scope.spans:
                check_id("trace_id", span.trace_id, 16)
                check_id("span_id", span.span_id, 8)
                check_id("parent_span_id", span.parent_span_id, 8, True)
                check_time("start", span.start_time_unix_nano)
                check_time("end", span.end_time_unix_nano)
                if span.end_time_unix_nano < span.start_time_unix_nano:
                    fault("%s ends before it starts", span.name)
                if not span.name or not span.kind:
                    fault("a span of kind %d is named %r", span.kind, span.name)
                seen["spans"].append({
                    "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex(),
                    "parent_id": span.parent_span_id.hex(), "name": span.name,
                    "state": span.trace_state,
                    "kind": span.kind, "flags": span.flags,
                    "start": str(span.start_time_unix_nano),
                    "ns": span.end_time_unix_nano - span.start_time_unix_nano,
                    "status": span.status.code, "message": span.status.message,
                    "attributes": attributes(span.attributes), **who})
                yield 1


def numbers(metric, points):
    for point in points:
        check_time("time of " + metric.name, point.time_unix_nano)
        if not point.WhichOneof("value"):
            fault("%s has a point without a number", metric.name)
        yield {"attributes": attributes(point.attributes), "number": point.as_double,
               "start": str(point.start_time_unix_nano), "time": str(point.time_unix_nano)}


def buckets(metric, points):
    for point in points:
        check_time("time of " + metric.name, point.time_unix_nano)
        check_time("start of " + metric.name, point.start_time_unix_nano)
        bounds = list(point.explicit_bounds)
        if len(point.bucket_counts) != len(bounds) + 1 or bounds != sorted(bounds):
            fault("%s has %d buckets and bounds %r", metric.name, len(point.bucket_counts), bounds)
        if sum(point.bucket_counts) != point.count:
            fault("%s has a count of %d", metric.name, point.count)
        for exemplar in point.exemplars:
            check_id("trace_id", exemplar.trace_id, 16, True)
            check_time("exemplar", exemplar.time_unix_nano)
        yield {"attributes": attributes(point.attributes), "count": point.count,
               "sum": point.sum, "bounds": bounds, "counts": list(point.bucket_counts),
               "start": str(point.start_time_unix_nano), "time": str(point.time_unix_nano),
               "exemplars": [{"trace_id": e.trace_id.hex(), "number": e.as_double}
                             for e in point.exemplars]}


def take_metrics(request):
    for of_resource in request.resource_metrics:
        for of_scope in of_resource.scope_metrics:
            who = envelope(of_resource.resource, of_scope.scope)
            for metric in of_scope.metrics:
                kind = metric.WhichOneof("data")
                if not kind or not metric.name:
                    fault("the metric %r is a %s", metric.name, kind)
                    continue
                data = getattr(metric, kind)
                if kind != "gauge" and data.aggregation_temporality != 2:
                    fault("%s is not cumulative", metric.name)
                of = buckets if kind == "histogram" else numbers
                points = list(of(metric, data.data_points))
                if not points:
                    fault("%s has no point", metric.name)
                seen["metrics"].append({
                    "name": metric.name, "kind": kind, "unit": metric.unit,
                    "description": metric.description, "points": points,
                    "monotonic": kind == "sum" and data.is_monotonic, **who})
                yield len(points)


def take_logs(request):
    for of_resource in request.resource_logs:
        for of_scope in of_resource.scope_logs:
            who = envelope(of_resource.resource, of_scope.scope)
            for record in of_scope.log_records:
                check_time("time", record.time_unix_nano)
                check_time("observed", record.observed_time_unix_nano)
                check_id("trace_id", record.trace_id, 16, True)
                check_id("span_id", record.span_id, 8, True)
                seen["logs"].append({
                    "severity": record.severity_number, "level": record.severity_text,
                    "body": plain(record.body), "event": record.event_name,
                    "trace_id": record.trace_id.hex(), "span_id": record.span_id.hex(),
                    "time": str(record.time_unix_nano),
                    "attributes": attributes(record.attributes), **who})
                yield 1


TAKE = {"traces": take_traces, "metrics": take_metrics, "logs": take_logs}


def answer_of(signal):
    """How this one is answered; one that was for so many is used up."""
    for name in (signal, "all"):
        answer = answers.get(name)
        if answer:
            left = answer.get("count")
            if left is not None:
                if left == 0:
                    continue
                answer["count"] = left - 1
            return answer
    return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind, fields=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with lock:
            if url.path == "/answer":
                if "count" in query:
                    query["count"] = int(query["count"])
                answers[query.get("signal", "all")] = query
                body = b"{}"
            elif url.path == "/names":
                names = Counter(span["name"] for span in seen["spans"])
                body = json.dumps({"spans": len(seen["spans"]), "logs": len(seen["logs"]),
                                   "faults": len(seen["faults"]), "names": names}).encode()
            else:
                body = json.dumps(seen).encode()
        self.reply(200, body, "application/json")

    def read(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def do_POST(self):
        body = self.read()
        signal, kind = SIGNALS.get(urlsplit(self.path).path, (None, None))
        if not signal:
            self.reply(404, b"", "text/plain")
            return
        with lock:
            answer = answer_of(signal)
            good = not any(name in answer for name in ("status", "hang", "cut"))
            note = {"signal": signal, "path": self.path, "taken": good, "bytes": len(body),
                    "at": time.time(), "client": self.client_address[1],
                    "headers": {name.lower(): value for name, value in self.headers.items()}}
            seen["requests"].append(note)
            if self.headers["Content-Type"] != "application/x-protobuf":
                fault("the type is %r", self.headers["Content-Type"])
            if good:
                message = kind()
                message.ParseFromString(body)
                check_known(message)
                note["items"] = sum(TAKE[signal](message))
                if not note["items"]:
                    fault("a request without items")
        self.answer(answer)

    def answer(self, answer):
        response = pb.ExportServiceResponse()
        if "hang" in answer:
            time.sleep(3600)
        if "cut" in answer:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            self.close_connection = True
            return
        if "status" in answer:
            fields = [("Retry-After", answer["retry"])] if "retry" in answer else []
            self.reply(int(answer["status"]), b"no", "text/plain", fields)
            return
        if "reject" in answer:
            response.partial_success.rejected = int(answer["reject"])
            response.partial_success.error_message = answer.get("message", "")
        body = response.SerializeToString()
        if "chunked" in answer:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if body else b"")
            self.wfile.write(b"0\r\n\r\n")
            return
        fields = [("Connection", "close")] if "close" in answer else []
        self.reply(200, body, "application/x-protobuf", fields)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def main():
    server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    print("port", server.server_address[1], flush=True)
    server.serve_forever()


main()
