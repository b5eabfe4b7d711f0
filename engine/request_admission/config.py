"""`RequestAdmissionConfig`: the parameters of adaptive request limits, and which are public."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

RecoveryPolicy = Literal["published", "adaptive"]


@dataclass(frozen=True, slots=True)
class RequestAdmissionTuningConfig:
    """What a workflow may tune; None keeps the engine's default."""

    decrease_factor: float | None = None
    increase_step: int | None = None
    successes_until_increase: int | None = None
    cooldown_seconds: float | None = None
    startup_ramp_seconds: float | None = None
    recovery: RecoveryPolicy | None = None
    max_retry_after_seconds: float | None = None
    outage_stop_seconds: float | None = None
    quota_wait_seconds: float | None = None
    wait_for_quota: bool | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class RequestAdmissionConfig:
    """How a request limit falls and recovers. Counts are requests, times are seconds.

    Both policies cut in the same way: on `rate_limited`,
    `limit = max(1, floor(limit * decrease_factor))`, once per cascade, and no call is admitted
    until the cooldown ends. They differ in recovery:

    `published`: after every `successes_until_increase` successes outside a cooldown the limit
    grows by `increase_step`.

    `adaptive`: after a cascade the limit becomes what the provider sustained, returns to that
    within a few rounds of calls, and probes above it: by `increase_step` first, less often while
    probes fail, further while they hold. A success counts only if the limit was what held traffic
    back. `plans/request-admission.md` has the rules and measurements.

    Neither exceeds the effective maximum.
    """

    decrease_factor: float = 0.75
    increase_step: int = 1
    successes_until_increase: int = 25
    cooldown_seconds: float = 2.0
    """Length of a cooldown if the provider names none."""
    startup_ramp_seconds: float = 0.0
    """Time to grow from 1 to the initial limit in even steps; a rate limit ends it."""
    initial_limit: int | None = None
    """Clamped to the effective maximum; None starts there, or with a slow start."""
    slow_start_limit: int = 32
    """`adaptive` begins with no more calls at once than this, and doubles them with each round."""
    recovery: RecoveryPolicy = "adaptive"
    max_retry_after_seconds: float = 120.0
    """Longest cooldown that a provider may ask for; a longer one is a quota that is used up."""
    outage_stop_seconds: float = 1800.0
    """A resource that is out for longer is given up."""
    quota_wait_seconds: float = 900.0
    """A quota that comes back within this time is waited for."""
    wait_for_quota: bool = False
    """Wait for a quota however long it takes."""

    def __post_init__(self) -> None:
        if not 0.0 < self.decrease_factor < 1.0:
            raise ValueError("decrease_factor must be between 0 and 1")
        if self.increase_step < 1:
            raise ValueError("increase_step must be at least 1")
        if self.successes_until_increase < 1:
            raise ValueError("successes_until_increase must be at least 1")
        if not 0.0 <= self.cooldown_seconds < float("inf"):
            raise ValueError("cooldown_seconds must be finite and not negative")
        if not 0.0 <= self.startup_ramp_seconds < float("inf"):
            raise ValueError("startup_ramp_seconds must be finite and not negative")
        if self.initial_limit is not None and self.initial_limit < 1:
            raise ValueError("initial_limit must be at least 1")
        if self.slow_start_limit < 1:
            raise ValueError("slow_start_limit must be at least 1")
        if self.max_retry_after_seconds <= 0:
            raise ValueError("max_retry_after_seconds must be above 0")
        if self.recovery not in ("published", "adaptive"):
            raise ValueError("recovery must be 'published' or 'adaptive'")

    def tuned(self, tuning: RequestAdmissionTuningConfig) -> Self:
        """A copy with the values of `tuning`. Raises `ValueError` for a value out of range."""
        return replace(self, **tuning.given)
