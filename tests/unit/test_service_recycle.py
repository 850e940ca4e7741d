"""What a recycle does to a service, told to a simulated one."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ecs_ops.aws.service_recycle import CONTINUATION, _term, continuation_of
from ecs_ops.aws.service_recycle import recycle as recycle_service
from ecs_ops.errors import AwsFailure, InvalidRequest, Transient
from ecs_ops.recycle import RecycleRequest, Report, task_id
from tests.ecs_simulator import EcsSimulator, Fate, Fault, TargetGroup
from tests.inline_context import Death, InlineContext, Killed
from tests.recycle_run import RecycleRun

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.recycle import Bounds

WITHOUT_ANSWER = "AccessDeniedException"


def start(service: EcsSimulator, **wishes: Any) -> RecycleRun:
    return RecycleRun(service, RecycleRequest("shop", "web", **{"wait_time": 0, **wishes}))


def recycle(service: EcsSimulator, **wishes: Any) -> Report:
    report = start(service, **wishes).go()
    assert report
    return report


def live_stops(service: EcsSimulator) -> list[str]:
    return [stop.task for stop in service.stops if stop.was_live]


def assert_as_before(service: EcsSimulator, desired_count: int = 3) -> None:
    service.pass_time(300)
    assert (service.desired_count, service.in_service) == (desired_count, desired_count)


def test_all_tasks_are_replaced_when_nothing_goes_wrong() -> None:
    service = EcsSimulator(desired_count=3)

    report = recycle(service)

    assert (report["outcome"], report["problem"]) == ("succeeded", None)
    assert report["recycled"] == service.old
    assert not report["skipped"] + report["failed"]
    assert not report["planned"]
    assert report["capacity"] == {"before": 3, "during": 3, "after": 3}
    assert report["desired_count"] == {"before": 3, "after": 3}
    assert not set(service.old) & set(service.kept)
    assert service.lowest() == 3
    assert_as_before(service)


def test_oldest_task_of_each_zone_is_first_when_there_are_zones() -> None:
    service = EcsSimulator(desired_count=5, zones=("a", "b"))

    recycle(service)

    assert [int(task, 16) for task in live_stops(service)] == [1, 2, 3, 4, 5]


def test_capacity_falls_by_one_when_the_state_is_not_maintained() -> None:
    service = EcsSimulator(desired_count=2)

    report = recycle(service, maintain_service_state=False)

    assert report["outcome"] == "succeeded"
    assert service.lowest() == 1
    assert service.calls["UpdateService"] == 0


def test_batch_is_stopped_at_once_when_one_is_asked_for() -> None:
    service = EcsSimulator(desired_count=5)

    report = recycle(service, batch_size=2)

    assert len(report["recycled"]) == 5
    assert len({stop.at for stop in service.stops}) == 3
    assert max(moment.desired_count for moment in service.history) == 7
    assert service.lowest() == 5


def test_nothing_is_changed_when_the_plan_alone_is_wanted() -> None:
    service = EcsSimulator(desired_count=3)

    report = recycle(service, dry_run=True)

    assert (report["outcome"], report["planned"]) == ("planned", service.old)
    assert {"UpdateService", "StopTask", "lease.take"}.isdisjoint(service.calls)


def test_task_is_left_alone_when_it_is_protected_or_young() -> None:
    service = EcsSimulator(desired_count=3, old_age=130)
    oldest, middle, youngest = service.old
    service.protection.add(oldest)

    report = recycle(service, min_age=60)

    assert report["recycled"] == [middle]
    assert report["skipped"] == [
        {"task_arn": oldest, "why": "it is under task protection"},
        {"task_arn": youngest, "why": "it is younger than 60 s"},
    ]


# The gate.


def test_replacement_is_waited_for_when_stopped_tasks_still_look_alive() -> None:
    service = EcsSimulator(desired_count=3, lag=30, start=(8, 8))

    assert recycle(service)["outcome"] == "succeeded"
    assert service.lowest() == 3


def test_health_and_every_target_group_are_waited_for_when_there_are_some() -> None:
    groups = (TargetGroup(20, 0), TargetGroup(50, 0))
    service = EcsSimulator(desired_count=1, health=30, target_groups=groups)

    assert recycle(service)["outcome"] == "succeeded"
    assert service.lowest() == 1
    assert service.now > 2 * (3 + 50)


def test_connections_of_the_old_task_are_given_their_time_when_it_has_targets() -> None:
    service = EcsSimulator(desired_count=2, target_groups=(TargetGroup(1, 100),))

    recycle(service)

    first, second = (stop.at for stop in service.stops)
    assert second - first >= 100


def test_few_looks_are_taken_when_replacements_take_as_long_as_the_additional_task() -> None:
    service = EcsSimulator(desired_count=4, start=(40, 40), target_groups=(TargetGroup(5, 15),))

    recycle(service, wait_time=30)

    looks = service.calls["ListTasks"]
    # The survey, each stop, and two at the end. The first wait has to find out how long it takes,
    # and after the last one no stop looks once more.
    assert looks - (1 + 4 + 2) <= 11 + 4 * 3 + 1
    assert service.lowest() == 4


@pytest.mark.parametrize(("maintain", "most_operations"), [(False, 2_000), (True, 60)])
def test_looks_stay_few_when_the_service_is_at_strength_to_begin_with(
    maintain: bool,  # noqa: FBT001
    most_operations: int,
) -> None:
    service = EcsSimulator(desired_count=20, start=(60, 62))
    run = start(service, maintain_service_state=maintain)
    run.most_operations = most_operations

    assert run.go()

    # Each execution has to find out how long it takes.
    assert service.calls["ListTasks"] <= 20 * 5 + 20 * len(run.contexts)


def test_next_stop_looks_again_when_a_replacement_dies_during_the_pause() -> None:
    service = EcsSimulator(desired_count=2)

    def replacement_dies(name: str, _nth: int) -> None:
        if name == "StopTask" and len(service.stops) == 0:
            service.fate = Fate(dies_after=20)
            service.after(15, lambda: setattr(service, "fate", Fate()))

    service.fault = replacement_dies

    assert recycle(service, wait_time=30)["outcome"] == "succeeded"
    assert all(stop.in_service >= 2 for stop in service.stops)


def test_wait_time_passes_between_tasks_when_it_is_asked_for() -> None:
    def seconds(wait_time: int) -> float:
        service = EcsSimulator(desired_count=3)
        recycle(service, wait_time=wait_time)
        return service.now

    assert seconds(100) - seconds(50) == 100


# Auto Scaling.


@pytest.mark.parametrize(
    ("before", "meanwhile"), [((1, 3), (4, 4)), ((1, 9), (4, 9)), ((3, 3), (4, 4))]
)
def test_bounds_are_moved_as_little_as_needed_and_back_when_there_are_some(
    before: tuple[int, int], meanwhile: tuple[int, int]
) -> None:
    service = EcsSimulator(desired_count=3, scaling={"lowest": before[0], "highest": before[1]})
    seen: list[object] = []
    service.at(20, lambda: seen.append(service.scaling))

    assert recycle(service, wait_time=30)["outcome"] == "succeeded"

    assert seen == [{"lowest": meanwhile[0], "highest": meanwhile[1]}]
    assert service.scaling == {"lowest": before[0], "highest": before[1]}
    assert_as_before(service)


def test_scale_out_is_kept_when_auto_scaling_asks_for_more_meanwhile() -> None:
    service = EcsSimulator(desired_count=3, scaling={"lowest": 1, "highest": 9})
    service.at(20, lambda: service.scale(by=3))

    report = recycle(service, wait_time=60)

    assert report["outcome"] == "succeeded"
    assert len(report["recycled"]) == 3
    assert all(stop.in_service >= stop.asked for stop in service.stops)
    assert service.scaling == {"lowest": 1, "highest": 9}
    assert_as_before(service, 7)


def test_surge_stays_when_auto_scaling_wants_fewer_tasks() -> None:
    service = EcsSimulator(desired_count=3, scaling={"lowest": 1, "highest": 9})
    for second in range(10, 80, 10):
        service.at(second, lambda: service.scale(by=-2))

    assert recycle(service, wait_time=30)["outcome"] == "succeeded"
    assert service.lowest() == 3


# Trouble, sentence by sentence.


@pytest.mark.parametrize(
    "fate", [Fate(starts=False), Fate(becomes_healthy=False), Fate(dies_after=2)]
)
def test_recycle_ends_and_restores_when_no_replacement_comes(fate: Fate) -> None:
    service = EcsSimulator(desired_count=3, health=5)
    first, second, third = service.old

    def no_more(name: str, _nth: int) -> None:
        if name == "StopTask":
            service.fate = fate

    service.fault = no_more

    report = recycle(service, wait_time=60)

    assert report["outcome"] == "failed"
    assert report["problem"] == "no replacement within 600 seconds: 3 of 4 tasks are in service"
    assert [task["task_arn"] for task in report["failed"]] == [first]
    assert [task["task_arn"] for task in report["skipped"]] == [second, third]
    assert live_stops(service) == [task_id(first)]
    assert service.desired_count == 3


def test_nothing_is_stopped_when_the_additional_task_never_runs() -> None:
    service = EcsSimulator(desired_count=2)
    service.fate = Fate(starts=False)

    report = recycle(service, replacement_timeout=120)

    assert report["outcome"] == "failed"
    assert [task["task_arn"] for task in report["skipped"]] == service.old
    assert service.stops == []
    assert_as_before(service, 2)


def test_nobody_makes_up_a_count_when_every_look_is_refused() -> None:
    service = EcsSimulator(desired_count=3)

    def no_more_looks(name: str, _nth: int) -> Fault | None:
        refused = name == "ListTasks" and service.calls["UpdateService"]
        return Fault(AwsFailure(name, WITHOUT_ANSWER, "no")) if refused else None

    service.fault = no_more_looks

    report = recycle(service)

    assert report["problem"] == (
        "no replacement within 600 seconds: unknown of 4 tasks are in service"
    )
    assert report["capacity"] == {"before": 3, "during": 3, "after": None}


@pytest.mark.parametrize("name", ["strength", "replacement-2"])
def test_service_is_looked_at_once_when_the_wait_for_it_begins_after_its_end(name: str) -> None:
    effects = start(EcsSimulator(desired_count=3))
    effects.go()
    service = EcsSimulator(desired_count=3)
    run = start(service)
    nth = effects.contexts[0].effects.index(name) + 1
    run.deaths, run.gap = [Death(nth, after=False)], 1000

    report = run.go()

    assert report
    assert (report["outcome"], report["problem"]) == ("succeeded", None)


def test_recycle_ends_and_restores_when_a_deployment_begins_in_the_middle() -> None:
    service = EcsSimulator(desired_count=3)
    service.at(40, service.deploy)

    report = recycle(service, wait_time=60)

    assert report["problem"] == "a deployment has begun"
    assert len(report["recycled"]) == 1
    assert len(report["skipped"]) == 2
    assert service.lowest() == 3
    assert_as_before(service)


def test_recycle_ends_and_restores_when_an_alarm_rings() -> None:
    service = EcsSimulator(desired_count=3)
    service.alarms["errors"] = False
    service.at(40, lambda: service.alarms.update(errors=True))

    report = recycle(service, wait_time=60, alarm_names=("errors",))

    assert report["problem"] == "in ALARM: errors"
    assert len(report["recycled"]) == 1
    assert_as_before(service)


@pytest.mark.parametrize("when", [2, 40])
def test_recycle_ends_and_restores_when_an_alarm_is_deleted(when: int) -> None:
    service = EcsSimulator(desired_count=3)
    service.alarms["errors"] = False
    service.at(when, service.alarms.clear)

    report = recycle(service, wait_time=60, alarm_names=("errors",))

    assert report["problem"] == "alarm errors does not exist"
    assert not report["failed"]
    assert_as_before(service)


def test_next_stop_waits_for_strength_when_a_task_fails_during_the_pause() -> None:
    service = EcsSimulator(desired_count=2, start=(90, 90))
    service.at(400, lambda: service.lose(-1))

    report = recycle(service, wait_time=300)

    assert report["outcome"] == "succeeded"
    assert [stop.in_service for stop in service.stops] == [2, 2]


def test_recycle_ends_when_the_service_does_not_become_strong_again() -> None:
    service = EcsSimulator(desired_count=2)

    def lose_the_newest() -> None:
        service.fate = Fate(starts=False)
        service.lose(-1)

    service.at(200, lose_the_newest)

    report = recycle(service, wait_time=300)

    assert report["problem"] == "no replacement within 600 seconds: 2 of 3 tasks are in service"
    assert len(service.stops) == 1
    assert service.desired_count == 2


def test_task_is_skipped_and_no_failure_when_it_ended_by_itself() -> None:
    service = EcsSimulator(desired_count=3)
    first, second, third = service.old
    service.at(2, lambda: service.lose(1))

    report = recycle(service)

    assert report["outcome"] == "succeeded"
    assert report["recycled"] == [first, third]
    assert report["skipped"] == [{"task_arn": second, "why": "it was gone already"}]


def test_recycle_goes_on_when_aws_throttles() -> None:
    service = EcsSimulator(desired_count=2, target_groups=(TargetGroup(5, 10),))
    chance = random.Random(5)
    service.fault = lambda name, _nth: (
        Fault(Transient(name), after=chance.random() < 0.5) if chance.random() < 0.1 else None
    )

    assert recycle(service)["outcome"] == "succeeded"
    assert len(live_stops(service)) == 2
    assert_as_before(service, 2)


def test_wait_goes_on_when_aws_refuses_a_look() -> None:
    service = EcsSimulator(desired_count=2)
    refused = iter([True, True])

    def fault(name: str, _nth: int) -> Fault | None:
        if name == "DescribeTasks" and service.now > 0 and next(refused, False):
            return Fault(AwsFailure(name, WITHOUT_ANSWER, "no"))
        return None

    service.fault = fault

    assert recycle(service)["outcome"] == "succeeded"


def test_tasks_are_reported_as_failed_when_a_batch_is_cut_off_in_the_middle() -> None:
    service = EcsSimulator(desired_count=4)
    service.fault = lambda name, _nth: (
        Fault(AwsFailure(name, WITHOUT_ANSWER, "no"))
        if name == "StopTask" and service.calls[name] == 2
        else None
    )

    report = recycle(service, batch_size=2)

    assert report["problem"] == "StopTask failed: AccessDeniedException: no"
    # The first of them was stopped, the second was not; neither is said never to have had a turn.
    assert [task["task_arn"] for task in report["failed"]] == service.old[:2]
    assert len(live_stops(service)) == 1
    assert_as_before(service, 4)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"status": "DRAINING"}, "the service is DRAINING, not ACTIVE any more"),
        ({"desired_count": 3}, "the desired count was lowered from 4 to 3"),
    ],
)
def test_recycle_ends_when_the_service_changes_meanwhile(
    change: dict[str, Any], problem: str
) -> None:
    service = EcsSimulator(desired_count=3)
    for name, value in change.items():
        service.at(40, lambda name=name, value=value: setattr(service, name, value))  # type: ignore[misc]

    report = recycle(service, wait_time=60)

    assert report["problem"] == problem
    assert len(report["recycled"]) == 1


def test_desired_count_is_left_alone_when_somebody_raises_it_meanwhile() -> None:
    service = EcsSimulator(desired_count=2)
    service.at(10, lambda: service.ask(6))

    report = recycle(service, wait_time=30)

    assert report["outcome"] == "succeeded"
    assert report["desired_count"]["after"] == 6
    assert_as_before(service, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exists": False}, "service web of cluster shop does not exist"),
        ({"status": "DRAINING"}, "service_name: web is DRAINING, not ACTIVE"),
        ({"desired_count": 0}, "service_name: web has a desired count of 0"),
        ({"scheduling_strategy": "DAEMON"}, "service_name: web is a DAEMON service"),
        ({"deployment_controller": "CODE_DEPLOY"}, "deployed by CODE_DEPLOY"),
    ],
)
def test_nothing_is_done_when_the_service_cannot_be_recycled(
    changes: dict[str, Any], message: str
) -> None:
    service = EcsSimulator(**changes)
    run = start(service)

    assert run.go() is None
    assert isinstance(run.problem, InvalidRequest)
    assert re.search(message, str(run.problem))
    assert {"UpdateService", "StopTask", "lease.take"}.isdisjoint(service.calls)


def test_nothing_is_done_when_a_survey_would_not_fit_into_what_a_step_stores() -> None:
    # Tasks by the thousand are told from each other by as much as this one name.
    zone = f"{random.Random(1).getrandbits(2_000_000):x}"
    service = EcsSimulator(desired_count=1, zones=(zone,))
    run = start(service)

    assert run.go() is None
    assert str(run.problem) == ("service_name: web has more tasks than can be recycled, some 6,000")
    assert {"UpdateService", "StopTask", "lease.take"}.isdisjoint(service.calls)


def test_second_recycle_is_refused_when_the_service_is_being_recycled() -> None:
    service = EcsSimulator(desired_count=3)
    run, second = start(service, wait_time=60), start(service)
    second.leases.items = run.leases.items
    second.name = "second"
    service.at(50, second.go)

    report = run.go()

    assert report
    assert report["outcome"] == "succeeded"
    assert "is being recycled already" in str(second.problem)
    assert_as_before(service)


# Crashes, stops and size.


def effects_of(**wishes: Any) -> int:
    run = start(EcsSimulator(desired_count=3, lag=5), **wishes)
    run.go()
    return len(run.contexts[0].effects)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("gap", [1, 60])
def test_recycle_ends_well_when_the_process_dies_at_any_operation(gap: int, after: bool) -> None:  # noqa: FBT001
    for nth in range(1, effects_of(wait_time=20, batch_size=2) + 1):
        service = EcsSimulator(desired_count=3, lag=5, scaling={"lowest": 1, "highest": 3})
        run = start(service, wait_time=20, batch_size=2)
        run.deaths, run.gap = [Death(nth, after)], gap

        report = run.go()

        assert report
        assert report["outcome"] == "succeeded", nth
        assert report["recycled"] == service.old
        assert len(live_stops(service)) == 3
        assert service.lowest() == 3
        assert service.scaling == {"lowest": 1, "highest": 3}
        assert run.leases.items == {}
        assert_as_before(service)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_service_is_put_back_when_the_execution_is_stopped_at_any_operation(after: bool) -> None:  # noqa: FBT001
    for nth in range(1, effects_of(wait_time=20) + 1):
        service = EcsSimulator(desired_count=3, lag=5, scaling={"lowest": 1, "highest": 3})
        run = start(service, wait_time=20)
        run.deaths, run.for_good = [Death(nth, after)], True

        run.go()

        assert service.scaling == {"lowest": 1, "highest": 3}
        assert service.lowest() == 3
        assert run.leases.items == {}
        assert_as_before(service)


def test_service_is_restored_within_a_minute_when_the_execution_is_stopped() -> None:
    service = EcsSimulator(desired_count=3)
    run = start(service, wait_time=600)
    run.for_good = True
    service.at(100, lambda: setattr(service, "fault", dies_once))

    def dies_once(_name: str, _nth: int) -> Fault:
        service.fault = None
        stopped_at.append(service.now)
        return Fault(Killed())

    stopped_at: list[float] = []
    run.go()

    put_back = next(
        moment.at
        for moment in service.history
        if moment.at >= stopped_at[0] and moment.desired_count == 3
    )
    assert put_back - stopped_at[0] <= 60


def test_no_execution_exceeds_its_operations_when_a_service_has_a_thousand_tasks() -> None:
    service = EcsSimulator(desired_count=1000, start=(30, 60), lag=5)
    run = start(service, wait_time=300)

    report = run.go()

    assert report
    assert report["outcome"] == "succeeded"
    assert len(report["recycled"]) == 1000
    assert len(run.contexts) > 1
    assert all(context.operations < 3_000 for context in run.contexts)
    assert service.lowest() == 1000
    assert len(run.told) == 1
    assert run.leases.items == {}


def test_count_is_restored_when_auto_scaling_cuts_the_surge_in_the_middle_of_the_restore() -> None:
    service = EcsSimulator(desired_count=3, scaling={"lowest": 3, "highest": 5})
    run = start(service, batch_size=3)
    run.gap = 300

    def dies_after_the_bounds(name: str, _nth: int) -> Fault | None:
        wanted = service.scaling == {"lowest": 3, "highest": 5} and len(live_stops(service)) == 3
        if name == "DescribeServices" and wanted:
            service.fault = None
            return Fault(Killed())
        return None

    service.fault = dies_after_the_bounds

    assert run.go()
    assert service.fault is None
    assert_as_before(service)


def test_recycle_ends_and_keeps_the_raise_when_the_surge_has_no_room_above_it() -> None:
    service = EcsSimulator(desired_count=5, scaling={"lowest": 2, "highest": 5})
    service.at(10, lambda: service.ask_bounds(highest=19))
    service.at(20, lambda: service.ask(16))

    report = recycle(service, batch_size=4, wait_time=30)

    assert report["outcome"] == "failed"
    assert "maximum of Auto Scaling to 19, and 20 tasks are needed" in str(report["problem"])
    assert service.scaling == {"lowest": 2, "highest": 19}
    assert_as_before(service, 16)


@pytest.mark.parametrize("left", [1, 2])
@pytest.mark.parametrize("wishes", [{}, {"batch_size": 2}, {"maintain_service_state": False}])
@pytest.mark.parametrize("bounds", [None, {"lowest": 1, "highest": 10}])
def test_surge_of_a_dead_run_is_undone_when_the_next_one_recycles_the_service(
    left: int, wishes: dict[str, Any], bounds: Bounds | None
) -> None:
    service = EcsSimulator(desired_count=3, scaling=bounds)
    run = start(service, **wishes)
    made: Bounds | None = bounds and {"lowest": 3 + left, "highest": 10}
    run.leases.items[service.describe().arn] = {
        "run": "dead",
        "execution": "dead",
        "number": 1,
        "expires": 0,
        "changes": {
            "before": {"desired_count": 3, "bounds": bounds},
            "made": {"desired_count": 3 + left, "bounds": made},
            "made_earlier": [],
        },
        "changed_by": "dead",
    }
    if made:
        service.register_scalable_target(made)
    service.update_service(3 + left)
    service.pass_time(60)

    report = run.go()

    assert report
    assert report["outcome"] == "succeeded"
    assert service.scaling == bounds
    assert run.leases.items == {}
    assert_as_before(service)


def test_surge_is_no_larger_than_the_service_when_the_batch_is() -> None:
    service = EcsSimulator(desired_count=3)

    assert len(recycle(service, batch_size=100)["recycled"]) == 3

    assert max(moment.desired_count for moment in service.history) == 6
    assert service.lowest() == 3


@pytest.mark.parametrize(("timeout", "delay"), [(60, 3600), (30, 600)])
def test_recycle_goes_on_when_connections_take_longer_than_replacements_may(
    timeout: int, delay: int
) -> None:
    group = TargetGroup(deregistration_delay=delay)
    service = EcsSimulator(desired_count=2, target_groups=(group,))

    report = recycle(service, replacement_timeout=timeout)

    assert (report["outcome"], report["problem"]) == ("succeeded", None)


@pytest.mark.parametrize("timeout", [30, 300, 86_400])
def test_lease_outlives_the_longest_way_from_a_stop_to_the_end(timeout: int) -> None:
    request = RecycleRequest("shop", "web", wait_time=86_400, replacement_timeout=timeout)
    longest_drain = patience = 3_600

    # The wait for replacements, the pause, and the wait for strength before it is put back.
    ends = timeout + longest_drain + request.wait_time + timeout + patience
    assert _term(request) > ends


@pytest.mark.parametrize("refused", ["DescribeServices", "lease.seize", "UpdateService"])
def test_service_is_put_back_when_aws_refuses_the_rescue_at_first(refused: str) -> None:
    service = EcsSimulator(desired_count=3)
    stopped: list[str] = []
    refusals: list[str] = []

    def fault(name: str, _nth: int) -> Fault | None:
        if not stopped and name == "StopTask":
            stopped.append(name)
            return Fault(Killed(), after=True)
        if stopped and not refusals and name == refused:
            refusals.append(name)
            return Fault(AwsFailure(name, WITHOUT_ANSWER, "not yet"))
        return None

    service.fault = fault
    run = start(service)
    run.for_good = True

    assert run.go() is None

    assert refusals
    assert [rescue["put_back"] for rescue in run.rescued] == [True]
    assert run.leases.items == {}
    assert_as_before(service)


def test_service_is_put_back_when_its_credentials_are_refused_for_a_while() -> None:
    service = EcsSimulator(desired_count=3)

    def fault(name: str, _nth: int) -> Fault | None:
        # The secret with the keys is written anew, and holds none for a minute.
        if name == "DescribeServices" and len(live_stops(service)) == 3 and len(refused) < 4:
            refused.append(name)
            return Fault(InvalidRequest("credentials_secret_arn", "must hold keys"))
        return None

    refused: list[str] = []
    service.fault = fault

    assert recycle(service)["outcome"] == "succeeded"
    assert len(refused) == 4
    assert_as_before(service)


def test_recycle_ends_with_a_report_when_a_secret_holds_no_keys_for_some_minutes() -> None:
    service = EcsSimulator(desired_count=3)
    run = start(service, wait_time=30)
    service.fault = lambda name, _nth: (
        Fault(InvalidRequest("credentials_secret_arn", "must hold keys"))
        if 40 < service.now < 340 and not name.startswith("lease")
        else None
    )

    report = run.go()

    assert report
    assert report["problem"] == "credentials_secret_arn: must hold keys"
    assert run.leases.items == {}
    assert_as_before(service)


def test_report_is_sent_when_a_secret_holds_no_keys_for_the_last_look() -> None:
    service = EcsSimulator(desired_count=3)
    run = start(service)

    def after_the_end(name: str, _nth: int) -> Fault | None:
        over = len(live_stops(service)) == 3 and service.desired_count == 3
        if name == "ListTasks" and over:
            return Fault(InvalidRequest("credentials_secret_arn", "must hold keys"))
        return None

    service.fault = after_the_end

    report = run.go()

    assert report
    assert (report["outcome"], report["capacity"]["after"]) == ("succeeded", None)
    assert run.leases.items == {}


# What somebody does in the moments before the first change.


def before_the_first_change(service: EcsSimulator, happens: Callable[[], object]) -> None:
    def when_the_lease_is_taken(name: str, _nth: int) -> None:
        if name == "lease.take":
            happens()

    service.fault = when_the_lease_is_taken


def test_raise_is_kept_when_somebody_asks_for_just_what_is_about_to_be_made() -> None:
    service = EcsSimulator(desired_count=3)
    before_the_first_change(service, lambda: service.ask(4))

    report = recycle(service)

    assert (report["outcome"], report["recycled"]) == ("succeeded", service.old)
    assert max(moment.desired_count for moment in service.history) == 5
    assert all(stop.in_service >= 4 for stop in service.stops)
    assert_as_before(service, 4)


@pytest.mark.parametrize("highest", [4, 9])
def test_bounds_are_kept_when_somebody_sets_them_before_the_first_change(highest: int) -> None:
    service = EcsSimulator(desired_count=3, scaling={"lowest": 1, "highest": 3})
    before_the_first_change(service, lambda: service.ask_bounds(highest=highest))

    assert recycle(service)["outcome"] == "succeeded"
    assert service.scaling == {"lowest": 1, "highest": highest}
    assert_as_before(service)


def test_nothing_is_changed_when_somebody_asks_for_fewer_before_the_first_change() -> None:
    service = EcsSimulator(desired_count=3)
    before_the_first_change(service, lambda: service.ask(2))

    report = recycle(service)

    assert report["problem"] == "somebody changed the desired count to 2"
    assert report["desired_count"]["after"] == 2
    assert {"UpdateService", "StopTask"}.isdisjoint(service.calls)


def test_lease_is_given_up_when_the_service_is_deleted_before_the_first_change() -> None:
    service = EcsSimulator(desired_count=3)
    before_the_first_change(service, lambda: setattr(service, "exists", False))
    run = start(service)

    report = run.go()

    assert report
    assert report["problem"] == "service web of cluster shop does not exist"
    assert report["desired_count"] == {"before": 3, "after": None}
    assert run.leases.items == {}


def test_recycle_ends_when_the_service_keeps_growing() -> None:
    service = EcsSimulator(desired_count=2)
    # A second recycle of it, with leases elsewhere, adds its surge to ours, and so on.
    service.fault = lambda name, _nth: (
        service.ask(service.desired_count + 2) if name == "lease.renew" else None
    )

    report = recycle(service)

    assert report["problem"] == "somebody asked for more tasks 11 times"
    assert report["desired_count"]["after"] == service.desired_count


# What is put back in the end.


@pytest.mark.parametrize("seed", range(4))
def test_strength_is_kept_when_an_alarm_rings_before_the_additional_task_is_there(
    seed: int,
) -> None:
    service = EcsSimulator(desired_count=3, start=(60, 60), spares_working=False, seed=seed)
    service.alarms["errors"] = False
    service.at(20, lambda: service.alarms.update(errors=True))

    report = recycle(service, alarm_names=("errors",))

    assert report["problem"] == "in ALARM: errors"
    assert_as_before(service)
    assert service.lowest() == 3


def test_service_is_put_back_when_somebody_deletes_the_lease() -> None:
    service = EcsSimulator(desired_count=3)
    run = start(service, wait_time=60)
    service.at(40, run.leases.items.clear)

    report = run.go()

    assert report
    assert "is not held by" in str(report["problem"])
    assert_as_before(service)


def test_count_is_told_when_there_was_nothing_to_do() -> None:
    service = EcsSimulator(desired_count=3)
    service.protection.update(service.old)

    report = recycle(service)

    assert report["outcome"] == "succeeded"
    assert report["desired_count"] == {"before": 3, "after": 3}


# Further executions.


@dataclass
class Endless(RecycleRun):
    """A recycle whose executions hand over the same tasks again and again: a defect."""

    def _start(self, name: str, given: Mapping[str, Any]) -> str:
        given[CONTINUATION]["plan"]["tasks"] = ["long", "gone", "tasks"]
        given[CONTINUATION]["done"].update(recycled=[], skipped=[])
        return super()._start(name, given)


def test_each_execution_goes_on_when_there_are_more_than_lambda_lets_a_function_call_itself() -> (
    None
):
    service = EcsSimulator(desired_count=20)
    run = start(service)
    run.most_operations = 10

    report = run.go()

    assert report
    assert report["recycled"] == service.old
    assert len(run.contexts) > 17
    assert service.lowest() == 20
    assert_as_before(service, 20)


def test_service_is_put_back_when_the_executions_come_to_no_end() -> None:
    service = EcsSimulator(desired_count=3)
    run = Endless(service, RecycleRequest("shop", "web", wait_time=0), most_operations=0)

    report = run.go()

    assert report
    assert report["problem"] == "3 executions did not get to the end"
    assert len(run.contexts) == 3
    assert run.leases.items == {}
    assert_as_before(service)


def handed_over() -> tuple[str, dict[str, Any]]:
    """Return the ARN of a second execution, and what it is given."""
    given: list[dict[str, Any]] = []
    run = start(EcsSimulator(desired_count=2))
    run.most_operations = 10

    def go_on(name: str, further: Mapping[str, Any]) -> str:
        given.append(dict(further))
        return name

    outside = replace(run.outside, go_on=go_on)
    context = cast("DurableContext", InlineContext(run.service.pass_time))
    name = recycle_service(run.request, context, outside)["next_execution"]
    return f"arn:aws:lambda:…:function:recycle:1/durable-execution/{name}/31bd", given[0]


def test_only_counts_are_told_when_another_execution_goes_on() -> None:
    run = start(EcsSimulator(desired_count=2))
    run.most_operations = 10
    context = cast("DurableContext", InlineContext(run.service.pass_time))

    result = recycle_service(run.request, context, run.outside)

    assert result["outcome"] == "continued"
    assert result["tasks"] == {"planned": 1, "recycled": 1, "skipped": 0, "failed": 0}
    assert str(result["next_execution"]).endswith("-2")


def test_continuation_is_taken_when_an_execution_has_handed_it_over() -> None:
    execution, given = handed_over()

    assert continuation_of(given, execution) == given[CONTINUATION]
    assert continuation_of({}, execution) is None


@pytest.mark.parametrize(
    "change",
    [
        {"run": 1},
        {"run": "arn:another"},
        {"number": 1},
        {"number": 3},
        {"number": "2"},
        {"service_arn": None},
        {"plan": {}},
        {"done": []},
        {"more": 1},
    ],
)
def test_continuation_is_refused_when_it_was_made_up(change: dict[str, Any]) -> None:
    execution, given = handed_over()

    with pytest.raises(InvalidRequest, match=r"^continuation: "):
        continuation_of({CONTINUATION: given[CONTINUATION] | change}, execution)


@pytest.mark.parametrize("continuation", [None, [], "text", {}, {"run": "a", "number": 2}])
def test_continuation_is_refused_when_it_is_none(continuation: object) -> None:
    execution, _ = handed_over()

    with pytest.raises(InvalidRequest, match=r"^continuation: is not for people"):
        continuation_of({CONTINUATION: continuation}, execution)
