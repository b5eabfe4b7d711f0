"""OpenTelemetry end to end: `headgate` in processes of its own, receivers on loopback."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from engine.telemetry.conventions import METRIC_LABELS
from tests.engine.telemetry.exported import PROMPT_CANARY, workflow
from tests.fixtures.data_designer_format import generate
from tests.otlp_receiver import grpc_receiver, http_receiver, labels_of

HEADGATE = str(Path(sys.executable).with_name("headgate"))
KEY_CANARY = "canary-key-41c9"
STORM = {"rate_limits": [{"from": 0.0, "to": 0.6, "retry_after": 0.2, "allow": 1}]}
FAST = {"latency": {"mean": 0.02, "spread": 0.005}}
SECONDS = 60.0
_NAME = re.compile(r"\b(?:headgate|gen_ai_client)_\w+")
_LABELS = {label.replace(".", "_") for label in METRIC_LABELS}
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "headgate.json"


def headgate(
    *arguments: str | Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [HEADGATE, *map(str, arguments)],
        env=clean | {"HEADGATE_TEST_KEY": KEY_CANARY} | dict(environ or {}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = workflow({**FAST, **STORM}, FAST)
    path = tmp_path / "workflow.yaml"
    path.write_text(yaml.safe_dump(written.model_dump(mode="json", by_alias=True)))
    return path


def events_of(run: Path) -> dict[str, int]:
    answer = headgate("sql", run, "--csv", "SELECT kind, count(*) FROM events GROUP BY 1")
    assert answer.returncode == 0, answer.stderr
    return {
        kind: int(count)
        for kind, _, count in (line.partition(",") for line in answer.stdout.splitlines()[1:])
    }


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_receiver_gets_every_span_and_metric_of_a_run(
    protocol: str, file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with grpc_receiver() if protocol == "grpc" else http_receiver() as receiver:
        ended = headgate(
            "run", file, "--headless", "--out", run,
            environ={
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            },
        )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert "OpenTelemetry" not in ended.stdout + ended.stderr
    events = events_of(run)
    assert len(receiver.named("task ")) == events["task_lease_acquired"]
    assert len(receiver.named("attempt")) == events["request_lease_acquired"]
    assert len(receiver.named("chat ")) == 24
    assert events["request_rate_limited"] > 0
    for kind, count in events.items():
        assert receiver.total("headgate.events", headgate_event_kind=kind) == count
    assert receiver.count("gen_ai.client.operation.duration") == events["model_request_completed"]
    assert receiver.total("headgate.rows.written") == 12
    for canary in (PROMPT_CANARY, KEY_CANARY, "billing", "login"):
        assert canary.encode() not in receiver.payload
    started = min(span.start_time_unix_nano for span in receiver.spans) / 1e9
    assert abs(time.time() - started) < SECONDS


def test_without_the_variables_nothing_is_sent_and_no_sdk_is_loaded(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "loaded.py").write_text(
        "import sys\n"
        "def telemetry(topic):\n"
        "    names = sorted(n for n in sys.modules if n.startswith(('opentelemetry', 'grpc')))\n"
        "    return ' '.join(names) or 'none'\n"
    )
    written = yaml.safe_load(file.read_text())
    written["columns"].append(
        {"name": "telemetry", "type": "custom", "function": "loaded:telemetry",
         "depends_on": ["topic"]}
    )  # fmt: skip
    file.write_text(yaml.safe_dump(written))
    ended = headgate("run", file, "--headless", "--out", tmp_path / "run")

    assert ended.returncode == 0, ended.stderr
    groups = set((tmp_path / "run" / "dataset").iterdir())
    assert groups
    for file in groups:
        assert set(pq.read_table(file)["telemetry"].to_pylist()) == {"none"}


def test_an_endpoint_that_never_answers_ends_the_run_in_time_and_is_named(
    file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = headgate(
            "run", file, "--headless", "--out", run,
            environ={
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            },
        )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    lost = re.search(r"OpenTelemetry: (\d+) of (\d+) spans", ended.stdout)
    assert lost is not None, ended.stdout
    assert lost[1] == lost[2] != "0"
    assert lost[0] in (run / "output.log").read_text()
    log = headgate("sql", run, "--csv", "SELECT outcome FROM run")
    assert "success" in log.stdout


def test_variables_that_can_not_be_used_stop_nothing_but_the_start(
    file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ended = headgate(
        "run", file, "--headless", "--out", run, environ={"OTEL_TRACES_EXPORTER": "zipkin"}
    )

    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "OTEL_TRACES_EXPORTER" in ended.stderr
    assert not run.exists()


def foreign_file(folder: Path, *, requests: bool = False) -> Path:
    path = folder / "scheduler_events.jsonl"
    generate(path, True, 20, requests=requests)
    return path


def test_the_metrics_of_a_foreign_run_are_exported_by_who_watches_it(tmp_path: Path) -> None:
    path = foreign_file(tmp_path)
    kinds = Counter(json.loads(line)["event_kind"] for line in path.read_text().splitlines())
    with http_receiver() as receiver:
        watched = headgate(
            "watch", path, "--once", "--otel",
            environ={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint},
        )  # fmt: skip

    assert watched.returncode == 0, watched.stderr
    for kind, count in kinds.items():
        assert receiver.total("headgate.events", headgate_event_kind=kind) == count
    assert receiver.spans == []
    labels = [
        labels_of(point) for point in receiver.metrics["headgate.request.limit"].gauge.data_points
    ]
    assert {label["gen_ai_provider_name"] for label in labels} >= {"alpha"}
    assert all(label["gen_ai_request_model"].startswith("model-") for label in labels)


def test_watch_says_what_forbids_the_export(tmp_path: Path) -> None:
    path = foreign_file(tmp_path)
    watched = headgate("watch", path, "--once", "--otel", environ={"OTEL_SDK_DISABLED": "true"})

    assert watched.returncode == 2
    assert "OTEL_SDK_DISABLED" in watched.stderr


def test_prometheus_reads_the_metrics_of_a_live_run(file: Path, tmp_path: Path) -> None:
    """And the dashboard asks for names and labels that are there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    written = yaml.safe_load(file.read_text())
    written["records"] = 400
    file.write_text(yaml.safe_dump(written))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    run = subprocess.Popen(
        [HEADGATE, "run", file, "--headless", "--out", tmp_path / "run"],
        env=environ
        | {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    requested = dashboard_expressions()
    wanted = {name for expression in requested for name in _NAME.findall(expression)} - _LABELS
    wanted.discard("headgate_telemetry_spans_lost_total")  # spans are not exported here
    assert len(wanted) > 10
    try:
        page = scrape(port, wanted)
    finally:
        run.terminate()
        run.wait(SECONDS)

    labels = set(re.findall(r'[{,]([a-z_]+)="', page))
    for expression in requested:
        for group in re.findall(r"by \(([^)]*)\)", expression):
            assert set(re.split(r", *", group)) <= labels, expression


def scrape(port: int, wanted: set[str]) -> str:
    """The page, once it has every metric that is wanted."""
    deadline = time.monotonic() + SECONDS
    missing = wanted
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                page = str(answer.read().decode())
        except OSError:
            page = ""
        missing = wanted - set(re.findall(r"^([a-z_]+)[{ ]", page, re.MULTILINE))
        if not missing:
            return page
        time.sleep(0.05)
    raise AssertionError(f"not served: {', '.join(sorted(missing))}")


def dashboard_expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
