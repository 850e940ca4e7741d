"""What a recycle promises, for any service and whatever happens to it meanwhile.

Everything is judged by what the simulator knows to be true, never by what a look said.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ecs_ops.errors import AwsFailure, Transient
from ecs_ops.recycle import RecycleRequest, task_id
from tests.ecs_simulator import EcsSimulator, Fate, Fault, TargetGroup
from tests.inline_context import Killed
from tests.recycle_run import RecycleRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ecs_ops.recycle import Report

FLOW = settings(
    max_examples=60,
    # The same examples everywhere: a build must not fail for luck. To search further, take this
    # out and raise the number.
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ALARM = "shop-errors"
LARGEST_BATCH = 4
_AFTERWARDS = 600
"""Seconds in which ECS and Auto Scaling come to rest."""


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    # Thousands of runs log what they are supposed to; formatting it is half of their time.
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@dataclass(frozen=True)
class Trouble:
    """Something that happens to a service at a moment."""

    at: float
    what: str
    number: int = 0
    seconds: int = 0

    def befall(self, service: EcsSimulator) -> None:
        getattr(self, f"_{self.what}")(service)

    def _lose(self, service: EcsSimulator) -> None:
        service.lose(self.number)

    def _sicken(self, service: EcsSimulator) -> None:
        service.sicken(self.number, self.seconds)

    def _protect(self, service: EcsSimulator) -> None:
        service.protection.update(service.kept[self.number :: 3][:2])

    def _break(self, service: EcsSimulator) -> None:
        service.fate = (Fate(starts=False), Fate(becomes_healthy=False), Fate(dies_after=5))[
            self.number % 3
        ]
        service.after(self.seconds, partial(setattr, service, "fate", Fate()))

    # Somebody who asks for exactly as many as the recycler is about to make leaves no trace. So
    # all of these go further than a batch.

    def _raise(self, service: EcsSimulator) -> None:
        service.ask(service.desired_count + LARGEST_BATCH + 1 + self.number % 4)

    def _lower(self, service: EcsSimulator) -> None:
        service.ask(max(service.desired_count - LARGEST_BATCH - 1 - self.number % 4, 0))

    def _scale(self, service: EcsSimulator) -> None:
        service.scale((self.number % 3 - 1) * (LARGEST_BATCH + 1))

    def _lowest(self, service: EcsSimulator) -> None:
        service.ask_bounds(lowest=self.number)

    def _highest(self, service: EcsSimulator) -> None:
        service.ask_bounds(highest=self.number)

    def _deploy(self, service: EcsSimulator) -> None:
        service.deploy()

    def _alarm(self, service: EcsSimulator) -> None:
        service.alarms[ALARM] = True
        service.after(self.seconds, partial(service.alarms.update, {ALARM: False}))


LOSSES = ("lose", "lose", "sicken", "protect", "break")
RAISES = ("raise", "scale", "lowest", "highest")
ALL = (*LOSSES, *RAISES, "lower", "deploy", "alarm")


MAINTAIN = st.just(value=True)


def troubles(kinds: tuple[str, ...], most: int = 5) -> st.SearchStrategy[list[Trouble]]:
    one = st.builds(
        Trouble,
        at=st.integers(1, 1500),
        what=st.sampled_from(kinds),
        number=st.integers(0, 40),
        seconds=st.integers(1, 400),
    )
    return st.lists(one, max_size=most)


@st.composite
def services(draw: st.DrawFn, largest: int = 30) -> EcsSimulator:
    size = draw(st.integers(1, 6) | st.integers(1, largest))
    fastest = draw(st.integers(1, 60))
    group = st.builds(TargetGroup, st.integers(0, 40), st.sampled_from([0, 15, 120]))
    bounded = st.builds(
        lambda less, more: {"lowest": max(size - less, 0), "highest": size + more},
        st.integers(0, 3),
        st.integers(0, 3),
    )
    service = EcsSimulator(
        desired_count=size,
        scaling=draw(st.none() | bounded),  # type: ignore[arg-type]
        start=(fastest, fastest + draw(st.integers(0, 30))),
        health=draw(st.none() | st.integers(0, 30)),
        target_groups=tuple(draw(st.lists(group, max_size=2))),
        lag=draw(st.sampled_from([0, 0, 3, 20])),
        skew=draw(st.sampled_from([0, 4])),
        spares_working=draw(st.booleans()),
        zones=("a", "b", "c")[: draw(st.integers(1, 3))],
        seed=draw(st.integers(0, 3)),
    )
    service.alarms[ALARM] = False
    return service


def requests(maintain: st.SearchStrategy[bool] = MAINTAIN) -> st.SearchStrategy[RecycleRequest]:
    return st.builds(
        RecycleRequest,
        st.just("shop"),
        st.just("web"),
        maintain_service_state=maintain,
        wait_time=st.sampled_from([0, 30, 300]),
        batch_size=st.integers(1, LARGEST_BATCH),
        replacement_timeout=st.sampled_from([60, 600]),
        alarm_names=st.sampled_from([(), (ALARM,)]),
    )


def befallen(service: EcsSimulator, schedule: list[Trouble]) -> EcsSimulator:
    for trouble in schedule:
        service.at(trouble.at, partial(trouble.befall, service))
    return service


def assert_never_weakened(run: RecycleRun) -> None:
    for stop in run.service.stops:
        if stop.was_live and run.request.maintain_service_state:
            assert stop.in_service >= stop.asked, stop
    planned = {task_id(arn) for arn in run.surveyed}
    stopped = [stop.task for stop in run.service.stops if stop.was_live]
    assert set(stopped) <= planned
    assert len(stopped) == len(set(stopped))


def assert_each_accounted_for(run: RecycleRun, report: Report) -> None:
    named = [
        *report["recycled"],
        *(task["task_arn"] for task in report["skipped"]),
        *(task["task_arn"] for task in report["failed"]),
    ]
    assert sorted(named) == sorted(run.surveyed)
    assert not report["planned"]
    assert all(task["why"] for task in report["skipped"] + report["failed"])
    ended = {stop.task for stop in run.service.stops if stop.was_live}
    assert {task_id(arn) for arn in report["recycled"]} <= ended
    assert not {task_id(task["task_arn"]) for task in report["skipped"]} & ended
    # What was recycled is gone, whoever may have said so.
    assert not set(report["recycled"]) & set(run.service.kept)


def assert_put_back(run: RecycleRun) -> None:
    run.service.pass_time(_AFTERWARDS)
    wishes = {run.service.asked}
    if run.service.scaling:
        # A wish that Auto Scaling cut to just what the recycler had made of it leaves no trace.
        wishes.add(len(run.service.old))
    assert run.service.desired_count in wishes
    assert run.service.scaling == run.service.asked_bounds
    assert run.leases.items == {}


def assert_ended_in_time(run: RecycleRun) -> None:
    request, service = run.request, run.service
    batches = math.ceil(len(run.surveyed) / request.batch_size) + 1
    slowest = max((group.deregistration_delay for group in service.target_groups), default=0)
    each = request.wait_time + 6 * (request.replacement_timeout + slowest + 60)
    assert service.now <= batches * each + 3 * 3600


def assert_kept_its_promises(run: RecycleRun, report: Report | None) -> None:
    assert_never_weakened(run)
    assert_ended_in_time(run)
    if report is None:
        event("ended without a report")
    else:
        event(f"{report['outcome']}: {(report['problem'] or '').partition(':')[0]}")
        assert_each_accounted_for(run, report)
    assert all(context.operations < 3_000 for context in run.contexts)
    assert_put_back(run)


@FLOW
@given(service=services(), request=requests(st.booleans()), schedule=troubles(LOSSES))
def test_service_stays_strong_when_tasks_come_and_go(
    service: EcsSimulator, request: RecycleRequest, schedule: list[Trouble]
) -> None:
    run = RecycleRun(befallen(service, schedule), request)

    assert_kept_its_promises(run, run.go())


@FLOW
@given(service=services(), request=requests(st.booleans()), schedule=troubles(RAISES))
def test_raise_is_kept_when_somebody_asks_for_more(
    service: EcsSimulator, request: RecycleRequest, schedule: list[Trouble]
) -> None:
    run = RecycleRun(befallen(service, schedule), request)

    assert_kept_its_promises(run, run.go())


@FLOW
@given(
    service=services(12),
    request=requests(),
    schedule=troubles(("protect", "deploy"), 2),
    rings=st.integers(1, 100),
)
def test_strength_is_kept_to_the_end_whichever_tasks_ecs_takes_away(
    service: EcsSimulator, request: RecycleRequest, schedule: list[Trouble], rings: int
) -> None:
    schedule = [*schedule, Trouble(rings, "alarm", seconds=400)]
    request = replace(request, alarm_names=(ALARM,), replacement_timeout=600)
    run = RecycleRun(befallen(service, schedule), request)

    report = run.go()

    assert_kept_its_promises(run, report)
    if report and "no replacement" not in str(report["problem"]):
        assert service.lowest() >= len(service.old)


@FLOW
@given(service=services(), request=requests(st.booleans()), schedule=troubles(ALL))
def test_promises_hold_when_anything_happens(
    service: EcsSimulator, request: RecycleRequest, schedule: list[Trouble]
) -> None:
    run = RecycleRun(befallen(service, schedule), request)

    assert_kept_its_promises(run, run.go())


@FLOW
@given(
    service=services(12),
    request=requests(),
    schedule=troubles(LOSSES, 2),
    throttled=st.dictionaries(st.integers(1, 200), st.booleans(), max_size=8),
    refused=st.none() | st.integers(1, 200),
)
def test_promises_hold_when_aws_does_not_answer(
    service: EcsSimulator,
    request: RecycleRequest,
    schedule: list[Trouble],
    throttled: dict[int, bool],
    refused: int | None,
) -> None:
    def fault(name: str, nth: int) -> Fault | None:
        if nth == refused:
            return Fault(AwsFailure(name, "AccessDeniedException", "no"))
        return Fault(Transient(name), throttled[nth]) if nth in throttled else None

    service.fault = fault
    run = RecycleRun(befallen(service, schedule), request)

    assert_kept_its_promises(run, run.go())


@FLOW
@given(
    service=services(8),
    request=requests(),
    schedule=troubles(ALL, 3),
    calls=st.sets(st.integers(1, 150), min_size=1, max_size=4),
    after=st.booleans(),
    gap=st.sampled_from([0, 10, 300, 1000]),
)
def test_promises_hold_when_the_process_dies_at_any_call(
    *,
    service: EcsSimulator,
    request: RecycleRequest,
    schedule: list[Trouble],
    calls: set[int],
    after: bool,
    gap: int,
) -> None:
    service.fault = lambda _name, nth: Fault(Killed(), after) if nth in calls else None
    run = RecycleRun(befallen(service, schedule), request, gap=gap)

    assert_kept_its_promises(run, run.go())


@FLOW
@given(
    service=services(8),
    request=requests(),
    schedule=troubles(ALL, 3),
    call=st.integers(1, 150),
    after=st.booleans(),
    gap=st.sampled_from([0, 10, 300]),
)
def test_service_is_put_back_when_the_execution_is_stopped_at_any_call(
    *,
    service: EcsSimulator,
    request: RecycleRequest,
    schedule: list[Trouble],
    call: int,
    after: bool,
    gap: int,
) -> None:
    service.fault = lambda _name, nth: Fault(Killed(), after) if nth == call else None
    run = RecycleRun(befallen(service, schedule), request, gap=gap, for_good=True)

    assert_kept_its_promises(run, run.go())
