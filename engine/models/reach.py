"""`check_reachable`: is there anything at a provider's address? Asked before a run begins."""

from __future__ import annotations

import http
import http.client
import urllib.error
import urllib.request
from urllib.parse import urlencode

from engine.errors import UserError
from engine.models.build import provider_key
from engine.models.network import client_ssl_context, proxy_for
from engine.models.settings import OpenAIProvider, Provider

REACH_TIMEOUT_SECONDS = 5.0
_KNOWN_THERE = (200, 401, 403)
"""Statuses of a list of models that exists."""


def check_reachable(
    name: str, provider: Provider, timeout_seconds: float = REACH_TIMEOUT_SECONDS
) -> None:
    """Any HTTP answer will do, and so will a connection that stays silent: a list of models is not
    what a run needs. No key is sent. Blocks; not for the engine's loop.

    Raises `UserError` where nothing answers, where the address lacks its `/v1`, where only a kind
    of proxy that is not supported leads there, and where the environment lacks the provider's key.
    """
    if not isinstance(provider, OpenAIProvider):
        return
    provider_key(name, provider.api_key_env)
    proxy = proxy_for(name, provider.base_url)
    proxies = {} if proxy is None else {"http": proxy, "https": proxy}
    context = client_ssl_context() if provider.base_url.startswith("https:") else None
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
    )
    query = f"?{urlencode(provider.query)}" if provider.query else ""

    def status_of(address: str) -> int | None:
        """Status of an address; None where nothing comes in time."""
        try:
            with opener.open(f"{address}/models{query}", timeout=timeout_seconds) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except urllib.error.URLError:
            raise
        except TimeoutError:
            return None

    try:
        if status_of(provider.base_url) != http.HTTPStatus.NOT_FOUND:
            return
        versioned = f"{provider.base_url}/v1"
        if not _ends_in_version(provider.base_url) and status_of(versioned) in _KNOWN_THERE:
            raise UserError(
                f'provider "{name}": {provider.base_url} lacks its version: set base_url to '
                f"{versioned}"
            )
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f'provider "{name}" can\'t be reached at {provider.base_url}: {_cause(reason)}'
        ) from None


def _ends_in_version(address: str) -> bool:
    last = address.rpartition("/")[2]
    return last[:1] == "v" and last[1:2].isdecimal()


def _cause(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    if isinstance(reason, http.client.HTTPException):
        return "what answers there does not speak HTTP"
    return str(reason)
