"""What an answer must name, situation by situation.

A cause is found by words and not by the names of verdicts, so that a better verdict needs no new
rule: `says` is looked for in the first paragraph, in verdicts and in blame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.truth.facts import Source

LOOP = r"event loop|process|headgate's own|interpreter|processor|CPU"
ERRORS = r"error|fail|refus|unreachable|broken|reset"
SLOW = r"\bslow|hung|hang|no answer|without an answer|silent|latency"
BOUND = r"bound|limit|pace|saturat|cap |full|busy|in use|at its"
ACT_CAP = r"max_parallel_requests"
ACT_KEY = r"key|credential|token|log in|sign in|permission|secret"
ACT_QUOTA = r"quota|billing|credit|plan|pay|top up"
ACT_RATE = r"max_parallel_requests|startup_ramp|rate|lower"
ACT_SERVER = r"provider|endpoint|server|status|retry|time.?out|wait"
ACT_LOOP = r"thread|to_thread|await|async|off the loop|block|process|time\.sleep|CPU"
ACT_MACHINE = r"SIGSTOP|Ctrl|stopped|suspend|machine|CPU|core|process|sleep"


@dataclass(frozen=True)
class Cause:
    """One thing that the answer must name."""

    says: str
    """Regular expression for the cause in words."""
    where: str = ""
    """Regular expression for the endpoint or column; empty where there is none to name."""
    action: str = ""
    """Regular expression for the fitting advice; empty where nothing need be done."""
    windows: tuple[str, ...] = ()
    """Causes of the windows in which verdicts must say so; empty where no interval is expected."""
    verdict: str = ""
    """Regular expression for the words of those verdicts; empty: `says`."""
    share: str = ""
    """The verdict whose share of the slots must agree with the windows' lost slots."""
    sources: tuple[Source, ...] = ("own", "exec", "native")
    """Where the stream can show it. Elsewhere `unknown` and silence are right as well."""
    named: bool = False
    """Where it can't, the place has to be named beside the word that it is unknown."""


@dataclass(frozen=True)
class Expectation:
    """What is right to say of one situation."""

    causes: tuple[Cause, ...]
    """Empty: nothing was wrong, and nothing may be advised to be changed."""
    quiet: bool = False
    """Shares of work must agree with the server's log within 3 points (own, exec)."""
    silence: bool = False
    """To say nothing of it is right as well, if no row was lost."""
    idle: bool = True
    """`waiting for upstream columns` alone leads away from the cause."""


def _cooldown(where: str = "beta/judge-70b") -> Cause:
    return Cause(
        r"429|cooldown|slow down",
        where,
        ACT_RATE,
        ("cooldown",),
        r"429|cooldown|slow down|ceiling",
        "request_cooldown",
    )


def _errors(status: str, action: str, where: str = "beta/judge-70b", words: str = "") -> Cause:
    """`words` say what the status means: Data Designer's own events have a class alone."""
    meant = rf"({status}|{words})" if words else status
    return Cause(rf"{meant}", where, action, (f"{status} ",), rf"{meant}|{ERRORS}")


def _mended_inside(cause: Cause) -> Cause:
    """Data Designer's own events name no error that is tried again, inside a task or by it."""
    return replace(cause, sources=("own", "exec"), named=True)


def _slow(where: str = "beta/judge-70b", cause: str = "hung") -> Cause:
    return Cause(SLOW, where, r"endpoint|time.?out|provider", (cause,), SLOW)


def _block(column: str) -> Cause:
    return Cause(
        r"event loop|interpreter|processor|CPU",
        rf"\b{column}\b",
        ACT_LOOP,
        ("event loop blocked", "CPU work"),
        LOOP,
        sources=("own", "exec"),
    )


_PAUSE = Cause(
    r"stopped|paused|stood|process|event loop", "", ACT_MACHINE, ("process stopped",), LOOP
)
_AUTH = r"[Aa]uthenti|unauthori[sz]ed"
_SERVER_ERROR = r"5xx|server error|internal.server"
_UNAUTHORIZED = _errors("401", ACT_KEY, words=_AUTH)


def _bound(where: str, action: str = ACT_CAP) -> Cause:
    return Cause(BOUND, where, action)


_NOTHING_WRONG = Expectation((), quiet=True)
_BAD_ANSWERS = rf"({ERRORS}|malformed|empty|filter|not JSON|no answer|unusable|dropped)"

EXPECTATIONS: dict[str, Expectation] = {
    "healthy": _NOTHING_WRONG,
    "tail": Expectation(()),
    "bursty": Expectation(()),
    "late": _NOTHING_WRONG,
    "neighbour": Expectation(()),
    "rowgroups": Expectation(
        (Cause(r"row group", "", r"max_concurrent_row_groups|buffer_size"),), idle=False
    ),
    "deep": Expectation((_bound("beta/judge-70b", ""),), quiet=True),
    "lowcap": Expectation((_bound("beta/judge-70b"),), quiet=True),
    "twocaps": Expectation((_bound("beta/judge-70b"),), quiet=True),
    "slowroot": Expectation((Cause(BOUND + "|slowest", "beta/root-70b"),), quiet=True),
    "all401": Expectation((_errors("401", ACT_KEY, "alpha|beta", _AUTH),)),
    "r401": Expectation((_UNAUTHORIZED,)),
    "quota": Expectation(
        (Cause(r"quota|spent|429", "beta", ACT_QUOTA, ("429 answers",), r"quota|spent|429"),)
    ),
    "payment": Expectation((_errors("402", ACT_QUOTA, words=r"quota|payment|spent"),)),
    "unknown": Expectation(
        (_errors("404", r"model|name|address|endpoint", words=r"[Nn]ot.?[Ff]ound|unknown model"),)
    ),
    "r429_ra5": Expectation((_cooldown(),)),
    "storm": Expectation((_cooldown(),)),
    "bucket": Expectation((_cooldown(),)),
    "s503": Expectation((_mended_inside(_errors("503", ACT_SERVER, words=_SERVER_ERROR)),)),
    "backoff": Expectation((_errors("500", ACT_SERVER, words=_SERVER_ERROR),), silence=True),
    "resets": Expectation(
        (_mended_inside(Cause(r"connection|reset|unreachable", "beta", ACT_SERVER, ("reset",))),),
        idle=False,
    ),
    "refused": Expectation(
        (Cause(r"connection|refus|unreachable|reached", "beta", ACT_SERVER, ("refused",)),)
    ),
    "hang1": Expectation((_slow(),)),
    "hang20": Expectation((_slow(),)),
    "hangall": Expectation((_slow(),)),
    "slow10": Expectation((_slow(cause="slow"),)),
    "poison": Expectation(
        (Cause(r"400|dropped|refus|BadRequest|bad request", "alpha|question", ""),), silence=True
    ),
    "malformed": Expectation(
        (Cause(_BAD_ANSWERS, "beta|verdict", "", ("malformed",)),), silence=True
    ),
    "empty": Expectation((Cause(_BAD_ANSWERS, "beta|verdict", "", ("empty",)),), silence=True),
    "filter": Expectation((Cause(_BAD_ANSWERS, "beta|verdict", "", ("filter",)),), silence=True),
    "block": Expectation((_block("lag"),)),
    "longblock": Expectation((_block("once"),)),
    "cpu": Expectation((_block("work"),)),
    "spin": Expectation((_block("spin"),)),
    "gil": Expectation((_block("gil"),)),
    "stop5": Expectation((_PAUSE,)),
    "stop_short": Expectation((_PAUSE,), silence=True),
    "drained": Expectation(()),
    "r403": Expectation((_errors("403", ACT_KEY, words=_AUTH + r"|permission|refused"),)),
    "outage": Expectation((_mended_inside(_errors("500", ACT_SERVER, words=_SERVER_ERROR)),)),
    "errorbody": Expectation(
        (Cause(_BAD_ANSWERS, "beta|verdict", "", ("error_body",)),), silence=True
    ),
    "trickle": Expectation((_slow(cause="slow"),)),
    "tiny": Expectation((_cooldown(),)),
    "manydrops": Expectation(
        (Cause(r"400|dropped|refus|BadRequest|bad request", "alpha|question", ""),)
    ),
    "hangs": Expectation((_slow("alpha/writer-8b"),)),
    "burst": Expectation((_block("burst"),)),
    "stop3": Expectation((_PAUSE,)),
}
