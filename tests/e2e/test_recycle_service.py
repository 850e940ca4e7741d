"""A service's tasks are replaced one by one, and never fewer run than were asked for."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.executions import execute
from tests.sandbox.stack import DEMO_CLUSTER, DEMO_SUBNET
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.account import Account

COUNT = 3


class Service:
    """A service of three tasks, and the lowest number of them that was seen running."""

    def __init__(self, account: Account) -> None:
        self.ecs = account.client("ecs")
        self.name = f"web-{uuid.uuid4().hex[:8]}"
        self.lowest = COUNT
        self._over = threading.Event()
        self.ecs.create_service(
            cluster=DEMO_CLUSTER,
            serviceName=self.name,
            taskDefinition="demo-web",
            desiredCount=COUNT,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": [DEMO_SUBNET]}},
        )
        eventually(self._is_steady, f"{COUNT} tasks running")
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def describe(self) -> dict[str, Any]:
        answer = self.ecs.describe_services(cluster=DEMO_CLUSTER, services=[self.name])
        return dict(answer["services"][0])

    def tasks(self) -> set[str]:
        answer = self.ecs.list_tasks(cluster=DEMO_CLUSTER, serviceName=self.name)
        return set(answer["taskArns"])

    def close(self) -> None:
        self._over.set()
        self._watcher.join()
        self.ecs.delete_service(cluster=DEMO_CLUSTER, service=self.name, force=True)

    def _is_steady(self) -> bool:
        service = self.describe()
        completed = service["deployments"][0]["rolloutState"] == "COMPLETED"
        return bool(completed and service["runningCount"] == COUNT)

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.lowest = min(self.lowest, self.describe()["runningCount"])


@pytest.fixture
def service(account: Account) -> Iterator[Service]:
    running = Service(account)
    yield running
    running.close()


def test_every_task_is_replaced_at_full_strength_when_a_service_is_recycled(
    account: Account, outputs: dict[str, str], service: Service
) -> None:
    before = service.tasks()

    event = {"cluster_name": DEMO_CLUSTER, "service_name": service.name, "wait_time": 1}
    execution = execute(account, outputs["RecycleFunctionName"], event)

    assert execution["Status"] == "SUCCEEDED"
    assert execution["Result"]["outcome"] == "succeeded"
    assert set(execution["Result"]["recycled"]) == before
    assert not before & service.tasks()
    assert service.lowest >= COUNT
    assert service.describe()["desiredCount"] == COUNT


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"service_name": "nowhere"}, "service_name"),
        ({"service_name": ""}, "service_name"),
        ({"wait_time": "soon"}, "wait_time"),
        ({"speed": "fast"}, "speed"),
    ],
)
def test_error_names_the_field_and_nothing_changes_when_input_is_bad(
    account: Account,
    outputs: dict[str, str],
    service: Service,
    change: dict[str, Any],
    named: str,
) -> None:
    before = service.tasks()
    event = {"cluster_name": DEMO_CLUSTER, "service_name": service.name, **change}

    execution = execute(account, outputs["RecycleFunctionName"], event)

    assert execution["Status"] == "FAILED"
    assert named in execution["Error"]["ErrorMessage"]
    assert service.tasks() == before
    assert service.describe()["desiredCount"] == COUNT
