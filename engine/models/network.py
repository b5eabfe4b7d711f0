"""What stands between this machine and a provider: loopback, proxies, certificates, descriptors."""

from __future__ import annotations

import ipaddress
import resource
import ssl
import urllib.request
from urllib.parse import urlsplit

import certifi

from engine.errors import UserError

RESERVED_DESCRIPTORS = 64
"""Descriptors that a run needs besides its connections: journal, dataset, pipes, libraries."""


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


def allow_descriptors(wanted: int) -> int:
    """Raise the soft limit of open files towards `wanted` descriptors for connections; returns how
    many connections the process may hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED_DESCRIPTORS
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        target = needed if hard == unlimited else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
        except (ValueError, OSError):
            pass
    if soft == unlimited:
        return wanted
    return max(1, min(wanted, soft - RESERVED_DESCRIPTORS))
