"""Before a run begins: addresses, keys and proxies that can't work, each with the sentence that
says what to do. Real HTTP on loopback."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from engine.errors import UserError
from engine.models.build import provider_key
from engine.models.network import connection_shares, proxy_for
from engine.models.reach import check_reachable
from engine.models.settings import OpenAIProvider

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class _ModelsOnly(http.server.BaseHTTPRequestHandler):
    """Lists its models at /v1/models, and knows no other path."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _ModelsOnly)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def reach(base_url: str) -> None:
    check_reachable("p", OpenAIProvider(type="openai", base_url=base_url), 2.0)


@pytest.mark.parametrize("ending", ["/v1", "/v1/"])
def test_a_right_address(ending: str, address: str) -> None:
    reach(address + ending)


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_address_without_its_version_is_told_with_the_right_one(
    ending: str, address: str
) -> None:
    with pytest.raises(UserError, match="lacks its version: set base_url to") as raised:
        reach(address + ending)
    assert f"{address}/v1" in str(raised.value)


@pytest.mark.parametrize("operation", ["/chat/completions", "/embeddings"])
def test_an_address_of_an_operation_is_told_with_the_right_one(operation: str) -> None:
    with pytest.raises(ValidationError, match=r"leave .* out, https://host\.example/v1"):
        OpenAIProvider(type="openai", base_url=f"https://host.example/v1{operation}")


def test_a_query_belongs_in_a_key_of_its_own() -> None:
    with pytest.raises(ValidationError, match="`query` of the provider"):
        OpenAIProvider(type="openai", base_url="https://host.example/x?api-version=1")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://0.0.0.0:1/v1", "http://[::1]/v1"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5h://127.0.0.1:9"])
def test_no_proxy_stands_before_this_machine(
    url: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("all_proxy", proxy)
    assert proxy_for("p", url) is None


def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inner.example")
    assert proxy_for("p", "https://api.example/v1") == "http://proxy.example:3128"
    assert proxy_for("p", "https://inner.example/v1") is None
    assert proxy_for("p", "http://api.example/v1") is None


@pytest.mark.parametrize("variable", ["all_proxy", "https_proxy"])
def test_a_proxy_of_another_kind_is_one_sentence(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "socks5h://127.0.0.1:9")
    with pytest.raises(UserError, match=f"SOCKS5H proxy .{variable}.*set an HTTP proxy"):
        proxy_for("p", "https://api.example/v1")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "which is not set"),
        ("", "which is not set"),
        ("sk-a\nb", "no HTTP header takes"),
        ("sk a", "no HTTP header takes"),
        ("sk-é", "no HTTP header takes"),
    ],
)
def test_a_key_that_can_t_work_is_one_sentence(key: str | None, said: str) -> None:
    environment = {} if key is None else {"MY_KEY": key}
    with pytest.raises(UserError, match=said) as raised:
        provider_key("p", "MY_KEY", environment)
    assert "MY_KEY" in str(raised.value)
    assert not key or key not in str(raised.value)


def test_the_line_break_of_a_file_is_no_part_of_a_key() -> None:
    assert provider_key("p", "MY_KEY", {"MY_KEY": "sk-abc\n"}) == "sk-abc"


def test_connections_are_shared_out_where_the_system_allows_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.models.network.resource.getrlimit", lambda which: (100, 164))
    assert connection_shares({"p": 60, "q": 40}) == {"p": 60, "q": 40}
    assert connection_shares({"p": 300, "q": 100}) == {"p": 75, "q": 25}
    assert connection_shares({"p": 5000, "q": 1})["q"] == 1
