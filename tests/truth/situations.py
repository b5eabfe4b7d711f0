"""The situations: what a workflow asks for, and what its providers and its process go through."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from tests.truth.server import MARK, Episode, ProviderSpec

ALPHA, BETA = "alpha", "beta"


@dataclass(frozen=True)
class Model:
    alias: str
    provider: str
    model: str
    cap: int


@dataclass(frozen=True)
class Column:
    """An LLM column with a model, or one of the user's own functions."""

    name: str
    needs: tuple[str, ...] = ("topic",)
    model: str | None = None
    function: str | None = None
    """One of `functions.py`."""

    @property
    def prompt(self) -> str:
        return f"{MARK}{self.name}: " + " ".join(f"{{{{ {name} }}}}" for name in self.needs)


@dataclass(frozen=True)
class Situation:
    """One thing that can go wrong, or does not."""

    name: str
    what: str
    records: int = 120
    buffer_size: int = 50
    models: tuple[Model, ...] = (
        Model("writer", ALPHA, "writer-8b", 8),
        Model("judge", BETA, "judge-70b", 6),
    )
    columns: tuple[Column, ...] = (
        Column("question", model="writer"),
        Column("answer", ("question",), model="writer"),
        Column("verdict", ("answer",), model="judge"),
    )
    providers: dict[str, ProviderSpec] = field(
        default_factory=lambda: {ALPHA: ProviderSpec(), BETA: ProviderSpec(0.2)}
    )
    dead: frozenset[str] = frozenset()
    """Providers that nobody serves."""
    stop: tuple[float, float] | None = None
    """SIGSTOP so long after the first call, and for so long."""
    interrupt: float | None = None
    """SIGINT so long after the first call."""
    neighbour: bool = False
    """One core is busy all the while."""
    row_groups: int = 3
    """Row groups that may be under way, of our own engine."""
    programs: tuple[Literal["own", "exec"], ...] = ("own", "exec")


def _beta(*episodes: Episode, latency: float = 0.2, **facts: float) -> dict[str, ProviderSpec]:
    beta = msgspec.structs.replace(ProviderSpec(latency, episodes=episodes), **facts)
    return {ALPHA: ProviderSpec(), BETA: beta}


_STANDARD = Situation("", "")
_WORK = (
    Column("question", model="writer"),
    Column("work", ("question",), function="work"),
    Column("verdict", ("work",), model="judge"),
)


def _custom(function: str) -> tuple[Column, ...]:
    return tuple(
        replace(column, name=function, function=function)
        if column.function
        else replace(column, needs=tuple(function if n == "work" else n for n in column.needs))
        for column in _WORK
    )


def _capped(cap: int) -> tuple[Model, ...]:
    return (_STANDARD.models[0], replace(_STANDARD.models[1], cap=cap))


SITUATIONS: tuple[Situation, ...] = (
    Situation("healthy", "everything is well"),
    Situation("tail", "3 % of beta's calls take 5 to 10 times as long", providers=_beta(tail=0.03)),
    Situation("bursty", "few rows at a time: the endpoints idle between", 40, 8, row_groups=1),
    Situation(
        "lowcap",
        "judge may have one call at a time, which is all that the run waits for",
        50,
        models=_capped(1),
    ),
    Situation(
        "twocaps",
        "two aliases of one model: the cap of 2 counts, not that of 8",
        80,
        models=(
            _STANDARD.models[0],
            Model("judge", BETA, "judge-70b", 8),
            Model("critic", BETA, "judge-70b", 2),
        ),
        columns=(*_STANDARD.columns, Column("critique", ("answer",), model="critic")),
    ),
    Situation(
        "slowroot",
        "the root column has a slow model, 40 of 40 in flight; then two fast columns",
        40,
        40,
        models=(Model("writer", ALPHA, "writer-8b", 8), Model("root", BETA, "root-70b", 40)),
        columns=(
            Column("root", model="root"),
            Column("d1", ("root",), model="writer"),
            Column("d2", ("root",), model="writer"),
        ),
        providers={ALPHA: ProviderSpec(0.06, 0.02), BETA: ProviderSpec(2.5, 0.6)},
    ),
    Situation(
        "deep",
        "five columns, one after the other; the first has a slow endpoint with a cap of 4",
        40,
        40,
        models=(Model("writer", ALPHA, "writer-8b", 8), Model("judge", BETA, "judge-70b", 4)),
        columns=(
            Column("c1", model="judge"),
            Column("c2", ("c1",), model="writer"),
            Column("c3", ("c2",), model="writer"),
            Column("c4", ("c3",), model="writer"),
        ),
        providers={ALPHA: ProviderSpec(0.05, 0.01), BETA: ProviderSpec(0.6, 0.1)},
    ),
    Situation(
        "rowgroups",
        "one row group of 10 rows at a time",
        60,
        10,
        row_groups=1,
        programs=("own",),
    ),
    Situation(
        "late",
        "each check that a model answers takes 3 s, then everything is well",
        80,
        providers={
            ALPHA: ProviderSpec(check_seconds=3.0),
            BETA: ProviderSpec(0.2, check_seconds=3.0),
        },
        programs=("exec",),
    ),
    Situation(
        "all401",
        "alpha and beta answer 401 to everything",
        60,
        providers={
            ALPHA: ProviderSpec(episodes=(Episode("status", status=401),)),
            BETA: ProviderSpec(episodes=(Episode("status", status=401),)),
        },
    ),
    Situation(
        "r401", "beta answers 401 from 3 s on", providers=_beta(Episode("status", 3.0, status=401))
    ),
    Situation(
        "quota",
        "beta answers 429 insufficient_quota from 2 s on",
        providers=_beta(Episode("status", 2.0, status=429, code="insufficient_quota")),
    ),
    Situation(
        "payment",
        "beta answers 402 from 2 s on",
        providers=_beta(Episode("status", 2.0, status=402)),
    ),
    Situation(
        "unknown",
        "beta does not know the model: 404",
        60,
        providers=_beta(Episode("status", status=404, code="model_not_found")),
    ),
    Situation(
        "r429_ra5",
        "beta answers one 429 with Retry-After 5",
        providers=_beta(Episode("status", 2.5, status=429, retry_after=5.0, most=1)),
    ),
    Situation(
        "storm",
        "beta answers 429 with Retry-After 1 to everything for 4 s",
        providers=_beta(Episode("status", 2.0, 6.0, status=429, retry_after=1.0)),
    ),
    Situation(
        "bucket", "beta takes 12 calls a second, then 429", 100, providers=_beta(bucket=12.0)
    ),
    Situation(
        "s503",
        "beta answers 503 for 3 s",
        providers=_beta(Episode("status", 2.0, 5.0, status=503)),
    ),
    Situation(
        "backoff",
        "beta answers 500 to 8 calls; their clients back off",
        providers=_beta(Episode("status", 2.0, status=500, most=8)),
    ),
    Situation(
        "resets", "beta closes connections for 3 s", providers=_beta(Episode("reset", 2.0, 5.0))
    ),
    Situation("refused", "nobody listens where beta should be", 40, dead=frozenset({BETA})),
    Situation(
        "hang1",
        "one call of beta hangs 12 s",
        100,
        providers=_beta(Episode("hang", 2.0, seconds=12.0, most=1)),
    ),
    Situation(
        "hangall",
        "all calls of beta that arrive within 0.5 s hang 6 s",
        providers=_beta(Episode("hang", 2.0, 2.5, seconds=6.0)),
    ),
    Situation(
        "slow10",
        "beta is 10 times slower for 6 s",
        100,
        providers=_beta(Episode("slow", 2.0, 8.0, factor=10.0)),
    ),
    Situation(
        "poison",
        "alpha refuses the prompts of one topic in 40 with 400",
        80,
        providers={
            ALPHA: ProviderSpec(episodes=(Episode("status", status=400, prompt="topic-7"),)),
            BETA: ProviderSpec(0.2),
        },
    ),
    Situation(
        "malformed",
        "beta's answers are broken JSON for 2 s",
        providers=_beta(Episode("malformed", 2.0, 4.0)),
    ),
    Situation(
        "empty", "beta's answers are empty for 2 s", providers=_beta(Episode("empty", 2.0, 4.0))
    ),
    Situation(
        "filter",
        "beta's content filter leaves nothing for 2 s",
        providers=_beta(Episode("filter", 2.0, 4.0)),
    ),
    Situation("block", "an async column calls time.sleep(0.3)", 24, columns=_custom("lag")),
    Situation("longblock", "an async column calls time.sleep(4) once", 60, columns=_custom("once")),
    Situation("cpu", "a sync column computes 0.15 s a row in threads", 50, columns=_custom("work")),
    Situation(
        "spin", "an async column computes 0.2 s a row in the loop", 30, columns=_custom("spin")
    ),
    Situation("gil", "an async column computes in C, 0.5 s a row", 12, columns=_custom("gil")),
    Situation("stop5", "the process is stopped for 5 s", stop=(2.0, 5.0)),
    Situation("stop_short", "the process is stopped for 1.2 s", stop=(2.0, 1.2)),
    Situation("neighbour", "everything is well, beside a busy neighbour", neighbour=True),
    Situation("drained", "the user interrupts after 3 s", interrupt=3.0),
    Situation(
        "r403",
        "beta answers 403 to everything for 2 s",
        providers=_beta(Episode("status", 2.0, 4.0, status=403)),
    ),
    Situation(
        "outage",
        "beta answers 500 to everything from 2 s on",
        100,
        providers=_beta(Episode("status", 2.0, status=500)),
    ),
    Situation(
        "errorbody",
        "beta answers 200 with an error for a body, for 2 s",
        providers=_beta(Episode("error_body", 2.0, 4.0)),
    ),
    Situation(
        "trickle",
        "beta's answers come piece by piece over 3 s, for 4 s",
        100,
        providers=_beta(Episode("trickle", 2.0, 6.0, seconds=3.0)),
    ),
    Situation("tiny", "beta takes 4 calls a second, then 429", 50, providers=_beta(bucket=4.0)),
    Situation(
        "manydrops",
        "alpha refuses the prompts of a quarter of the topics with 400",
        80,
        providers={
            ALPHA: ProviderSpec(episodes=(Episode("status", status=400, prompt="topic-3"),)),
            BETA: ProviderSpec(0.2),
        },
    ),
    Situation(
        "hangs",
        "five calls of alpha, among many that do not, hang 5 s",
        100,
        providers={
            ALPHA: ProviderSpec(
                episodes=(Episode("hang", 1.0, seconds=5.0, most=5, prompt="topic-2"),)
            ),
            BETA: ProviderSpec(0.2),
        },
    ),
    Situation(
        "burst", "an async column computes 0.5 s a row in the loop", 16, columns=_custom("burst")
    ),
    Situation("stop3", "the process is stopped for 3 s", stop=(1.5, 3.0)),
)
BY_NAME = {situation.name: situation for situation in SITUATIONS}
