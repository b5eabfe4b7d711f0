"""What stands between this machine and a provider: loopback, proxies, certificates, descriptors."""

from __future__ import annotations

import contextlib
import ipaddress
import resource
import ssl
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

import certifi

from engine.errors import UserError

RESERVED_DESCRIPTORS = 64
"""Descriptors that a run needs besides its connections: journal, dataset, pipes, libraries."""
_UNLIMITED = 1_000_000


def is_loopback(url: str) -> bool:
    """Whether the host is this machine, which no proxy can reach. 0.0.0.0 and :: are, too."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def proxy_for(name: str, url: str) -> str | None:
    """The proxy that the environment names for a provider's address.

    Raises `UserError` for a kind of proxy that is not supported.
    """
    parts = urlsplit(url)
    if is_loopback(url) or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    scheme = urlsplit(proxy).scheme if "://" in proxy else "http"
    if scheme not in ("http", "https"):
        variable = f"{parts.scheme}_proxy" if parts.scheme in proxies else "all_proxy"
        raise UserError(
            f'provider "{name}" would be reached through a {scheme.upper()} proxy ({variable}), '
            "which headgate can't use: set an HTTP proxy, or add the host to no_proxy"
        )
    return proxy if "://" in proxy else f"http://{proxy}"


def client_ssl_context() -> ssl.SSLContext:
    """The system's certificates (or those of SSL_CERT_FILE and SSL_CERT_DIR), and a current list of
    public ones, since containers often have none."""
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=certifi.where())
    return context


def connection_shares(wanted: Mapping[str, int]) -> dict[str, int]:
    """How many connections each provider may hold, of those that it wants, within the limit of open
    files of this process."""
    total = sum(wanted.values())
    allowed = _most_descriptors() - RESERVED_DESCRIPTORS
    if total <= allowed:
        return dict(wanted)
    return {name: max(1, count * allowed // total) for name, count in wanted.items()}


def raise_descriptor_limit(wanted: int) -> None:
    """Let the process open as many connections, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = min(wanted + RESERVED_DESCRIPTORS, _most_descriptors())
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


def _most_descriptors() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _UNLIMITED if hard == resource.RLIM_INFINITY else hard
