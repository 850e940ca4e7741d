"""The contract of `ecs_ops.recycle.Services`, in parts: whoever keeps one inherits its class.

class TestEcsService(ServicesContract, BoundsContract):
    @pytest.fixture
    def stage(self) -> Stage: ...
    @pytest.fixture
    def scaled(self) -> Services: ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ecs_ops.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecs_ops.recycle import Bounds, Services


def _nothing() -> None:
    """Let no time pass: what happens there has happened at once."""


@dataclass(frozen=True)
class Stage:
    """Where the contract is played."""

    service: Services
    """An ACTIVE service with desired count 2, both tasks RUNNING, of its only deployment; no health
    check, no target group, no scalable target."""
    absent: Services
    """A service that does not exist, in a cluster that does."""
    settle: Callable[[], None] = _nothing
    """Lets so much time pass that a task which was stopped is gone."""


class ServicesContract:
    """Describe, look, resize, stop. Fixture `stage`."""

    def test_service_is_described_when_it_exists(self, stage: Stage) -> None:
        found = stage.service.describe()

        assert found.arn.startswith("arn:")
        assert (found.status, found.desired_count, found.deployments) == ("ACTIVE", 2, 1)
        assert (found.scheduling_strategy, found.deployment_controller) == ("REPLICA", "ECS")
        assert found.deployment

    def test_error_names_the_service_when_it_does_not_exist(self, stage: Stage) -> None:
        with pytest.raises(NotFound, match=r"^service \S+ of cluster \S+ does not exist$"):
            stage.absent.describe()

    def test_tasks_are_seen_when_they_run(self, stage: Stage) -> None:
        seen = stage.service.look()

        assert len({task.arn for task in seen.tasks}) == 2
        assert {task.status for task in seen.tasks} == {"RUNNING"}
        assert {task.health for task in seen.tasks} == {"UNKNOWN"}
        assert {task.deployment for task in seen.tasks} == {stage.service.describe().deployment}

    def test_tasks_are_reachable_when_there_is_no_target_group(self, stage: Stage) -> None:
        seen = stage.service.look()

        assert [task.reachable for task in seen.tasks] == [True, True]
        assert seen.draining == 0
        assert stage.service.deregistration_delay() == 0

    def test_task_is_gone_and_known_as_recycled_when_it_was_stopped(self, stage: Stage) -> None:
        one, other = stage.service.look().tasks

        stage.service.stop(one.arn)

        assert stage.service.was_recycled(one.arn)
        assert not stage.service.was_recycled(other.arn)
        stage.settle()
        seen = {task.arn for task in stage.service.look().tasks}
        assert one.arn not in seen
        assert other.arn in seen

    def test_nothing_is_wrong_when_a_task_is_stopped_twice(self, stage: Stage) -> None:
        one, _ = stage.service.look().tasks

        stage.service.stop(one.arn)
        stage.service.stop(one.arn)

        assert stage.service.was_recycled(one.arn)

    def test_task_is_not_known_as_recycled_when_there_is_no_such_task(self, stage: Stage) -> None:
        assert not stage.service.was_recycled(_absent_task(stage.service))

    @pytest.mark.parametrize(
        ("expected", "wanted", "after"), [(2, 3, 3), (2, 1, 1), (2, 2, 2), (5, 6, 2)]
    )
    def test_desired_count_changes_only_when_it_is_as_expected(
        self, stage: Stage, expected: int, wanted: int, after: int
    ) -> None:
        assert stage.service.change_desired_count(expected, wanted) == after
        assert stage.service.describe().desired_count == after

    def test_nothing_is_bounded_when_there_is_no_scalable_target(self, stage: Stage) -> None:
        bounds: Bounds = {"lowest": 1, "highest": 2}

        assert stage.service.bounds() is None
        assert stage.service.change_bounds(bounds, bounds) is None

    def test_nothing_rings_when_no_alarm_is_named(self, stage: Stage) -> None:
        assert stage.service.ringing([]) == []

    def test_nothing_is_protected_when_no_task_is_named(self, stage: Stage) -> None:
        assert stage.service.protected([]) == frozenset()


class MissingTaskContract:
    """A task that ECS does not know. Fixture `stage`."""

    def test_stop_says_so_when_there_is_no_such_task(self, stage: Stage) -> None:
        with pytest.raises(NotFound):
            stage.service.stop(_absent_task(stage.service))


class BoundsContract:
    """Auto Scaling. Fixture `scaled`: a service with desired count 2 and the bounds 1 and 4."""

    def test_bounds_are_told_when_there_is_a_scalable_target(self, scaled: Services) -> None:
        assert scaled.bounds() == {"lowest": 1, "highest": 4}

    @pytest.mark.parametrize(
        ("expected", "wanted", "after"),
        [
            ((1, 4), (2, 5), (2, 5)),
            ((1, 4), (1, 4), (1, 4)),
            ((1, 4), (1, 5), (1, 5)),
            ((1, 9), (2, 5), (2, 4)),  # somebody else changed the maximum
            ((9, 4), (2, 5), (1, 5)),  # or the minimum
            ((9, 9), (2, 5), (1, 4)),
        ],
    )
    def test_bound_changes_only_when_it_is_as_expected(
        self,
        scaled: Services,
        expected: tuple[int, int],
        wanted: tuple[int, int],
        after: tuple[int, int],
    ) -> None:
        result: Bounds = {"lowest": after[0], "highest": after[1]}

        assert (
            scaled.change_bounds(
                {"lowest": expected[0], "highest": expected[1]},
                {"lowest": wanted[0], "highest": wanted[1]},
            )
            == result
        )
        assert scaled.bounds() == result

    def test_minimum_stays_when_it_would_be_above_a_maximum_of_somebody_else(
        self, scaled: Services
    ) -> None:
        result = scaled.change_bounds({"lowest": 1, "highest": 9}, {"lowest": 6, "highest": 9})

        assert result == scaled.bounds() == {"lowest": 1, "highest": 4}


class AlarmsContract:
    """Alarms. Fixture `alarmed`: of three alarms `loud` is in ALARM, `calm` OK, `new` neither."""

    def test_alarm_rings_when_it_is_in_alarm(self, alarmed: Services) -> None:
        assert alarmed.ringing(["calm", "loud", "new"]) == ["loud"]
        assert alarmed.ringing(["calm"]) == []

    def test_error_names_the_alarms_when_they_do_not_exist(self, alarmed: Services) -> None:
        with pytest.raises(NotFound, match="other"):
            alarmed.ringing(["calm", "other", "loud"])


class TargetsContract:
    """A target group. Fixture `balanced`: a service whose two tasks are healthy in its only one.

    Its deregistration delay is 60 seconds, and nothing drains.
    """

    def test_tasks_are_reachable_when_they_are_healthy_in_it(self, balanced: Services) -> None:
        seen = balanced.look()

        assert [task.reachable for task in seen.tasks] == [True, True]
        assert seen.draining == 0
        assert balanced.deregistration_delay() == 60


class ProtectionContract:
    """Task protection. Fixture `guarded`: a service and the ARN of its one protected task."""

    def test_task_is_told_when_it_is_protected(self, guarded: tuple[Services, str]) -> None:
        service, task_arn = guarded
        arns = [task.arn for task in service.look().tasks]

        assert len(arns) > 1
        assert service.protected(arns) == {task_arn}


def _absent_task(service: Services) -> str:
    present = service.look().tasks[0].arn
    return f"{present.rpartition('/')[0]}/{'f' * 32}"
