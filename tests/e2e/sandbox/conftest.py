"""What the tests of the local account share: a cluster, and a way to run one command in it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.sandbox.account import Account


class Cluster:
    """A cluster of one test's own."""

    def __init__(self, account: Account, tags: list[dict[str, str]] | None = None) -> None:
        self.ecs = account.client("ecs")
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.arn = self.ecs.create_cluster(clusterName=self.name, tags=tags or [])["cluster"][
            "clusterArn"
        ]

    def define(self, *commands: str, **container: Any) -> str:
        """Register a task definition of `sh -c` containers c0, c1, …; c0 alone is essential."""
        definition = self.ecs.register_task_definition(
            family=f"{self.name}-{uuid.uuid4().hex[:4]}",
            containerDefinitions=[
                {
                    "name": f"c{index}",
                    "image": "busybox",
                    "essential": index == 0,
                    "command": ["sh", "-c", command],
                    **container,
                }
                for index, command in enumerate(commands)
            ],
        )
        return str(definition["taskDefinition"]["taskDefinitionArn"])

    def run(self, definition: str, **request: Any) -> str:
        """Run one task; return its ARN."""
        answer = self.ecs.run_task(cluster=self.name, taskDefinition=definition, **request)
        return str(answer["tasks"][0]["taskArn"])

    def task(self, arn: str) -> dict[str, Any]:
        answer = self.ecs.describe_tasks(cluster=self.name, tasks=[arn])
        return dict(answer["tasks"][0])

    def until(self, arn: str, status: str) -> dict[str, Any]:
        """Wait until a task has this status; return it."""

        def reached() -> dict[str, Any] | None:
            task = self.task(arn)
            return task if task["lastStatus"] == status else None

        return eventually(reached, f"task {status}")


@pytest.fixture
def cluster(account: Account) -> Cluster:
    return Cluster(account)
