"""An app that sets up OpenTelemetry, as a project would."""

from pathlib import Path

from django.apps import AppConfig
from django.conf import settings


class Traced(AppConfig):
    name = "tests.bgtasks.project.traced"
    label = "traced"

    def ready(self) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        out = Path(f"{settings.LEDGER}.spans").open("a", buffering=1)  # noqa: SIM115
        exporter = ConsoleSpanExporter(
            out=out, formatter=lambda span: f"{span.to_json(indent=None)}\n"
        )
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
