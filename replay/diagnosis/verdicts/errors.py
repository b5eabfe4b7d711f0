"""Verdicts of what failed: providers' errors, refused keys, spent quotas, lost rows.

None of them is a stall: they say from when to when something failed, how often, and what it cost.
"""

from __future__ import annotations

from typing import Annotated

from replay.diagnosis.verdicts.base import Context, Display, Verdict, fact
from replay.diagnosis.verdicts.words import (
    count_text,
    duration_text,
    enumeration,
    model_of,
    provider_of,
)
from replay.state.ending import Parted
from replay.state.failures import ErrorClass, error_words, named_kind

_MAY_PASS = frozenset({"authentication", "quota", "server", "connection", "timeout"})
"""Classes of errors that are about the endpoint, and not about single requests."""
RECOVERED_CALLS = 5
"""Successes after the last failure that show that it is over."""
_ADVICE: dict[ErrorClass, str] = {
    "server": (
        "The endpoint itself fails: look at its status and logs. Retries bridge a short outage;"
        " under a lasting one, stop the run and resume it later."
    ),
    "connection": (
        "The endpoint cannot be reached: check its address, that it runs, and the network between."
    ),
    "timeout": (
        "The endpoint does not answer in time: look at its load. A longer time-out helps only if"
        " its answers do come later."
    ),
    "request": (
        "The endpoint refuses requests of this form, and will refuse them again: check the model's"
        " name, its parameters and the length of the prompts."
    ),
    "answer": "The endpoint answers with what cannot be used: look at the model and its prompt.",
    "waited": (
        "Calls were given up before they went out: allow them a longer wait, or have fewer of them"
        " wait at a time."
    ),
    "rate_limit": (
        "Calls were given up after repeated 429s: lower max_parallel_requests of this model."
    ),
    "other": "Look at the endpoint, and at the log of the run, which has the message.",
    "code": "Look at the code of this column: the log of the run has the message.",
}

_ADVICE_BY_ERROR = {
    "RowRejected": (
        "These rows do not pass the check of this column: look at the check, and at the column"
        " that it looks at."
    ),
    "EmptyPrompt": "The prompt of these rows is empty: look at the columns that it is made of.",
    "UndefinedError": "Look at the template of this column, and at the values that it takes.",
    "TemplateLimit": "Look at the template of this column, and at the values that it takes.",
    "WrongValue": "Look at what this column is made of.",
}
"""Of errors that say by themselves what to look at."""


class FailureVerdict(Verdict, kw_only=True):
    """Calls or tasks that failed in one way."""

    is_stall = False
    needs_live_loop = False

    error: Annotated[str, fact("The error as the producer names it")]
    error_class: Annotated[str, fact("Its class: `authentication`, `quota`, `server`, …")]
    times: Annotated[int, fact("How often it happened")]
    columns: Annotated[list[str], fact("Columns that it happened to")]
    rows_dropped: Annotated[int, fact("Rows that were lost with it")]
    succeeded: Annotated[
        int | None,
        fact("Calls to the same resource that succeeded meanwhile; null where that is not told"),
    ]
    status: Annotated[int | None, fact("HTTP status; null where it is not told")] = None
    succeeded_since: Annotated[
        int | None,
        fact("Calls to the same resource that succeeded after it; null where that is not told"),
    ] = None

    @property
    def is_over(self) -> bool:
        """What refused all calls, or most of them, lets them pass again."""
        passes = self.error_class in _MAY_PASS
        return passes and (self.succeeded_since or 0) >= RECOVERED_CALLS

    @property
    def what(self) -> str:
        return error_words(self.error)

    def _cost(self) -> str:
        if not self.rows_dropped:
            return ""
        return f" {count_text(self.rows_dropped, 'row', grouped=True)} dropped."

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        calls = f"{count_text(self.times, 'call', grouped=True)} to {model_of(resource)} failed"
        none = " and none succeeded" if self.succeeded == 0 and self.times > 1 else ""
        over = f" within {duration_text(seconds)}" if self.times > 1 else ""
        since = self.succeeded_since
        back = f" {count_text(since or 0, 'call', grouped=True)} succeeded after that."
        return f"{calls}{none}{over}: {self.what}.{self._cost()}{back if self.is_over else ''}"


class ProviderErrors(FailureVerdict, tag="provider_errors", kw_only=True):
    """Calls of one resource failed with one class of error."""

    tier = "E"
    phrase = "errors of the provider"
    proof = (
        "calls that ended with an error which is no 429, by resource and class, from the first to"
        " the last without 10 s or 20 successes between"
    )
    display = Display("O", "failure", "dots")

    def advice_here(self, resource: str) -> str:
        if self.is_over:
            return "The endpoint came back by itself; its status and logs tell why it failed." + (
                " Lost rows can be made by a resumed run." if self.rows_dropped else ""
            )
        kind = named_kind(self.error)
        if kind is not None:
            return f"{kind.advice[0].upper()}{kind.advice[1:]}."
        advice = next((text for name, text in _ADVICE.items() if name == self.error_class), "")
        if self.error_class == "request" and self.status is None:
            advice += (
                " This stream does not tell the HTTP status: an account without quota (402) may be"
                " refused in this way too."
            )
        return advice


class AuthenticationFailed(FailureVerdict, tag="authentication", kw_only=True):
    """The provider refused the key."""

    tier = "B"
    phrase = "key refused"
    proof = "as `provider_errors`: 401, 403, or the producer's word for them"
    display = Display("Y", "failure", "plain")

    def advice_here(self, resource: str) -> str:
        if self.is_over:
            return (
                f"{provider_of(resource)} takes the key again: ask it why it refused the key for a"
                " time, such as a change of permissions. Lost rows can be made by a resumed run."
            )
        return (
            f"Nothing will succeed at {provider_of(resource)} until its key is right: renew it, or"
            " give it permission for this model, and run again. Retries and settings do not help."
        )


class QuotaSpent(FailureVerdict, tag="quota_spent", kw_only=True):
    """The account at the provider has no quota left."""

    tier = "B"
    phrase = "quota spent"
    proof = "as `provider_errors`: 402, or a refusal for lack of quota"
    display = Display("V", "failure", "question")

    def advice_here(self, resource: str) -> str:
        if self.is_over:
            return (
                f"The account at {provider_of(resource)} has quota again, which may be short. Lost"
                " rows can be made by a resumed run."
            )
        return (
            f"Nothing will succeed at {provider_of(resource)} until the account has quota again:"
            " raise it or wait for its renewal, and resume the run. Lower limits do not help."
        )


class ColumnErrors(FailureVerdict, tag="column_errors", kw_only=True):
    """The code of a column raised an error; no call is to blame."""

    tier = "E"
    phrase = "errors in the code of a column"
    proof = "tasks that ended with an error that is no call's"
    display = Display("3", "slow", "cross")

    reason: Annotated[str, fact("What the first of them said; empty where it is not told")] = ""

    def advice_here(self, resource: str) -> str:
        where = "Look at the code of this column." if self.reason else _ADVICE["code"]
        return _ADVICE_BY_ERROR.get(self.error, where)

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        where = enumeration([f"column {name}" for name in self.columns] or ["its code"])
        reason = " ".join(self.reason.split()).rstrip(".")
        return (
            f"{count_text(self.times, 'task', grouped=True)} failed with {self.what} in {where}"
            f"{f': {reason}' if reason else ''}.{self._cost()}"
        )


class DroppedRows(Verdict, tag="dropped_rows", kw_only=True):
    """Rows that the run has given up, and what cost them."""

    tier = "E"
    phrase = "rows dropped"
    proof = "rows that the producer gave up, by its own count"
    display = Display("1", "slow", "shade")
    is_stall = False
    needs_live_loop = False

    rows_dropped: Annotated[int, fact("Rows that were given up")]
    rows_done: Annotated[int, fact("Rows that were made")]
    because: Annotated[str, fact("What cost most of them; empty where the stream does not tell")]
    by_stop: Annotated[int, fact("Of them, given up only because the run was stopped")] = 0
    made_again: Annotated[
        int, fact("Of them, in unfinished row groups, which a resumed run makes anew")
    ] = 0
    records: Annotated[int | None, fact("Rows that were to be made; null where not told")] = None
    column: Annotated[
        str, fact("Column whose tasks were tried again most often, for a reason that is not told")
    ] = ""
    tried_again: Annotated[int, fact("How often they were")] = 0

    def hint(self, called: str = "") -> str:
        """Where to look, of a stream that does not tell why; `called` is what the column calls."""
        if not self.tried_again:
            return ""
        calls = f", which calls {called}," if called else ""
        return (
            f"This stream does not tell why: tasks of {self.column}{calls} were tried again"
            f" {self.tried_again:,} times. Look at that endpoint, and at the log of the run."
        )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        total = self.records or self.rows_dropped + self.rows_done
        because = f": {self.because}" if self.because else "; this stream does not tell why"
        all_of = "All " if self.rows_dropped == total > 1 else ""
        part = Parted(self.by_stop, self.made_again).words
        return f"{all_of}{self.rows_dropped:,} of {total:,} rows were dropped{part}{because}."

    def advice_here(self, resource: str) -> str:
        return "Mend what made them fail, then make these rows again with a resumed or new run."


class EarlyStop(Verdict, tag="early_stop", kw_only=True):
    """The producer ended the run before its work was done, by its own word."""

    tier = "B"
    phrase = "stopped early by its producer"
    proof = "the producer's own word at the end of the run"
    display = Display("2", "failure", "colon")
    is_stall = False
    needs_live_loop = False

    because: Annotated[str, fact("What failed most; empty where the stream does not tell")]
    rows_done: Annotated[int, fact("Rows that were made")]
    records: Annotated[int | None, fact("Rows that were to be made; null where not told")]

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        of = f" of {self.records:,}" if self.records is not None else ""
        because = f": {self.because}" if self.because else ""
        return (
            "The producer ended the run early, because too many of its tasks failed"
            f"{because}. {self.rows_done:,}{of} rows were made."
        )

    def advice_here(self, resource: str) -> str:
        return "Mend what fails; a higher tolerance for errors only loses more rows."


def failure_verdict(error_class: ErrorClass) -> type[FailureVerdict]:
    """The verdict of errors of this class."""
    return {
        "authentication": AuthenticationFailed,
        "quota": QuotaSpent,
        "code": ColumnErrors,
    }.get(error_class, ProviderErrors)


ERRORS = (
    AuthenticationFailed,
    QuotaSpent,
    EarlyStop,
    ProviderErrors,
    ColumnErrors,
    DroppedRows,
)
