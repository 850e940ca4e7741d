"""The simulator itself: that its service behaves as ECS says one does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ecs_ops.errors import AwsFailure, NotFound, Transient
from ecs_ops.recycle import in_service
from tests.ecs_simulator import EcsSimulator, Fate, Fault, TargetGroup
from tests.services_contract import (
    AlarmsContract,
    BoundsContract,
    MissingTaskContract,
    ProtectionContract,
    ServicesContract,
    Stage,
    TargetsContract,
)

if TYPE_CHECKING:
    from ecs_ops.recycle import Services


def stopped_one(service: EcsSimulator) -> str:
    oldest = service.old[0]
    service.stop(oldest)
    return oldest


def test_stopped_task_is_replaced_when_it_has_its_time() -> None:
    service = EcsSimulator(desired_count=2, start=(10, 10))

    stopped_one(service)

    assert service.in_service == 1
    service.pass_time(10)
    assert service.in_service == 1
    service.pass_time(1)
    assert service.in_service == 2
    assert service.lowest() == 1


def test_stopped_task_is_still_listed_when_ecs_lags() -> None:
    service = EcsSimulator(desired_count=2, lag=5)

    stopped_one(service)

    # This is what botocore's services_stable takes for a stable service.
    assert service.counts() == (1, 2, 2)
    assert len(in_service(service.look().tasks)) == 2
    assert service.in_service == 1
    service.pass_time(2)
    service.pass_time(3)
    assert service.old[0] not in [task.arn for task in service.look().tasks]


def test_task_serves_when_its_health_check_and_all_its_targets_say_so() -> None:
    groups = (TargetGroup(5), TargetGroup(30))
    service = EcsSimulator(desired_count=1, start=(10, 10), health=20, target_groups=groups)

    stopped_one(service)

    seen = []
    for _ in range(50):
        service.pass_time(1)
        (task,) = service.look().tasks
        seen.append((task.status, task.health, task.reachable, service.in_service))
    assert seen.index(("RUNNING", "UNKNOWN", False, 0)) == 10
    assert seen.index(("RUNNING", "HEALTHY", False, 0)) == 30
    assert seen.index(("RUNNING", "HEALTHY", True, 1)) == 40


def test_targets_drain_when_a_task_is_stopped() -> None:
    service = EcsSimulator(desired_count=2, target_groups=(TargetGroup(5, 60), TargetGroup(5, 90)))
    assert service.deregistration_delay() == 90

    stopped_one(service)

    drains = []
    for _ in range(10):
        drains.append(service.look().draining)
        service.pass_time(10)
    assert drains == [2] * 6 + [1] * 3 + [0]


def test_idle_tasks_go_first_and_protected_ones_stay_when_there_are_too_many() -> None:
    service = EcsSimulator(desired_count=4)
    service.protection.add(service.old[0])
    service.ask(6)
    service.pass_time(2)

    service.ask(1)
    service.pass_time(1)

    assert service.kept == [service.old[0]]


def test_additional_task_may_be_taken_back_when_the_count_is_lowered() -> None:
    survivors = set()
    for seed in range(20):
        service = EcsSimulator(desired_count=2, seed=seed)
        service.update_service(3)
        service.pass_time(10)
        service.update_service(2)
        service.pass_time(10)
        survivors.add(tuple(service.kept))
    assert len(survivors) == 3


@pytest.mark.parametrize(
    ("fate", "lives"), [(Fate(becomes_healthy=False), 120), (Fate(dies_after=7), 7)]
)
def test_task_is_replaced_when_it_does_not_live(fate: Fate, lives: int) -> None:
    service = EcsSimulator(desired_count=1, start=(1, 1), health=3)
    service.fate = fate

    stopped_one(service)

    service.pass_time(2)
    first = service.kept
    service.pass_time(lives - 1)
    assert service.kept == first
    service.pass_time(3)
    assert service.kept != first
    assert len(service.kept) == 1


def test_old_tasks_go_as_new_ones_serve_when_a_deployment_is_forced() -> None:
    service = EcsSimulator(desired_count=10, start=(5, 60))

    service.force_new_deployment()
    service.pass_time(1)
    assert (len(service.kept), service.deployments) == (20, 2)
    service.pass_time(200)

    assert not set(service.kept) & set(service.old)
    assert (len(service.kept), service.deployments) == (10, 1)
    assert service.lowest() == 10
    assert {task.deployment for task in service.look().tasks} == {service.deployment}


def test_half_of_the_tasks_go_at_once_when_a_deployment_may_do_that() -> None:
    service = EcsSimulator(desired_count=10, start=(20, 20))

    service.force_new_deployment(minimum=50, maximum=100)
    service.pass_time(300)

    assert service.lowest() == 5
    assert max(moment.in_service for moment in service.history) == 10
    assert not set(service.kept) & set(service.old)


@pytest.mark.parametrize(
    ("lowest", "highest", "after"), [(1, 9, 3), (5, 9, 5), (1, 2, 2), (3, 3, 3)]
)
def test_desired_count_is_moved_into_the_bounds_when_they_change(
    lowest: int, highest: int, after: int
) -> None:
    service = EcsSimulator(desired_count=3, scaling={"lowest": 1, "highest": 9})

    service.ask_bounds(lowest=lowest, highest=highest)
    service.pass_time(30)

    assert service.desired_count == service.asked == service.in_service == after


def test_nobody_asked_for_the_task_when_the_recycler_made_auto_scaling_add_it() -> None:
    service = EcsSimulator(desired_count=3, scaling={"lowest": 1, "highest": 3})

    service.change_bounds({"lowest": 1, "highest": 3}, {"lowest": 4, "highest": 4})
    service.pass_time(30)

    assert (service.desired_count, service.asked) == (4, 3)
    assert service.asked_bounds == {"lowest": 1, "highest": 3}


def test_minimum_above_the_maximum_is_refused_as_by_aws() -> None:
    service = EcsSimulator(scaling={"lowest": 1, "highest": 3})

    with pytest.raises(AwsFailure, match="ValidationException"):
        service.register_scalable_target({"lowest": 4, "highest": 3})


def test_call_takes_effect_or_not_when_its_answer_is_an_error() -> None:
    service = EcsSimulator(desired_count=2)
    faults = {1: Fault(Transient("busy")), 2: Fault(Transient("no answer"), after=True)}
    service.fault = lambda _name, nth: faults.get(nth)

    for expected in (2, 1):
        with pytest.raises(Transient):
            service.stop(service.old[0])
        assert service.in_service == expected
    assert service.calls["StopTask"] == 2
    assert service.was_recycled(service.old[0])


def test_stop_is_no_error_the_second_time_and_one_when_the_task_is_unknown() -> None:
    service = EcsSimulator(desired_count=2)
    one, other = service.old
    service.stop(one)
    service.stop(one)
    service.lose(0)

    with pytest.raises(NotFound):
        service.stop(other)

    assert [stop.was_live for stop in service.stops] == [True, False, False]


def test_unhealthy_task_serves_again_when_it_has_recovered() -> None:
    service = EcsSimulator(desired_count=2, health=5)

    service.at(10, lambda: service.sicken(0, 20))
    service.pass_time(15)
    assert service.in_service == 1
    service.pass_time(20)
    assert service.in_service == 2


def test_same_seed_is_the_same_service() -> None:
    def history(seed: int) -> object:
        service = EcsSimulator(desired_count=5, start=(1, 60), seed=seed)
        service.force_new_deployment()
        service.pass_time(300)
        return service.history

    assert history(1) == history(1) != history(2)


def test_a_day_of_a_thousand_tasks_is_soon_over() -> None:
    service = EcsSimulator(desired_count=1000, start=(10, 60))
    began = time.process_time()

    service.force_new_deployment()
    service.pass_time(86_400)

    assert service.lowest() == 1000
    assert not set(service.kept) & set(service.old)
    assert time.process_time() - began < 5


class TestEcsSimulator(
    ServicesContract,
    MissingTaskContract,
    BoundsContract,
    AlarmsContract,
    TargetsContract,
    ProtectionContract,
):
    """What the real adapter keeps over moto and in the local account, the simulator keeps too."""

    @pytest.fixture
    def stage(self) -> Stage:
        service = EcsSimulator(desired_count=2)
        return Stage(service, EcsSimulator(exists=False), settle=lambda: service.pass_time(60))

    @pytest.fixture
    def scaled(self) -> Services:
        return EcsSimulator(desired_count=2, scaling={"lowest": 1, "highest": 4})

    @pytest.fixture
    def alarmed(self) -> Services:
        service = EcsSimulator()
        service.alarms = {"calm": False, "loud": True, "new": False}
        return service

    @pytest.fixture
    def balanced(self) -> Services:
        return EcsSimulator(desired_count=2, target_groups=(TargetGroup(),))

    @pytest.fixture
    def guarded(self) -> tuple[Services, str]:
        service = EcsSimulator()
        service.protection.add(service.old[1])
        return service, service.old[1]
