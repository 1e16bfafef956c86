"""Where Serve's spans go.

Serve makes them in its proxies, routers and replicas, with each request's id, once
``RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH`` names :func:`otlp`; see ``serve_apps/local.yaml``.
"""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def otlp() -> list[SpanProcessor]:
    """To a collector by OTLP over HTTP; OTEL_EXPORTER_OTLP_* and OTEL_BSP_* say how."""
    return [BatchSpanProcessor(OTLPSpanExporter())]
