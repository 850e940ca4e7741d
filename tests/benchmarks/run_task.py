"""Custom::ECSRunTask beside a wait in the function and beside crhelper's own polling.

The short task really runs, for all of them. The long ones do not: ours runs with its waits skipped,
the rivals are computed from what their sources say. Every row tells which.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.local import deployed, rival, run
from tests.benchmarks.report import Goal, Section, Spread, Table
from tests.benchmarks.skipped import go

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.benchmarks.local import Run

_REPETITIONS = 6
_SHORT = 10.0
# Each repetition takes a little longer, so that the ends fall all over the pause between two looks.
_STAGGER = 0.9
_LONG = {"5 min": 300.0, "10 min": 600.0, "50 min": 3000.0}
_PHASES = [phase * 0.25 for phase in range(40)]

# botocore 1.43, ecs/waiters-2.json: tasks_stopped.
_WAITER_PAUSE = 6
_WAITER_ENDS = 600
# Lambda's longest timeout.
_LAMBDA_ENDS = 900
# The rehearsal of its end: a function that may run 10 s, and a task of 60.
_REHEARSED_TIMEOUT = 10
_REHEARSED_TASK = 60.0
_REHEARSED_PATIENCE = 100
# A task that only warms a function up.
_WARM_UP = 1.0

_OURS = "**run_task**"
_WAITS = "wait in the function"
_POLLS = "crhelper, polling each {} min"
_MEASURED, _SKIPPED, _COMPUTED = "measured", "time skipped", "computed"

_INTRODUCTION = """\
How long after its task has stopped CloudFormation has the answer, and how much Lambda time is
billed, beside two other ways. *Of the wait* is the ratio to waiting in the function until the task
has stopped, whether or not a function may run for so long."""

_NOTES = """\
- *measured*: real stacks on the local account, run_task and the wait in the function side by side;
  from the task's `stoppedAt` to CloudFormation's event for the resource. Billed is the sum of
  Lambda's REPORT lines. Both functions are warm; crhelper's has a cold start in it.
- *time skipped*: run_task's own flow with its real waits, on a clock that jumps, with {phases} ends
  of the task all over the pause between two looks. Looks are counted, and billed as measured in
  this run: {looks} ms each.
- *computed*: by what their sources say. botocore's waiter looks each {pause} s, for {gives_up}
  minutes. crhelper polls each 2 minutes unless told otherwise, each 1 at the least; a poll is
  billed as the one measured. A task ends at any point of a pause.

### Past 15 minutes

**run_task** goes on to CloudFormation's hour: see 50 min.

**A wait in the function** ends at {gives_up} minutes, when the waiter gives up: the stack rolls
back while the task goes on, and may yet succeed. With a more patient waiter it ends at {killed_at},
when Lambda ends the function. Nobody answers then; Lambda delivers the request twice more, each
time with a new task. Rehearsed with a timeout of {timeout} s for a task of {task} s: {tasks} tasks
were started, and after `ServiceTimeout` ({patience} s) {status}: "{reason}".

**crhelper's polling** gets past 15 minutes. What it lacks is an end: a task that never stops is
polled until CloudFormation gives up, and for ever after that, because the rule stays. Without its
polling, crhelper answers FAILED, "Execution timed out", half a second before Lambda's {killed_at}
minutes; the task goes on."""


@dataclass(frozen=True, slots=True)
class _Measured:
    ours: Sequence[Run]
    waits: Sequence[Run]
    polls: dict[int, Run]
    """By the minutes between two polls."""
    killed: Run
    """A wait in a function whose timeout is shorter than the task."""


@dataclass(frozen=True, slots=True)
class _Row:
    task: str
    way: str
    latency: Spread | None
    billed: Spread
    waited: float
    """Seconds that a wait in the function bills for the same task."""
    ends: str
    how: str

    def cells(self) -> list[str]:
        ratio = self.billed.scaled(100 / self.waited)
        seconds = f"{self.latency} s" if self.latency else "never"
        return [
            *(self.task, self.way, seconds, f"{self.billed} s", f"{ratio} %", self.ends, self.how)
        ]


def measure(folder: Path) -> Section:
    """Run everything in an account of its own."""
    seen = _measure(folder)
    short, long = _short(seen), _long(seen)
    ours = [row for row in (*short, *long) if row.way == _OURS]
    slowest = max((row.latency for row in ours if row.latency), key=lambda one: one.median)
    ten = next(row for row in ours if row.task == "10 min")
    head = ("task", "way", "answer after the stop", "billed", "of the wait", "ends", "figures")
    return Section(
        title="run_task",
        parts=[
            _INTRODUCTION,
            Table(head, [row.cells() for row in (*short, *long)]),
            _notes(seen),
        ],
        goals=[
            Goal("answer after the stop, slowest median of run_task, at most 3 s", slowest, 3),
            Goal(
                "billed for 10 min, in percent of the wait in the function, at most 2",
                ten.billed.scaled(100 / ten.waited),
                2,
            ),
        ],
    )


def _measure(folder: Path) -> _Measured:
    with deployed(folder) as (account, ours), ThreadPoolExecutor() as pool:
        waits = rival(account, "bench-waits", "in_lambda_wait")
        brief = rival(account, "bench-killed", "in_lambda_wait", timeout=_REHEARSED_TIMEOUT)
        minutes = {
            each: rival(account, f"bench-polls-{each}", "crhelper_polling", MINUTES=str(each))
            for each in (1, 2)
        }
        # These do next to nothing while the others are measured.
        polls = {each: pool.submit(run, account, way, _SHORT) for each, way in minutes.items()}
        killed = pool.submit(
            run, account, brief, _REHEARSED_TASK, service_timeout=_REHEARSED_PATIENCE
        )
        pairs = []
        for way in (ours, waits):
            run(account, way, _WARM_UP)
        for repetition in range(_REPETITIONS):
            seconds = _SHORT + repetition * _STAGGER
            both = [pool.submit(run, account, way, seconds) for way in (ours, waits)]
            pairs.append([one.result() for one in both])
        return _Measured(
            ours=[pair[0] for pair in pairs],
            waits=[pair[1] for pair in pairs],
            polls={each: one.result() for each, one in polls.items()},
            killed=killed.result(),
        )


def _short(seen: _Measured) -> list[_Row]:
    waited = statistics.median(sum(one.billed) for one in seen.waits)

    def row(way: str, runs: Sequence[Run]) -> _Row:
        ends = {f"{one.status}{f': {one.reason}' if one.reason else ''}" for one in runs}
        return _Row(
            "10 s",
            way,
            Spread.of([one.latency for one in runs]),
            Spread.of([sum(one.billed) for one in runs]),
            waited,
            ", ".join(sorted(ends)),
            f"{_MEASURED}, {len(runs)} times" if len(runs) > 1 else f"{_MEASURED} once",
        )

    return [
        row(_OURS, seen.ours),
        row(_WAITS, seen.waits),
        *(row(_POLLS.format(each), [one]) for each, one in seen.polls.items()),
    ]


def _long(seen: _Measured) -> list[_Row]:
    rows = []
    for name, seconds in _LONG.items():
        waited = _waits(seen, name, seconds)
        rows += [_ours(seen, name, seconds, waited.waited), waited]
        rows += [_polls(one, each, name, seconds, waited) for each, one in seen.polls.items()]
    return rows


def _ours(seen: _Measured, name: str, seconds: float, waited: float) -> _Row:
    # Between the first invocation, which starts the task, and the last, which answers, each is
    # one look.
    looks = Spread.of([each for one in seen.ours for each in one.billed[1:-1]])
    ends = statistics.median(one.billed[-1] for one in seen.ours)
    around = statistics.median(one.billed[0] for one in seen.ours) + ends
    went = [go(seconds + phase, invocation=looks.median) for phase in _PHASES]
    number = statistics.median(one.looks for one in went)
    return _Row(
        name,
        _OURS,
        Spread.of([one.latency + ends for one in went]),
        looks.scaled(number - 2, around),
        waited,
        "CREATE_COMPLETE",
        f"{_SKIPPED}: {number:.0f} looks",
    )


def _waits(seen: _Measured, name: str, seconds: float) -> _Row:
    start = statistics.median(sum(one.billed) - _SHORT - one.latency for one in seen.waits)
    if seconds < _WAITER_ENDS:
        # Any point of the waiter's pause is as likely as any other.
        pause = Spread.of([0, _WAITER_PAUSE])
        billed = pause.scaled(1, seconds + max(0, start))
        return _Row(name, _WAITS, pause, billed, billed.median, "CREATE_COMPLETE", _COMPUTED)
    billed = Spread.of([_WAITER_ENDS])
    ends = "CREATE_FAILED: Max attempts exceeded; the task goes on"
    return _Row(name, _WAITS, None, billed, seconds, ends, _COMPUTED)


def _polls(one: Run, each: int, name: str, seconds: float, waited: _Row) -> _Row:
    pause = each * 60
    number = -(-seconds // pause)
    # The first invocation starts the task and makes the rule. Taken for a poll, as the one that
    # was measured had a cold start in it.
    billed = (number + 1) * one.billed[-1]
    return _Row(
        name,
        _POLLS.format(each),
        Spread.of([0, pause]),
        Spread.of([billed]),
        waited.waited,
        "CREATE_COMPLETE",
        f"{_COMPUTED}: {number:.0f} polls",
    )


def _notes(seen: _Measured) -> str:
    killed = seen.killed
    return _NOTES.format(
        phases=len(_PHASES),
        looks=Spread.of([each * 1000 for one in seen.ours for each in one.billed[1:-1]]),
        pause=_WAITER_PAUSE,
        gives_up=_WAITER_ENDS // 60,
        killed_at=_LAMBDA_ENDS // 60,
        timeout=_REHEARSED_TIMEOUT,
        task=f"{_REHEARSED_TASK:.0f}",
        tasks=killed.tasks,
        patience=_REHEARSED_PATIENCE,
        status=killed.status,
        reason=killed.reason,
    )
