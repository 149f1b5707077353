"""Sends logs, metrics and traces by the OpenTelemetry SDK, and prints what it sent as JSON.

usage: otel_sdk.py grpc|http ADDRESS COMPRESSION
"""

import json
import logging
import sys

from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

protocol, address, compression = sys.argv[1:]
if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    common = {"endpoint": address, "insecure": True, "headers": (("x-scope-orgid", "sdk-grpc"),)}
    common["compression"] = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    endpoints = [common] * 3
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    common = {"headers": {"x-scope-orgid": "sdk-http"}}
    common["compression"] = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    endpoints = [{**common, "endpoint": f"http://{address}/v1/{signal}"} for signal in ("logs", "metrics", "traces")]


class Kept(SpanExporter):
    """Exports, and keeps what it exported."""

    def __init__(self, exporter):
        self.exporter, self.spans, self.failed = exporter, [], 0

    def export(self, spans):
        self.spans += spans
        result = self.exporter.export(spans)
        self.failed += result is not SpanExportResult.SUCCESS
        return result


resource = Resource.create({"service.name": "checkout", "service.instance.id": "i-1", "host.name": "web-1", "zone": "eu"})
spans = Kept(OTLPSpanExporter(**endpoints[2]))
tracing = TracerProvider(resource=resource)
tracing.add_span_processor(SimpleSpanProcessor(spans))
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(**endpoints[0])))
exponential = View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())
reader = PeriodicExportingMetricReader(OTLPMetricExporter(**endpoints[1]), export_interval_millis=3_600_000)
metrics = MeterProvider(resource=resource, metric_readers=[reader], views=[exponential])

logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
logger.addHandler(LoggingHandler(logger_provider=logs))
tracer = tracing.get_tracer("tests", "1.0")
with tracer.start_as_current_span("outer", kind=trace.SpanKind.SERVER, attributes={"http.status": 200}) as outer:
    with tracer.start_as_current_span("inner") as inner:
        inner.add_event("tried", {"attempt": 2})
        logger.warning("paid %s", "order 7", extra={"order": 7})
        inner.set_status(trace.StatusCode.ERROR, "declined")
for number in range(199):
    logger.info("line %d äöü", number)

meter = metrics.get_meter("tests")
requests = meter.create_counter("http.requests", unit="{request}", description="Requests answered.")
requests.add(5, {"code": 200})
requests.add(2, {"code": 500})
meter.create_up_down_counter("queue.size", unit="By").add(-3)
latency = meter.create_histogram("latency", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
size = meter.create_histogram("size")
for number in (0.05, 0.5, 5.0):
    latency.record(number)
    size.record(number)
flushed = [logs.force_flush(), metrics.force_flush()]
tracing.shutdown()

print(json.dumps({
    "flushed": flushed,
    "failed": spans.failed,
    "spans": [
        {
            "name": span.name,
            "trace_id": f"{span.context.trace_id:032x}",
            "span_id": f"{span.context.span_id:016x}",
            "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
            "start_us": span.start_time // 1000,
            "duration_ns": span.end_time - span.start_time,
        }
        for span in spans.spans
    ],
}))
