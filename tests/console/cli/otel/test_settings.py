"""Which `OTEL_*` variables switch what on, and what is refused."""

from __future__ import annotations

import importlib.util

import pytest

from console.cli.otel.settings import ExportSettings, read_settings
from engine.errors import UserError


def test_nothing_is_exported_by_default() -> None:
    assert read_settings({}) == ExportSettings()
    assert not read_settings({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}).enabled


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, ("otlp",), ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/t"}, ("otlp",), ()),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp",), ()),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, (), ("prometheus",)),
        ({"OTEL_METRICS_EXPORTER": "otlp, prometheus"}, (), ("otlp", "prometheus")),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
            (),
            ("otlp",),
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, (), ()),
    ],
)
def test_what_switches_a_signal_on(
    environ: dict[str, str], traces: tuple[str, ...], metrics: tuple[str, ...]
) -> None:
    settings = read_settings(environ)

    assert (settings.traces, settings.metrics) == (traces, metrics)


def test_an_option_asks_for_metrics_where_the_environment_says_nothing() -> None:
    assert read_settings({}, wanted=True).metrics == ("otlp",)
    assert read_settings({}, wanted=True).traces == ()
    assert read_settings({"OTEL_METRICS_EXPORTER": "none"}, wanted=True).metrics == ()


def test_the_variable_of_a_signal_comes_before_the_shared_one() -> None:
    settings = read_settings(
        {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "0.5",
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        }
    )

    assert (settings.traces_protocol, settings.metrics_protocol) == ("grpc", "http/protobuf")
    assert settings.timeout_seconds == 3.0
    assert settings.span_queue == 100


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_EXPORTER", "prometheus"),
        ("OTEL_METRICS_EXPORTER", "otlp,none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "70000"),
        ("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0"),
        ("OTEL_EXPORTER_PROMETHEUS_HOST", "metrics.example.org"),
    ],
)
def test_a_value_that_can_not_be_used_is_named_in_one_sentence(variable: str, value: str) -> None:
    environ = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_TRACES_EXPORTER": "otlp"}

    with pytest.raises(UserError, match=variable) as raised:
        read_settings(environ | {variable: value})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_metrics_are_served_on_loopback(host: str) -> None:
    environ = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST": host}

    assert read_settings(environ).prometheus_host == host


def test_missing_packages_are_named_with_what_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    assert not read_settings({}).enabled
    with pytest.raises(UserError, match=r"pip install 'headgate\[otel\]'"):
        read_settings({"OTEL_TRACES_EXPORTER": "otlp"})
