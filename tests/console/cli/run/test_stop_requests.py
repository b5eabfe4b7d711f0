from __future__ import annotations

import contextlib
import signal

import pytest

from console.cli.stop_requests import StopRequests


def test_signals_are_noted_and_the_handlers_from_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequests() as requests:
        assert not requests
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert (len(requests), requests[0], requests[1]) == (2, signal.SIGTERM, signal.SIGINT)
        assert requests.exit_code == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_request_is_raised_only_where_that_is_wanted() -> None:
    with StopRequests() as requests:
        with pytest.raises(KeyboardInterrupt), requests.raised():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), requests.raised(handled=1):
            raise AssertionError("the second came before, and is not among the handled")
        with requests.raised(handled=2):
            pass
        assert len(requests) == 2


def _interrupted_query() -> None:
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        raise RuntimeError("Query interrupted") from None


def _interrupted_finalizer() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_request_outlives_what_a_library_makes_of_it() -> None:
    with StopRequests() as requests:
        with pytest.raises(KeyboardInterrupt), requests.raised():
            _interrupted_query()
        with pytest.raises(KeyboardInterrupt), requests.raised(handled=1):
            _interrupted_finalizer()
        with pytest.raises(RuntimeError, match="of its own"), requests.raised(handled=2):
            raise RuntimeError("of its own")


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequests() as requests:
            signal.raise_signal(signal.SIGINT)
            assert not requests
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_signals_can_be_received() -> None:
    with StopRequests(signal.SIGUSR1) as requests:
        signal.raise_signal(signal.SIGUSR1)
        assert requests.exit_code == 128 + signal.SIGUSR1
