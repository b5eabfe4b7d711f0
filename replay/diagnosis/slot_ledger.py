"""`CapacityLedger`: where the slots of each request resource went, second by second."""

from __future__ import annotations

import msgspec

from replay.state.rows import BlameRow

WHOLE = ""
"""The account of the whole run, in use while no request resource has demand."""


class Account(msgspec.Struct):
    """How one resource's slots are divided now; the parts sum to its effective maximum."""

    since: float
    parts: dict[str, float] = {}


class CapacityLedger(msgspec.Struct):
    """Slot-seconds of the open bin by request resource and verdict."""

    accounts: dict[str, Account] = {}
    seconds: dict[tuple[str, str], float] = {}
    """Of the open bin, by resource and verdict."""
    log: list[tuple[float, str, dict[str, float]]] = []
    """When the division of a resource changed since the event loop was last known to have run, and
    what it was until then."""
    renamed_to: dict[tuple[str, str], int] = {}
    """Length of the log when a verdict of a resource was last renamed: further up it does not stand
    any more."""

    def divide(self, resource: str, parts: dict[str, float], now: float) -> None:
        """From `now` on the slots of `resource` are divided so; no parts take it out."""
        account = self.accounts.get(resource)
        if account is None:
            if parts:
                self.log.append((now, resource, {}))
                self.accounts[resource] = Account(now, parts)
            return
        if account.parts == parts:
            return
        self._run_to(resource, account, now)
        self.log.append((now, resource, account.parts))
        if parts:
            account.parts = parts
        else:
            del self.accounts[resource]

    def cover(self, now: float, verdict: str) -> None:
        """All the slots between the last settled instant and `now` go to `verdict`."""
        for resource, account in self.accounts.items():
            slots = sum(account.parts.values())
            key = (resource, verdict)
            elapsed = now - account.since
            self.seconds[key] = self.seconds.get(key, 0.0) + slots * elapsed
            account.since = now

    def rename(self, old: str, new: str, resource: str, now: float) -> None:
        """What was under `old` in this bin, and is now, was and is under `new`.

        Of one resource, or of all where it is "".
        """
        for name, account in self.accounts.items():
            if old in account.parts and resource in ("", name):
                self._run_to(name, account, now)
                account.parts = _renamed(account.parts, old, new)
        log = self.log
        for position in range(self.renamed_to.get((old, resource), 0), len(log)):
            at, name, parts = log[position]
            if old in parts and resource in ("", name):
                log[position] = (at, name, _renamed(parts, old, new))
        self.renamed_to[old, resource] = len(log)
        self.renamed_to.pop((new, resource), None)
        for key in [p for p in self.seconds if p[1] == old and resource in ("", p[0])]:
            seconds = self.seconds.pop(key)
            self.seconds[key[0], new] = self.seconds.get((key[0], new), 0.0) + seconds

    def forget_log(self) -> None:
        """The event loop is known to have run until now."""
        self.log = []
        self.renamed_to = {}

    def take_back(self, taken: dict[tuple[str, str], float], verdict: str) -> None:
        """Move seconds of the open bin, as far as there are any, to `verdict`."""
        for key, amount in taken.items():
            moved = min(amount, self.seconds.get(key, 0.0))
            if moved > 0.0:
                self.seconds[key] -= moved
                to = (key[0], verdict)
                self.seconds[to] = self.seconds.get(to, 0.0) + moved

    def run_to(self, now: float) -> None:
        """Book all divisions up to `now`."""
        for resource, account in self.accounts.items():
            self._run_to(resource, account, now)

    def leap(self, now: float) -> None:
        """Go on at `now`; the time until then is nobody's."""
        for account in self.accounts.values():
            account.since = now

    def close_bin(self, bin_number: int, now: float) -> list[BlameRow]:
        """The rows of the bin that ends at `now`, in slot-seconds."""
        self.run_to(now)
        rows = [
            BlameRow(bin_number, "run", "", None, resource, verdict, seconds)
            for (resource, verdict), seconds in self.seconds.items()
            if seconds > 0.0
        ]
        self.seconds = {}
        return rows

    def _run_to(self, resource: str, account: Account, now: float) -> None:
        elapsed = now - account.since
        if elapsed > 0.0:
            for verdict, slots in account.parts.items():
                key = (resource, verdict)
                self.seconds[key] = self.seconds.get(key, 0.0) + slots * elapsed
            account.since = now


def _renamed(parts: dict[str, float], old: str, new: str) -> dict[str, float]:
    if old not in parts:
        return parts
    renamed = dict(parts)
    renamed[new] = renamed.get(new, 0.0) + renamed.pop(old)
    return renamed
