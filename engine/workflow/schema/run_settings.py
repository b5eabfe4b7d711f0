"""`RunSettings`: the public knobs of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.request_admission.config import RecoveryPolicy, RequestAdmissionTuningConfig
from engine.strict_model import StrictModel


class RunSettings(StrictModel):
    """Public knobs of a run; the request tuning left at None takes the engine's own policy."""

    buffer_size: int = Field(100, ge=1)
    """Rows in a row group."""
    max_concurrent_row_groups: int = Field(3, ge=1)
    """Row groups under way at once."""
    max_in_flight_tasks: int = Field(256, ge=1)
    """Tasks that run or wait for a call at once."""
    max_attempts: int = Field(5, ge=1)
    """Executions of one task before its row is dropped."""
    task_shares: Literal["strict_fair", "bounded_borrow"] | None = None
    """How columns share the task slots; None takes the engine's own choice, as below."""
    provider_aware: bool | None = None
    """Let work of a healthy provider go before work that would only wait at a pressed one."""
    decrease_factor: float | None = Field(None, gt=0, lt=1)
    """What a limit is multiplied by after a rate limit."""
    increase_step: int | None = Field(None, ge=1)
    """What a limit grows by."""
    successes_until_increase: int | None = Field(None, ge=1)
    """Answers after which a limit grows."""
    cooldown_seconds: float | None = Field(None, ge=0)
    """Pause after a rate limit that names none."""
    startup_ramp_seconds: float | None = Field(None, ge=0)
    """Time over which limits grow to their cap at the start."""
    health_check: bool = False
    """Ask each model one short question first; one that does not answer ends the run."""
    recovery: RecoveryPolicy | None = None
    """How request limits recover after rate limits: `adaptive` or `published`."""
    stop_seconds: float = Field(10.0, ge=0)
    """Most seconds that running tasks may go on once the run stops."""
    stop_at_drop_share: float | None = Field(0.5, ge=0, le=1)
    """A run stops when more than this share of the last 100 tasks of a column were dropped; null
    for no bound."""
    max_retry_after_seconds: float | None = Field(None, gt=0)
    """Longest wait that a provider may ask for; a longer one is a quota that is used up."""
    outage_stop_seconds: float | None = Field(None, gt=0)
    """A run stops when a provider that it needs has been out for longer."""
    quota_wait_seconds: float | None = Field(None, ge=0)
    """A quota that comes back within this time is waited for; else the run stops."""
    max_tokens: int | None = Field(None, ge=1)
    """The run stops, and can be resumed, once it has used so many tokens, in and out."""
    max_cost: float | None = Field(None, gt=0)
    """The same for US dollars. A call of unknown cost stops the run."""
    wait_for_quota: bool = False
    """Wait for a quota however long it takes."""

    @property
    def request_tuning(self) -> RequestAdmissionTuningConfig:
        return RequestAdmissionTuningConfig(
            self.decrease_factor,
            self.increase_step,
            self.successes_until_increase,
            self.cooldown_seconds,
            self.startup_ramp_seconds,
            self.recovery,
            self.max_retry_after_seconds,
            self.outage_stop_seconds,
            self.quota_wait_seconds,
            self.wait_for_quota or None,
        )
