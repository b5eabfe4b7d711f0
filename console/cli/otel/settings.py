"""The standard `OTEL_*` variables as far as the command line reads them itself.

Plain Python programs ignore the variables that choose exporters; the SDK and the exporters read
the others: endpoints, headers, sampler, intervals, resource attributes.
"""

from __future__ import annotations

import importlib.util
import ipaddress
from collections.abc import Mapping
from typing import Literal, NamedTuple

from engine.errors import UserError

Signal = Literal["traces", "metrics"]
Exporter = Literal["otlp", "prometheus", "console"]
Protocol = Literal["http/protobuf", "grpc"]

DEFAULT_TIMEOUT_SECONDS = 10.0
DEFAULT_PROMETHEUS_PORT = 9464
DEFAULT_SPAN_QUEUE = 16_384
"""The SDK's own 2,048 lose most spans of a busy run."""
INSTALL = "pip install 'headgate[otel]'"

_EXPORTERS: dict[Signal, tuple[Exporter, ...]] = {
    "traces": ("otlp", "console"),
    "metrics": ("otlp", "prometheus", "console"),
}


class ExportSettings(NamedTuple):
    """What is exported, and how. No exporter at all is the default."""

    traces: tuple[Exporter, ...] = ()
    metrics: tuple[Exporter, ...] = ()
    traces_protocol: Protocol = "http/protobuf"
    metrics_protocol: Protocol = "http/protobuf"
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    """Longest that the end of a run waits for an endpoint."""
    span_queue: int = DEFAULT_SPAN_QUEUE
    prometheus_host: str = "localhost"
    prometheus_port: int = DEFAULT_PROMETHEUS_PORT

    @property
    def enabled(self) -> bool:
        return bool(self.traces or self.metrics)


def read_settings(environ: Mapping[str, str], *, wanted: bool = False) -> ExportSettings:
    """The settings that the environment makes.

    A signal is exported where `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER` names an exporter,
    or an OTLP endpoint is set and they name none.

    Args:
        environ: The environment.
        wanted: The user asked for metrics by an option: they go to the default endpoint where the
            environment names none.

    Raises:
        UserError: A variable has a value that can't be used, or packages are missing.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ExportSettings()
    traces = _exporters(environ, "traces", wanted=False)
    metrics = _exporters(environ, "metrics", wanted=wanted)
    if not traces and not metrics:
        return ExportSettings()
    settings = ExportSettings(
        traces,
        metrics,
        _protocol(environ, "traces"),
        _protocol(environ, "metrics"),
        max(_timeout(environ, signal) for signal in ("traces", "metrics")),
        _whole(environ, "OTEL_BSP_MAX_QUEUE_SIZE", DEFAULT_SPAN_QUEUE, most=10_000_000),
        environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost").strip() or "localhost",
        _whole(environ, "OTEL_EXPORTER_PROMETHEUS_PORT", DEFAULT_PROMETHEUS_PORT, most=65_535),
    )
    _check_host(settings)
    _check_packages(settings)
    return settings


def _exporters(environ: Mapping[str, str], signal: Signal, *, wanted: bool) -> tuple[Exporter, ...]:
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    text = environ.get(variable, "").strip().lower()
    if not text:
        endpoints = (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT",
        )
        return ("otlp",) if wanted or any(environ.get(name) for name in endpoints) else ()
    names = [name.strip() for name in text.split(",")]
    if names == ["none"]:
        return ()
    known: tuple[Exporter, ...] = _EXPORTERS[signal]
    for name in names:
        if name not in known:
            raise UserError(
                f"{variable} names {name!r}; headgate exports {signal} by "
                f"{', '.join(known)} or none"
            )
    return tuple(exporter for exporter in known if exporter in names)


def _protocol(environ: Mapping[str, str], signal: Signal) -> Protocol:
    own, shared = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    variable = own if environ.get(own) else shared
    text = environ.get(variable, "").strip().lower() or "http/protobuf"
    if text == "grpc":
        return "grpc"
    if text == "http/protobuf":
        return "http/protobuf"
    raise UserError(f"{variable} is {text!r}; headgate speaks http/protobuf and grpc")


def _timeout(environ: Mapping[str, str], signal: Signal) -> float:
    own, shared = f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"
    variable = own if environ.get(own) else shared
    text = environ.get(variable)
    if not text:
        return DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= 3_600.0:
        raise UserError(f"{variable} is {text!r}; it takes seconds, from 0 to 3600")
    return seconds


def _whole(environ: Mapping[str, str], variable: str, default: int, *, most: int) -> int:
    text = environ.get(variable)
    if not text:
        return default
    if not text.strip().isdecimal() or not 0 < int(text) <= most:
        raise UserError(f"{variable} is {text!r}; it takes a whole number from 1 to {most}")
    return int(text)


def _check_host(settings: ExportSettings) -> None:
    host = settings.prometheus_host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if "prometheus" in settings.metrics and not loopback:
        raise UserError(
            f"OTEL_EXPORTER_PROMETHEUS_HOST is {host!r}; headgate serves metrics on this machine "
            "alone (localhost, 127.0.0.1 or ::1). To send them elsewhere use "
            "OTEL_METRICS_EXPORTER=otlp"
        )


def _check_packages(settings: ExportSettings) -> None:
    protocols = set()
    if "otlp" in settings.traces:
        protocols.add(settings.traces_protocol)
    if "otlp" in settings.metrics:
        protocols.add(settings.metrics_protocol)
    modules = ["opentelemetry.sdk"]
    if "http/protobuf" in protocols:
        modules.append("opentelemetry.exporter.otlp.proto.http")
    if "grpc" in protocols:
        modules.append("opentelemetry.exporter.otlp.proto.grpc")
    if "prometheus" in settings.metrics:
        modules.append("opentelemetry.exporter.prometheus")
    if any(not _installed(module) for module in modules):
        raise UserError(
            "the OTEL_* variables ask for OpenTelemetry, which is not installed: "
            f"{INSTALL}, or set OTEL_SDK_DISABLED=true"
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
