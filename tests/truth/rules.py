"""How an answer is scored: by rules that read the truth and what was said, never the stream.

`false` is what contradicts the truth or leads away from it; it outweighs all that is right. Without
it an answer is `right` where the first paragraph names each cause, its place and the fitting
action, and the verdicts lie in its windows; `vague` where the cause is named, but not so; and
`missing` where nothing names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tests.truth.answer import Answer, Said
from tests.truth.expectations import Cause, Expectation
from tests.truth.facts import Run, joined, length, overlap

Grade = Literal["right", "vague", "missing", "false"]
TOLERANCE_SECONDS = 0.5
SHARE_TOLERANCE = 0.02
QUIET_TOLERANCE = 0.03
WORK_TOLERANCE = 0.10
LATE_SECONDS = 0.1
"""So long an answer may wait for a core beside a busy neighbour until it is read: no heartbeat
tells of a shorter standstill, and no server's log has it."""
RETRIED_SECONDS = 6.0
"""So long after a failure a client of Data Designer may pause before it tries again."""
_BROKEN = ("lost_wakeup", "leaked_lease", "policy_mutual_denial", "unsatisfiable")
_LOOP = re.compile(r"event_loop|loop_blocked|process_paused|process_stopped|starved|interpreter")
_RAISE = re.compile(
    r"\b[Rr]ais(e|ing)\b[^.;:]{0,40}max_parallel_requests|max_parallel_requests: raise that"
)
_NOTHING = re.compile(r"\b0 calls at a time|\(of 0\)|\bof 0 \b|\bNone\b|\bnan\b|\binf\b")
# From 10 % on: a smaller loss leads nobody away.
_UPSTREAM = re.compile(
    r"(largest loss, [^.]*?|The rest: \d\d+ %[^.:]{0,5})waiting for upstream columns"
)
_FAILED = re.compile(r"fail|refus|dropped|error", re.IGNORECASE)
_UNKNOWN = re.compile(r"\bunknown\b|cannot be told|can't be told|not known|does not tell")
_LARGE_SHARE = 0.02
_TROUBLE = ("429", "cooldown", "answers", "hung", "slow", "reset", "refused", "blocked", "stopped")
_TRIED_AGAIN = ("slow", "hung", "answers", "reset", "refused")
_NEIGHBOUR = "neighbour"
_PROCESS = ("event loop", "stopped", "CPU")


@dataclass(frozen=True)
class Score:
    grade: Grade
    reasons: tuple[str, ...]
    """What is false; else what keeps it from being right."""


def score(run: Run, expected: Expectation, answer: Answer) -> Score:
    """Score what was said of one recording."""
    wrong = [reason for rule in FALSE_RULES for reason in rule(run, expected, answer)]
    if wrong:
        return Score("false", tuple(dict.fromkeys(wrong)))
    lacking: list[str] = []
    grades: list[Grade] = []
    for cause in expected.causes:
        if cause.windows and not run.windows_of(*cause.windows):
            continue  # it did not come to that
        grade, reasons = _judge(run, cause, answer)
        silence = expected.silence and not run.lost_rows
        if grade == "missing" and (silence or _is_excused(run, cause, answer)):
            grade, reasons = "right", []
        grades.append(grade)
        lacking += reasons
    if expected.quiet and run.source != "native" and not run.windows_of(_NEIGHBOUR):
        lacking += _shares(run, answer)
    if "missing" in grades:
        return Score("missing", tuple(lacking))
    return Score("vague" if lacking else "right", tuple(lacking))


def _is_excused(run: Run, cause: Cause, answer: Answer) -> bool:
    """The stream can't show it, and the answer says that it does not know, and where."""
    if run.source in cause.sources or not _UNKNOWN.search(answer.headline):
        return False
    return not cause.named or bool(re.search(cause.where, answer.headline))


def _judge(run: Run, cause: Cause, answer: Answer) -> tuple[Grade, list[str]]:
    named = re.compile(cause.says, re.IGNORECASE)
    where = re.compile(cause.where)
    everywhere = " ".join(
        [
            answer.headline,
            *(f"{said.resource} {said.sentence}" for said in answer.report.verdicts),
            *(f"{row.resource} {row.phrase} {row.advice}" for row in answer.report.run_blame),
        ]
    )
    if not (named.search(everywhere) and where.search(everywhere)):
        return "missing", [f"nothing names {cause.says!r} of {cause.where or 'the process'}"]
    reasons = []
    if not named.search(answer.headline):
        reasons.append(f"the first paragraph does not say {cause.says!r}")
    if not where.search(answer.headline):
        reasons.append(f"the first paragraph does not name {cause.where}")
    saying = _saying(cause, answer)
    advice = " ".join([answer.headline, *(said.advice for said in saying)])
    advice += " ".join(row.advice for row in answer.report.run_blame if row.fraction >= 0.05)
    if cause.action and not re.search(cause.action, advice, re.IGNORECASE):
        reasons.append(f"no advice says {cause.action!r}")
    if run.source in cause.sources:
        reasons += _windows(run, cause, saying)
        reasons += _lost_share(run, cause, answer)
    return "vague" if reasons else "right", reasons


def _saying(cause: Cause, answer: Answer) -> list[Said]:
    """The verdicts that name the cause, at its place."""
    words = re.compile(cause.verdict or cause.says, re.IGNORECASE)
    where = re.compile(cause.where)
    return [
        said
        for said in answer.report.verdicts
        if words.search(f"{said.verdict.replace('_', ' ')} {said.sentence}")
        and (_LOOP.search(said.verdict) or where.search(f"{said.resource} {said.sentence}"))
    ]


def _windows(run: Run, cause: Cause, saying: list[Said]) -> Iterator[str]:
    """The verdicts must cover the windows, and end where they do."""
    if not cause.windows:
        return
    true = [(window.start, window.end) for window in run.windows_of(*cause.windows)]
    spans = [said.span for said in saying]
    if not true or length(true) < TOLERANCE_SECONDS:
        return
    missed = length(true) - overlap(true, spans, TOLERANCE_SECONDS)
    if missed > 0.2 * length(true):
        yield f"{missed:.1f} s of {length(true):.1f} s of {cause.windows[0]!r} have no verdict"
    for start, end in joined(said.span for said in saying if said.verdict == cause.share):
        outside = (end - start) - overlap([(start, end)], joined(true, 1.0), TOLERANCE_SECONDS)
        if outside > 0.01:
            yield f"a verdict from {start:.1f} to {end:.1f} s is {outside:.1f} s out of its window"


def _lost_share(run: Run, cause: Cause, answer: Answer) -> Iterator[str]:
    """What the windows took of the slots must agree with the share that the verdict has."""
    lost = sum(window.lost_slot_seconds for window in run.windows_of(*cause.windows))
    if not cause.share or not lost or answer.slot_seconds <= 0:
        return
    true = lost / answer.slot_seconds
    share = answer.fraction(cause.share)
    if abs(share - true) > SHARE_TOLERANCE:
        yield f"{cause.share} has {share:.1%} of the slots; by the server's log {true:.1%}"


def _apart(run: Run, answer: Answer) -> Iterator[tuple[str, float, float, float]]:
    """For each endpoint its share of work by its server, as it was said, and what is unknown."""
    total = answer.slot_seconds
    for resource, endpoint in run.server.items() if total > 0 else ():
        yield (
            resource,
            endpoint.busy_slot_seconds / total,
            answer.fraction("working", "provider_latency", resource=resource),
            answer.fraction("unknown", resource=resource),
        )


def _shares(run: Run, answer: Answer) -> Iterator[str]:
    for resource, busy, working, unknown in _apart(run, answer):
        if not busy - QUIET_TOLERANCE - unknown <= working <= busy + QUIET_TOLERANCE:
            yield f"{resource} worked {working:.1%} of the slots; by its server {busy:.1%}"


# What is false


def _broken(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """No situation has a bug of the producer, or a demand that never fits."""
    for said in answer.report.verdicts:
        if said.verdict in _BROKEN:
            yield f"{said.verdict} at {said.start:.1f} s: there was none"
    for row in answer.report.run_blame:
        if row.verdict in _BROKEN and row.fraction >= 0.005:
            yield f"{row.verdict} has {row.fraction:.1%}: there was none"


def _slow(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """A provider is called slow only while it was."""
    for said in answer.report.verdicts:
        if said.verdict != "provider_latency" and "provider was slow" not in said.sentence:
            continue
        slow = run.windows_of("slow", "hung", resource=_provider_model(said.resource))
        spans = [(window.start, window.end) for window in slow]
        outside = said.end - said.start - overlap([said.span], spans, TOLERANCE_SECONDS)
        if outside > TOLERANCE_SECONDS or not spans:
            yield f"{said.resource} is called slow from {said.start:.1f} to {said.end:.1f} s"


def _slow_tasks(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """Tasks are slow while their calls are slow or fail, and until their client tries again."""
    for said in answer.report.verdicts:
        if said.verdict != "slow_tasks":
            continue
        resource = _provider_model(said.resource)
        windows = run.windows_of(*_TRIED_AGAIN, resource=resource)
        spans = [(window.start, window.end + RETRIED_SECONDS) for window in windows]
        outside = said.end - said.start - overlap([said.span], spans, TOLERANCE_SECONDS)
        if outside > TOLERANCE_SECONDS or not spans:
            yield f"tasks of {said.resource} are called slow at {said.start:.1f} s"


def _cooled(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """A cooldown needs a 429."""
    for said in answer.report.verdicts:
        if said.verdict != "request_cooldown":
            continue
        endpoint = run.server.get(_provider_model(said.resource))
        if endpoint is None or "429" not in endpoint.statuses:
            yield f"a cooldown of {said.resource} at {said.start:.1f} s without a 429"
    for row in answer.report.run_blame:
        endpoint = run.server.get(_provider_model(row.resource))
        limited = endpoint is not None and "429" in endpoint.statuses
        if row.verdict == "request_cooldown" and row.fraction >= _LARGE_SHARE and not limited:
            yield f"{row.fraction:.0%} go to a cooldown of {row.resource} without a 429"


def _held_up(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """The loop is blamed only for what the process did."""
    true = [(window.start, window.end) for window in run.windows_of(*_PROCESS)]
    if run.windows_of(_NEIGHBOUR):
        return
    for said in answer.report.verdicts:
        if _LOOP.search(said.verdict):
            outside = said.end - said.start - overlap([said.span], joined(true, 0.5), 0.5)
            if outside > TOLERANCE_SECONDS:
                yield f"{said.verdict} from {said.start:.1f} to {said.end:.1f} s: the loop ran"


def _advice(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """More calls at a time help where the cap was reached and the endpoint was well, only there."""
    for said in answer.report.verdicts:
        if _RAISE.search(said.advice) and _must_not_raise(run, said.resource, said.span):
            yield f"advice to raise the cap of {said.resource} at {said.start:.1f} s"
    if re.search(r"[Rr]ais(e|ing) max_in_flight_tasks", answer.headline):
        yield "advice to raise max_in_flight_tasks, which no situation reaches"
    if _RAISE.search(answer.headline):
        named = [name for name in run.server if name in answer.headline]
        whole = (run.first_call, run.last_answer)
        if named and all(_must_not_raise(run, name, whole) for name in named):
            yield "the first paragraph advises to raise a cap that was not what bounded the run"


def _must_not_raise(run: Run, resource: str | None, span: tuple[float, float]) -> bool:
    endpoint = run.server.get(_provider_model(resource))
    if endpoint is None:
        return True
    trouble = [
        (window.start, window.end)
        for window in run.windows_of(*_TROUBLE)
        if window.resource in (None, _provider_model(resource))
    ]
    seconds = max(span[1] - span[0], 0.001)
    return endpoint.max_in_flight < endpoint.cap or overlap([span], trouble) / seconds > 0.3


def _nothing(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """No sentence is built of missing facts."""
    sentences = [answer.headline]
    for said in answer.report.verdicts:
        sentences += [said.sentence, said.advice]
    for sentence in sentences:
        if _NOTHING.search(sentence):
            yield f"a sentence of missing facts: {sentence[:80]!r}"


def _leads_away(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """The first paragraph leads with what only follows from the cause, and does not name that."""
    if not expected.causes or expected.silence or not expected.idle:
        return
    causes = [
        cause for cause in expected.causes if not cause.windows or run.windows_of(*cause.windows)
    ]
    if not causes:
        return  # it did not come to that
    named = any(re.search(cause.says, answer.headline, re.IGNORECASE) for cause in causes)
    failed = _FAILED.search(answer.headline) and run.windows_of("answers", "reset", "refused")
    if _UPSTREAM.search(answer.headline) and not named and not failed:
        yield "the first paragraph blames upstream columns, and does not name the cause"


def _too_early(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """Before the scheduler starts there is no run that could wait for its own columns."""
    for said in answer.report.verdicts:
        if said.verdict == "dependency" and said.start < run.began - 0.05:
            yield f"columns waited at {said.start:.1f} s, before the run began"
    most = sum(endpoint.cap for endpoint in run.server.values())
    most_seconds = most * (answer.report.run.seconds - run.began + TOLERANCE_SECONDS)
    if run.began and answer.slot_seconds > 1.05 * most_seconds:
        yield (
            f"{answer.slot_seconds:.0f} slot-seconds are divided, of which the run "
            f"had at most {most_seconds:.0f}"
        )


def _work(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """Full slots are not idle; and where the process itself stood, held slots are not work."""
    busy_all = working_all = 0.0
    for resource, busy, working, unknown in _apart(run, answer):
        busy_all, working_all = busy_all + busy, working_all + working
        stood = answer.fraction("event_loop_lag", "process_stopped", resource=resource)
        if working + unknown + stood < busy - WORK_TOLERANCE:
            yield f"{resource} is called idle: {working:.1%} worked, by its server {busy:.1%}"
    beside = bool(run.windows_of(_NEIGHBOUR))
    tolerance = WORK_TOLERANCE
    if beside and answer.slot_seconds > 0:
        calls = sum(endpoint.calls for endpoint in run.server.values())
        tolerance += LATE_SECONDS * calls / answer.slot_seconds
    called_work = run.source != "native" or "did work" in answer.headline
    held = beside or bool(run.windows_of(*_PROCESS))
    if held and called_work and working_all > busy_all + tolerance:
        yield f"{working_all:.1%} of the slots worked; by the servers {busy_all:.1%}"


def _outcome(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """A run that left no row did not end well."""
    success = "ended well" in answer.outcome_line or answer.report.run.outcome == "success"
    if run.rows_kept == 0 and success:
        yield "a run that left no row is called a success"


def _change_nothing(run: Run, expected: Expectation, answer: Answer) -> Iterator[str]:
    """Of a healthy run nothing is broken, and nothing is advised to be changed."""
    if expected.causes:
        return
    beside = bool(run.windows_of(_NEIGHBOUR))
    for said in answer.report.verdicts:
        if beside and _LOOP.search(said.verdict):
            continue
        if said.tier in "AB" or _RAISE.search(said.advice):
            yield f"{said.verdict} from {said.start:.1f} to {said.end:.1f} s of a healthy run"
    if _RAISE.search(answer.headline):
        yield "the first paragraph advises a healthy run to raise a cap"


def _provider_model(resource: str | None) -> str:
    """`provider/model` of a request resource or of a scheduler resource."""
    name = (resource or "").rpartition(":")[2]
    return "/".join(name.split("/")[:2])


FALSE_RULES: tuple[Callable[[Run, Expectation, Answer], Iterator[str]], ...] = (
    _broken,
    _slow,
    _slow_tasks,
    _cooled,
    _held_up,
    _advice,
    _nothing,
    _leads_away,
    _too_early,
    _work,
    _outcome,
    _change_nothing,
)
