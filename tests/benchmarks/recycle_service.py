"""recycle_service beside the source article's way and ECS's own rolling deployment.

All three work on the same simulated services, on a virtual clock. What a resumption is billed is
measured, with the SDK's own runner.
"""

from __future__ import annotations

import logging
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aws_durable_execution_sdk_python import durable_execution

from ecs_ops.aws.service_recycle import Outside, recycle
from ecs_ops.errors import Transient
from ecs_ops.recycle import Continued, RecycleRequest, Report
from tests.benchmarks.pictures import Panel, panels
from tests.benchmarks.report import Goal, Section, Spread, Table
from tests.benchmarks.rivals.recycle_article import (
    LAMBDA_ENDS,
    WAITER_PAUSE,
    ArticleWay,
    LambdaTimeout,
    WaiterError,
)
from tests.durable_runner import run_handler
from tests.ecs_simulator import EcsSimulator, Fault, TargetGroup
from tests.recycle_run import CountedLeases, RecycleRun
from tests.sandbox.account import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from aws_durable_execution_sdk_python import DurableContext

    from tests.ecs_simulator import Moment

PICTURE: Final = REPOSITORY / "docs" / "recycle-service.svg"
_DRAWN: Final = (20, 1)
"""Size and seed of the service in the picture."""

# Seeds for each size: each is another service, of other times and with other faults.
_SEEDS: Final = {3: 9, 20: 9, 100: 5, 1_000: 1}
_WAIT_TIME: Final = 30
_START: Final = (20, 40)
_HEALTHY_AFTER: Final = 10
_DRAINS: Final = (15, 30)
_LAG: Final = 4
_REACTION: Final = 2
_LATENCY: Final = 0.03
_RESUMPTION: Final = 0.25
_AFTERMATH: Final = 120
_THROTTLED: Final = 0.01
_RETRY_AFTER: Final = 1

# Long enough for the executions of 15 tasks to be like most of those of more.
_REHEARSED: Final = 15

_TIME_GOAL: Final = 110
_BILLED_GOAL: Final = 2

_OURS: Final = "**recycle_service**"
_ARTICLE: Final = "the article's"
_ROLLING: Final = "rolling deployment"

_INTRODUCTION = """\
The same simulated services, three ways: how far strength fell, how long it took, and what it was
billed. ![Tasks in service over time](recycle-service.svg)"""

_NOTES = """\
- Services on a virtual clock, a task behind a target group each: from PENDING to RUNNING in {start}
  s and healthy {healthy} s later; {drains} s of deregistration delay; the scheduler acts {reaction}
  s after a change; a task that was stopped is listed as running for {lag} s more. Every call takes
  {latency} ms; {throttled:.0%} of them are throttled, and pass a second later, but for a tenth of
  these, on which botocore gives up. Auto Scaling is there, and does nothing.
  Seeds: {seeds}.
- *Fewest* is the truth, not what a caller sees: tasks healthy in the target group, in percent of
  the tasks asked for, the lowest of all seeds in parentheses. *Most* are tasks that ECS runs at
  once, starting ones included.
- *The floor* is what replacing one task at a time takes at the least: the start-up of the
  additional task; for each task the longer of its replacement's start-up, until it is in service,
  and its own deregistration delay; and {wait} s between two. Start-ups are those that happened in
  **recycle_service**'s run of the same service. The other ways are held against the same floor.
- **recycle_service** is its real flow. *Billed* is: for each invocation what the SDK's own runner
  took for one in this run, {resumption} ms; and {latency} ms for each call of AWS, and for each
  operation that is stored. Between the end of a wait and its invocation {resumed} s pass. An
  execution's operations, which Lambda bills besides: {operations} for each task. API calls
  include those to the lease's table, and not the SDK's own.
- **The article's** raises the count by one, stops a task, waits with botocore's `services_stable`
  (each {pause} s, at once at first), sleeps for {wait} s; in one invocation, which Lambda ends
  after {ends} minutes. It is billed while it waits. The waiter's first look after a stop is told
  what was true before it, so there is no wait: the next task is stopped when the last one's
  replacement is not up yet. That is why it is so fast, and billed so little. Times and ratios are
  of the runs that it finishes.
- **Rolling deployment** is `--force-new-deployment` at 100 and 200 percent, until no task of the
  old one is left. It is faster by as much as it starts tasks at once; that is *most*."""


@dataclass(frozen=True, slots=True)
class _Went:
    """How one way went with one service."""

    tasks: int
    way: str
    finished: bool
    seconds: float
    lowest: int
    most: int
    billed: float
    """Seconds; without what is measured of a resumption."""
    invocations: int
    operations: int
    calls: int
    replaced: int
    desired_count: int
    """As it was left."""
    minimum: int
    """Of Auto Scaling, as it was left."""
    floor: float
    """Of the service; 0 where it is not known."""
    history: tuple[Moment, ...] = ()


class _ResumedRun(RecycleRun):
    """A run in which Lambda takes a moment to resume."""

    def _pass_time(self, seconds: int) -> None:
        super()._pass_time(seconds)
        self.service.pass_time(_RESUMPTION)


def measure(_folder: Path) -> Section:
    """Measure all ways, and draw one service."""
    level = logging.root.manager.disable
    # Each throttled call would be told, thousands of times.
    logging.disable(logging.CRITICAL)
    try:
        resumptions = _resumptions()
        drawn = {way: _WAYS[way](*_DRAWN) for way in _WAYS}
    finally:
        logging.disable(level)
    went = _go_all()
    PICTURE.write_text(_picture(drawn))
    rows = [
        _Row(way, went[size, way], went[size, _OURS], went[size, _ARTICLE]) for size, way in went
    ]
    resumption = statistics.median(resumptions)
    ours = [row for row in rows if row.way == _OURS]
    return Section(
        title="recycle_service",
        parts=[
            _INTRODUCTION,
            Table(_Row.HEAD, [row.cells(resumption) for row in rows]),
            _notes(ours, Spread.of([each * 1000 for each in resumptions])),
            *_endings(rows),
        ],
        goals=_goals(rows, resumption),
    )


def _service(tasks: int, seed: int) -> EcsSimulator:
    chance = random.Random(seed)
    service = EcsSimulator(
        desired_count=tasks,
        scaling={"lowest": tasks, "highest": 2 * tasks},
        start=_START,
        target_groups=(TargetGroup(_HEALTHY_AFTER, chance.randint(*_DRAINS)),),
        lag=_LAG,
        reaction=_REACTION,
        latency=_LATENCY,
        seed=seed,
    )

    def throttle(operation: str, _number: int) -> Fault | None:
        """Have botocore try some calls again, and give up on a tenth of these."""
        luck = 1 if operation.startswith("lease.") else chance.random()
        if luck < _THROTTLED:
            service.pass_time(_RETRY_AFTER)
        return Fault(Transient("throttled")) if luck < _THROTTLED / 10 else None

    service.fault = throttle
    return service


def _ours(tasks: int, seed: int) -> _Went:
    service = _service(tasks, seed)
    run = _ResumedRun(service, RecycleRequest("shop", "web", wait_time=_WAIT_TIME))
    report = run.go()
    if report is None or report["outcome"] != "succeeded":
        raise AssertionError(report and report["problem"])
    invocations = sum(1 + context.suspensions for context in run.contexts)
    operations = sum(context.operations for context in run.contexts)
    return _went(
        _OURS,
        service,
        tasks,
        billed=(operations + service.calls.total()) * _LATENCY,
        invocations=invocations,
        operations=operations,
        floor=_floor(service, tasks),
    )


def _article(tasks: int, seed: int) -> _Went:
    service = _service(tasks, seed)
    finished = True
    try:
        ArticleWay(service, _WAIT_TIME).run()
    except (LambdaTimeout, WaiterError):
        finished = False
    ended = service.now
    if not finished:
        # Nobody puts the service back, however long one waits; what was stopped is replaced.
        service.pass_time(_AFTERMATH)
    return _went(_ARTICLE, service, tasks, finished=finished, billed=ended, seconds=ended)


def _rolling(tasks: int, seed: int) -> _Went:
    service = _service(tasks, seed)
    service.fault = None
    service.force_new_deployment()
    most = tasks
    while service.deployments > 1 or set(service.old) & set(service.kept):
        service.pass_time(1)
        most = max(most, len(service.kept))
    return _went(_ROLLING, service, tasks, most=most)


_WAYS: Final[Mapping[str, Callable[[int, int], _Went]]] = {
    _OURS: _ours,
    _ARTICLE: _article,
    _ROLLING: _rolling,
}


def _go(job: tuple[int, str, int]) -> _Went:
    tasks, way, seed = job
    logging.disable(logging.CRITICAL)
    return replace(_WAYS[way](tasks, seed), history=())


def _go_all() -> dict[tuple[int, str], list[_Went]]:
    """Return what each way made of each size; an item for each seed."""
    jobs = [
        (size, way, seed)
        for size, seeds in _SEEDS.items()
        for way in _WAYS
        for seed in range(seeds)
    ]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        # The long ones first.
        went = dict(zip(reversed(jobs), pool.map(_go, reversed(jobs)), strict=True))
    return {
        (size, way): [went[size, way, seed] for seed in range(seeds)]
        for size, seeds in _SEEDS.items()
        for way in _WAYS
    }


def _went(way: str, service: EcsSimulator, tasks: int, **figures: Any) -> _Went:
    ended = {
        "finished": True,
        "billed": 0,
        "invocations": 0,
        "operations": 0,
        "floor": 0,
        "most": max(moment.desired_count for moment in service.history),
        "seconds": service.now,
    }
    in_service = [moment.in_service for moment in service.history[tasks:]]
    return _Went(
        tasks=tasks,
        way=way,
        lowest=min(in_service),
        calls=service.calls.total(),
        replaced=len(set(service.old) - set(service.kept)),
        desired_count=service.desired_count,
        minimum=service.scaling["lowest"] if service.scaling else 0,
        history=tuple(moment for moment in service.history if moment.at > 0),
        **(ended | figures),
    )


def _floor(service: EcsSimulator, tasks: int) -> float:
    """Return the seconds in which nobody could have been faster, one task at a time."""
    goal = tasks + 1
    raised = next(moment.at for moment in service.history if moment.desired_count == goal)
    delay = max(group.deregistration_delay for group in service.target_groups)
    floor = -raised
    moments = iter(service.history)
    floor += next(moment.at for moment in moments if moment.in_service == goal)
    for stop in service.stops:
        up = next(
            moment.at for moment in moments if moment.at > stop.at and moment.in_service == goal
        )
        floor += max(up - stop.at, delay)
    return floor + (tasks - 1) * _WAIT_TIME


def _resumptions() -> list[float]:
    """Return what invocations took, in seconds, of a recycle that the SDK's runner replays."""
    service = _service(_REHEARSED, seed=0)
    service.fault, service.latency = None, 0
    outside = Outside(
        service=service,
        leases=CountedLeases(service=service),
        go_on=lambda name, _given: name,
        tell=lambda _report, _execution: None,
        clock=service.clock,
    )
    request = RecycleRequest("shop", "web", wait_time=_WAIT_TIME)

    def flow(_event: Any, context: DurableContext) -> Report | Continued:
        return recycle(request, context, outside)

    handler, took = durable_execution(flow), []

    def timed(event: Any, context: Any) -> Any:
        # The runner's waits take no time.
        service.pass_time(5)
        began = time.perf_counter()
        try:
            return handler(event, context)
        finally:
            took.append(time.perf_counter() - began)

    result = run_handler(timed, {})
    if result.status.value != "SUCCEEDED":
        raise AssertionError(result.error)
    return took


@dataclass(frozen=True, slots=True)
class _Row:
    """One way with services of one size; an item for each seed, in their order."""

    HEAD: ClassVar = (
        *("tasks", "way", "fewest, of asked", "most", "took", "of the floor", "billed"),
        *("of the article's", "API calls", "replaced"),
    )

    way: str
    went: Sequence[_Went]
    ours: Sequence[_Went]
    article: Sequence[_Went]

    @property
    def tasks(self) -> int:
        return self.went[0].tasks

    def fewest(self) -> list[float]:
        return [100 * one.lowest / self.tasks for one in self.went]

    def of_the_floor(self) -> Spread | None:
        """Return the time in percent of the floor, where it finished; None: nowhere."""
        pairs = zip(self.went, self.ours, strict=True)
        ratios = [100 * one.seconds / ours.floor for one, ours in pairs if one.finished]
        return Spread.of(ratios) if ratios else None

    def billed(self, resumption: float) -> list[float]:
        if self.way == _OURS:
            return [one.billed + one.invocations * resumption for one in self.went]
        return [one.billed for one in self.went]

    def of_the_articles(self, resumption: float) -> Spread | None:
        """Return what is billed, in percent of the article's where that finishes; None: nowhere."""
        pairs = zip(self.billed(resumption), self.article, strict=True)
        ratios = [100 * billed / article.billed for billed, article in pairs if article.finished]
        return Spread.of(ratios) if ratios else None

    def _runs(self, finished: int) -> str:
        return f"all in {finished} of {len(self.went)} runs"

    def cells(self, resumption: float) -> list[str]:
        fewest, floor = self.fewest(), self.of_the_floor()
        ratio = self.of_the_articles(resumption)
        replaced = Spread.of([one.replaced for one in self.went])
        took = [one.seconds for one in self.went if one.finished]
        return [
            f"{self.tasks:,}",
            self.way,
            f"{statistics.median(fewest):.4g} % ({min(fewest):.4g})",
            f"{max(one.most for one in self.went):,}",
            _duration(Spread.of(took)) if took else "never finishes",
            f"{floor} %" if floor else "-",
            f"{Spread.of(self.billed(resumption))} s",
            f"{ratio} %" if ratio else "-",
            str(Spread.of([one.calls for one in self.went])),
            "all" if len(took) == len(self.went) else f"{replaced}, {self._runs(len(took))}",
        ]


def _duration(seconds: Spread) -> str:
    hours, minutes = 7200, 120
    if seconds.median >= hours:
        return f"{seconds.scaled(1 / 3600)} h"
    return f"{seconds.scaled(1 / 60)} min" if seconds.median >= minutes else f"{seconds} s"


def _goals(rows: Sequence[_Row], resumption: float) -> list[Goal]:
    ours = [row for row in rows if row.way == _OURS]
    missing = max(row.tasks - one.lowest for row in ours for one in row.went)
    slowest = max(
        (over for row in ours if (over := row.of_the_floor())), key=lambda one: one.median
    )
    dearest = max(
        (ratio for row in ours if (ratio := row.of_the_articles(resumption))),
        key=lambda one: one.median,
    )
    return [
        Goal("tasks in service below what was asked, at any moment, at most 0", _one(missing), 0),
        Goal(
            f"time in percent of the floor, slowest size, at most {_TIME_GOAL}", slowest, _TIME_GOAL
        ),
        Goal(
            f"billed, in percent of the article's where it finishes, at most {_BILLED_GOAL}",
            dearest,
            _BILLED_GOAL,
        ),
    ]


def _one(value: float) -> Spread:
    return Spread.of([value])


def _notes(ours: Sequence[_Row], resumption: Spread) -> str:
    operations = [one.operations / one.tasks for row in ours for one in row.went]
    return _NOTES.format(
        start=f"{_START[0]} to {_START[1]}",
        healthy=_HEALTHY_AFTER,
        drains=f"{_DRAINS[0]} to {_DRAINS[1]}",
        reaction=_REACTION,
        lag=_LAG,
        latency=round(_LATENCY * 1000),
        throttled=_THROTTLED,
        seeds=", ".join(f"{seeds} for {size:,} tasks" for size, seeds in _SEEDS.items()),
        wait=_WAIT_TIME,
        resumption=resumption,
        resumed=_RESUMPTION,
        operations=Spread.of(operations),
        pause=WAITER_PAUSE,
        ends=LAMBDA_ENDS // 60,
    )


def _endings(rows: Sequence[_Row]) -> list[str]:
    """Tell what the article's way leaves behind where it ends early."""
    told = []
    for row in rows:
        left = [one for one in row.went if not one.finished]
        if left:
            replaced = Spread.of([one.replaced for one in left])
            counts = {f"{one.desired_count:,}" for one in left}
            minimums = {f"{one.minimum:,}" for one in left}
            told.append(
                f"- {row.tasks:,} tasks: {len(left)} of {len(row.went)} runs end early, with "
                f"{replaced} stopped. Left behind: a desired count of "
                f"{' or '.join(sorted(counts))}, and {' or '.join(sorted(minimums))} as Auto "
                "Scaling's minimum; nobody is told."
            )
    return ["### Where the article's way ends", "\n".join(told)] if told else []


def _picture(drawn: Mapping[str, _Went]) -> str:
    tasks, _seed = _DRAWN
    ours, article, rolling = (drawn[way] for way in (_OURS, _ARTICLE, _ROLLING))
    titles = {
        _OURS: f"recycle_service: {_minutes(ours)}, never below the {tasks} asked for",
        _ARTICLE: f"the article's: ended by Lambda, {article.desired_count} tasks left asked for",
        _ROLLING: f"rolling deployment: {_minutes(rolling)}, up to {rolling.most} tasks at once",
    }
    if article.finished or ours.lowest < tasks:
        raise AssertionError("the titles of the picture are not true any more")
    charts = [
        Panel(
            title=titles[way],
            steps=[(0, tasks), *((one.at, one.in_service) for one in drawn[way].history)],
            ends=drawn[way].seconds,
            failed=not drawn[way].finished,
            levels=(tasks - 2, max(tasks + 2, *(one.in_service for one in drawn[way].history))),
        )
        for way in _WAYS
    ]
    about = f"Tasks in service over time, of a service asked for {tasks}"
    return panels(charts, asked=tasks, seconds=ours.seconds + 30, about=about)


def _minutes(went: _Went) -> str:
    return f"{went.seconds / 60:.0f} min"
