"""Whatever ends a recycle, or interrupts it, the service is put back.

Every story has a service of its own. They are told side by side, and each has a test.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.services import SLOW, Service, Stories, World, begin_all, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.account import Account

_CHECKPOINT = "lambda:CheckpointDurableExecution"
_FUNCTION = "ecs-ops-recycle-service"
# More calls than a boto3 client of the functions makes before it gives up.
MANY = 4
# Long enough to be stopped in, and not waited for.
_LONG_PAUSE = 600
OPERATIONS = [
    *("survey", "lease", "raise", "strength", "stop-1", "replacement-1"),
    *("ending", "restore", "settle", "release", "report"),
]
"""Of a recycle of one task where nothing goes wrong."""
EFFECTS = {
    "dynamodb:UpdateItem": 2,
    "application-autoscaling:RegisterScalableTarget": 2,
    "ecs:UpdateService": 2,
    "ecs:StopTask": 1,
    "dynamodb:DeleteItem": 1,
    "sns:Publish": 1,
}
"""What a recycle changes, and before how many of these calls it is killed."""
SECONDS_TO_PUT_BACK = 60


@pytest.fixture(scope="module")
def stories(
    account: Account, outputs: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[Stories]:
    yield from begin_all(World(account, outputs), request)


def _put_back_all_the_same(service: Service, **wishes: Any) -> None:
    """Recycle a service with the bad luck it was given, and see that this does not show."""
    report = service.recycle(**wishes)

    service.faults.check()
    assert report["outcome"] == "succeeded", report
    assert sorted(report["recycled"]) == sorted(service.old)
    assert report["capacity"]["during"] >= service.count
    service.assert_put_back()
    service.assert_all_replaced()
    service.reports("succeeded")


def killed_in(operation: str, world: World) -> None:
    """What it does is done, and that is not recorded yet."""
    service = Service(world)
    service.faults.inject(
        _CHECKPOINT, "kill before", operation=operation, updates=["SUCCEED", "RETRY"]
    )
    _put_back_all_the_same(service)
    (execution,) = service.faults.report()["executions"]
    assert service.operations(execution) == OPERATIONS


def killed_in_a_pause(world: World) -> None:
    service = Service(world, count=2)
    service.faults.inject(_CHECKPOINT, "kill after", operation="pause-1", updates=["START"])
    _put_back_all_the_same(service, wait_time=1)


def killed_at(action: str, world: World) -> None:
    """Before the first call of a kind is done, and before the second, where there is one."""
    scaled = action.startswith("application-autoscaling")
    service = Service(world, bounds=(0, 1) if scaled else None)
    service.faults.inject(action, "kill before", times=EFFECTS[action])
    _put_back_all_the_same(service)


def killed_in_every_change(world: World) -> None:
    """Auto Scaling's bounds and the desired count are changed, and nobody hears of it."""
    service = Service(world, bounds=(0, 1))
    service.faults.inject("application-autoscaling:RegisterScalableTarget", "kill after", times=2)
    service.faults.inject("dynamodb:UpdateItem", "kill after")
    _put_back_all_the_same(service)


def killed_again_and_again(world: World) -> None:
    """The task is stopped and nobody knows; by the next look its replacement is not there yet."""
    service = Service(world, count=2, family=SLOW)
    service.faults.inject("ecs:StopTask", "kill after", times=3)
    _put_back_all_the_same(service)
    (execution,) = service.faults.report()["executions"]
    assert "recovery-1" in service.operations(execution)


def _rescued(service: Service, execution: str, since: float, outcome: str) -> None:
    """See that a service whose recycle ended at `since` is put back, and people are told."""
    left = {"desiredCount": service.count, "bounds": service.bounds_at_first}

    def is_put_back() -> bool:
        return left == {"desiredCount": service.desired_count, "bounds": service.bounds}

    patiently(is_put_back, f"{service.name} put back")
    assert time.monotonic() - since < SECONDS_TO_PUT_BACK
    (letter,) = service.reports(outcome)
    assert execution in letter["Message"]
    assert "put back" in letter["Subject"]
    assert "NOT" not in letter["Subject"]
    service.assert_put_back()


def stopped_in_a_pause(world: World) -> None:
    service = Service(world, count=2, bounds=(1, 2))

    execution = service.start(wait_time=_LONG_PAUSE)
    service.reach(execution, "pause-1")
    assert (service.desired_count, service.bounds) == (3, (3, 3))
    _stop(world, execution)

    _rescued(service, execution, time.monotonic(), "stopped")
    assert len(service.recycled()) == 1


def stopped_while_a_replacement_is_awaited(world: World) -> None:
    service = Service(world, family=SLOW)

    execution = service.start()
    service.reach(execution, "replacement-1")
    _stop(world, execution)

    _rescued(service, execution, time.monotonic(), "stopped")
    service.assert_all_replaced()


def stopped_and_its_rescue_is_throttled(world: World) -> None:
    service = Service(world, count=2)

    execution = service.start(wait_time=_LONG_PAUSE)
    service.reach(execution, "pause-1")
    service.faults.refuse(
        "lambda:GetDurableExecution", "ThrottlingException", times=MANY, function=_FUNCTION
    )
    _stop(world, execution)

    _rescued(service, execution, time.monotonic(), "stopped")
    service.faults.check()


def timed_out(world: World) -> None:
    service = Service(world, count=2, bounds=(1, 9))

    execution = service.start(wait_time=_LONG_PAUSE)
    service.reach(execution, "pause-1")
    service.faults.time_out(execution)

    _rescued(service, execution, time.monotonic(), "timed_out")


def killed_until_lambda_gives_up(world: World) -> None:
    service = Service(world)
    service.faults.inject("ecs:StopTask", "kill before", times=5)

    execution = service.start()
    assert service.end(execution)["Status"] == "FAILED"

    _rescued(service, execution, time.monotonic(), "failed")
    patiently(lambda: service.kept() == service.old, f"only the old task of {service.name}")


def _stop(world: World, execution: str) -> None:
    error = {"ErrorType": "Operator", "ErrorMessage": "enough"}
    world.client("lambda").stop_durable_execution(DurableExecutionArn=execution, Error=error)


def throttled(world: World) -> None:
    service = Service(world)
    for action in ("ecs:ListTasks", "ecs:StopTask", "ecs:UpdateService"):
        service.faults.refuse(action, "ThrottlingException", times=MANY, function=_FUNCTION)
    _put_back_all_the_same(service)


def answers_are_lost(world: World) -> None:
    service = Service(world)
    for action in ("ecs:StopTask", "ecs:UpdateService", "dynamodb:UpdateItem"):
        service.faults.inject(action, "lose", times=1)
    _put_back_all_the_same(service)


STORIES: dict[str, Callable[[World], None]] = {
    "recycling is stopped in a pause": stopped_in_a_pause,
    "recycling is stopped while a replacement is awaited": stopped_while_a_replacement_is_awaited,
    "recycling is stopped and its rescue is throttled": stopped_and_its_rescue_is_throttled,
    "recycling times out": timed_out,
    "the function is killed until Lambda gives up": killed_until_lambda_gives_up,
    "the function is killed again and again": killed_again_and_again,
    **{
        f"the function is killed in {operation}": partial(killed_in, operation)
        for operation in OPERATIONS
    },
    "the function is killed in a pause": killed_in_a_pause,
    **{f"the function is killed before {action}": partial(killed_at, action) for action in EFFECTS},
    "the function is killed in every change": killed_in_every_change,
    "calls are throttled": throttled,
    "answers are lost": answers_are_lost,
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_service_is_put_back_when(story: Callable[[World], None], stories: Stories) -> None:
    stories.begin(story).result()
