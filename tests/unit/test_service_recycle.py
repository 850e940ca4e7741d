"""What a recycle does to a service, told to one in memory."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest
from aws_durable_execution_sdk_python.exceptions import StepError
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.aws.service_recycle import recycle
from ecs_ops.errors import AwsFailure, InvalidRequest, Transient
from ecs_ops.recycle import RecycleRequest, Report
from tests.fake_service import FakeService
from tests.inline_context import InlineContext

if TYPE_CHECKING:
    from aws_durable_execution_sdk_python import DurableContext


def run(service: FakeService, *, maintain: bool = True, wait_time: int = 0) -> Report:
    request = RecycleRequest("shop", "web", maintain, wait_time)
    context = cast("DurableContext", InlineContext(service.pass_time))
    return recycle(request, context, service, service.clock)


def set_to(**values: Any) -> Callable[[FakeService], None]:
    """Return an accident that changes the service."""

    def accident(service: FakeService) -> None:
        for name, value in values.items():
            setattr(service, name, value)

    return accident


def test_all_tasks_are_replaced_when_nothing_goes_wrong() -> None:
    service = FakeService(desired_count=3)
    old = list(service.present)

    expected: Report = {
        "outcome": "succeeded",
        "problem": None,
        "cluster_name": "shop",
        "service_name": "web",
        "recycled": old,
        "skipped": [],
        "failed": [],
        "capacity": {"before": 3, "during": 3, "after": 3},
        "desired_count": {"before": 3, "after": 3},
    }
    assert run(service) == expected
    assert service.strength_at_stop == [4, 4, 4]
    assert len(service.present) == 3
    assert not set(old) & set(service.present)


def test_capacity_falls_by_one_when_the_state_is_not_maintained() -> None:
    service = FakeService(desired_count=2)

    report = run(service, maintain=False)

    assert len(report["recycled"]) == 2
    assert report["capacity"] == {"before": 2, "during": 1, "after": 2}
    assert service.strength_at_stop == [2, 2]


def test_replacement_is_waited_for_when_stopped_tasks_still_look_alive() -> None:
    service = FakeService(desired_count=3, seconds_of_lag=10, seconds_to_start=8)

    assert run(service)["outcome"] == "succeeded"
    assert service.strength_at_stop == [4, 4, 4]


def test_health_is_waited_for_when_tasks_report_it() -> None:
    service = FakeService(desired_count=1, seconds_to_health=20)

    assert run(service, maintain=False)["outcome"] == "succeeded"
    assert service.strength_at_stop == [1]
    assert [task.health for task in service.present.values()] == ["HEALTHY"]


def test_wait_time_passes_between_tasks_when_it_is_asked_for() -> None:
    def seconds(wait_time: int) -> float:
        service = FakeService(desired_count=3)
        run(service, wait_time=wait_time)
        return service.clock()

    assert seconds(100) - seconds(0) == 200


def test_task_is_skipped_when_it_went_by_itself() -> None:
    service = FakeService(desired_count=3)
    first, second, third = service.present
    service.accidents = {3: lambda fake: fake.lose(second)}

    report = run(service)

    assert report["recycled"] == [first, third]
    assert report["skipped"] == [{"task_arn": second, "why": "it was gone already"}]
    assert service.strength_at_stop == [4, 4]


def test_next_stop_waits_for_recovery_when_a_task_fails_during_the_pause() -> None:
    service = FakeService(desired_count=2)

    def lose_the_newest(fake: FakeService) -> None:
        assert len(fake.strength_at_stop) == 1
        fake.seconds_to_start = 400
        fake.lose(list(fake.present)[-1])

    service.accidents = {200: lose_the_newest}

    report = run(service, wait_time=300)

    assert report["outcome"] == "succeeded"
    assert report["capacity"]["during"] == 2
    assert service.strength_at_stop == [3, 3]


def test_recycle_ends_when_the_service_does_not_recover() -> None:
    service = FakeService(desired_count=2)

    def lose_the_newest(fake: FakeService) -> None:
        fake.seconds_to_start = 10_000
        fake.lose(list(fake.present)[-1])

    service.accidents = {200: lose_the_newest}

    report = run(service, wait_time=300)

    assert report["problem"] == "no replacement within 600 seconds: 2 of 3 tasks are in service"
    assert service.strength_at_stop == [3]
    assert service.desired_count == 2


def test_recycle_ends_and_restores_when_no_replacement_comes() -> None:
    service = FakeService(desired_count=3)
    first, second, third = service.present
    service.accidents = {7: set_to(seconds_to_start=10_000)}

    report = run(service)

    assert report["outcome"] == "failed"
    assert report["problem"] == "no replacement within 600 seconds: 3 of 4 tasks are in service"
    assert report["recycled"] == []
    assert [entry["task_arn"] for entry in report["failed"]] == [first]
    assert [entry["task_arn"] for entry in report["skipped"]] == [second, third]
    assert report["capacity"] == {"before": 3, "during": 3, "after": 3}
    assert service.desired_count == 3
    assert service.strength_at_stop == [4]


def test_nothing_is_stopped_when_the_additional_task_never_runs() -> None:
    service = FakeService(desired_count=2, seconds_to_start=10_000)

    report = run(service)

    assert report["outcome"] == "failed"
    assert len(report["skipped"]) == 2
    assert service.recycled == []
    assert service.desired_count == 2


def test_nothing_is_stopped_when_somebody_changes_the_desired_count_first() -> None:
    service = FakeService(desired_count=2)
    service.accidents = {1: set_to(desired_count=5)}
    described, describe = [service.describe()], service.describe
    # The survey's answer is the last one of the old state.
    service.describe = lambda: described.pop() if described else describe()  # type: ignore[method-assign]

    report = run(service)

    assert report["problem"] == "somebody changed the desired count to 5"
    assert service.recycled == []
    assert service.desired_count == 5


def test_desired_count_is_left_alone_when_somebody_changes_it_meanwhile() -> None:
    service = FakeService(desired_count=2)
    service.accidents = {10: set_to(desired_count=6)}

    report = run(service)

    assert report["outcome"] == "succeeded"
    assert service.desired_count == 6
    assert report["desired_count"] == {"before": 2, "after": 6}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"deployments": 2}, "a deployment has begun"),
        ({"status": "DRAINING"}, "the service is DRAINING, not ACTIVE any more"),
        ({"desired_count": 3}, "the desired count was lowered from 4 to 3"),
    ],
)
def test_recycle_ends_when_the_service_changes_meanwhile(
    change: dict[str, Any], problem: str
) -> None:
    service = FakeService(desired_count=3)
    service.accidents = {40: set_to(**change)}

    report = run(service, wait_time=60)

    assert report["problem"] == problem
    assert len(report["recycled"]) == 1
    assert service.desired_count == 3


def test_recycle_goes_on_when_looks_get_no_answer() -> None:
    service = FakeService(desired_count=2)
    throttled = Transient("ListTasks failed: throttled")
    service.failures = dict.fromkeys((1, 3, 4, 7, 9, 10, 12), throttled)

    assert run(service)["outcome"] == "succeeded"
    assert service.looks > 12


def test_desired_count_is_restored_when_aws_refuses_in_the_middle() -> None:
    service = FakeService(desired_count=2)
    service.failures = {4: AwsFailure("ListTasks", "AccessDeniedException", "no")}

    report = run(service)

    assert report["problem"] == "ListTasks failed: AccessDeniedException: no"
    assert report["desired_count"] == {"before": 2, "after": 2}
    assert service.desired_count == 2


def test_report_is_made_when_aws_refuses_from_then_on() -> None:
    service = FakeService(desired_count=2)
    refused = AwsFailure("ListTasks", "AccessDeniedException", "no")
    service.failures = dict.fromkeys(range(7, 1000), refused)

    report = run(service)

    assert report["problem"] == str(refused)
    assert report["capacity"]["after"] is None
    assert service.desired_count == 2


def test_failure_is_raised_when_the_desired_count_cannot_be_restored() -> None:
    service = FakeService(desired_count=2)
    change, refused = service.change_desired_count, AwsFailure("UpdateService", "Denied", "no")

    def only_upwards(expected: int, wanted: int) -> int:
        if wanted < expected:
            raise refused
        return change(expected, wanted)

    service.change_desired_count = only_upwards  # type: ignore[method-assign]

    with pytest.raises(StepError, match="UpdateService failed: Denied: no"):
        run(service)


def test_task_counts_as_recycled_when_the_step_that_stopped_it_was_cut_off() -> None:
    service = FakeService(desired_count=2)
    old = list(service.present)
    stop, cut_off = service.stop, [True]

    def stop_without_an_answer(task_arn: str) -> None:
        stop(task_arn)
        # Its replacement is there before the step is tried again.
        service.pass_time(10)
        if cut_off and cut_off.pop():
            raise Transient("StopTask failed: no answer")

    service.stop = stop_without_an_answer  # type: ignore[method-assign]

    report = run(service)

    assert report["outcome"] == "succeeded"
    assert report["recycled"] == old
    assert service.strength_at_stop == [3, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exists": False}, "service web of cluster shop does not exist"),
        ({"status": "DRAINING"}, "service_name: web is DRAINING, not ACTIVE"),
        ({"deployments": 2}, "service_name: web has a deployment in progress"),
        ({"desired_count": 0}, "service_name: web has a desired count of 0"),
        ({"scheduling_strategy": "DAEMON"}, "service_name: web is a DAEMON service"),
    ],
)
def test_nothing_is_done_when_the_service_cannot_be_recycled(
    changes: dict[str, Any], message: str
) -> None:
    service = FakeService(**changes)
    before = service.desired_count

    with pytest.raises(InvalidRequest, match=message):
        run(service)

    assert service.desired_count == before
    assert service.recycled == []


@given(
    size=st.integers(1, 4),
    maintain=st.booleans(),
    wait_time=st.sampled_from([0, 30]),
    start=st.integers(1, 60),
    health=st.none() | st.integers(0, 30),
    lag=st.integers(0, 30),
    losses=st.dictionaries(st.integers(2, 300), st.integers(0, 4), max_size=6),
)
def test_no_task_is_stopped_below_strength_when_tasks_come_and_go(
    *,
    size: int,
    maintain: bool,
    wait_time: int,
    start: int,
    health: int | None,
    lag: int,
    losses: dict[int, int],
) -> None:
    service = FakeService(
        desired_count=size,
        seconds_to_start=start,
        seconds_to_health=health,
        seconds_of_lag=lag,
    )
    old = list(service.present)

    def lose(nth: int) -> Callable[[FakeService], None]:
        return lambda fake: fake.lose(list(fake.present)[nth % len(fake.present)])

    service.accidents = {second: lose(nth) for second, nth in losses.items()}

    report = run(service, maintain=maintain, wait_time=wait_time)

    assert report["outcome"] == "succeeded"
    assert all(strength >= size + maintain for strength in service.strength_at_stop)
    assert report["desired_count"] == {"before": size, "after": size}
    named = [*report["recycled"], *(entry["task_arn"] for entry in report["skipped"])]
    assert sorted(named) == sorted(old)
