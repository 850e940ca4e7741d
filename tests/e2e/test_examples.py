"""Every template in docs/examples is deployed with its defaults, does what it says, and goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.stacks import UserStack
from tests.sandbox.account import REPOSITORY
from tests.sandbox.stack import DEMO_CLUSTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.account import Account

EXAMPLES = {path.stem: path for path in sorted((REPOSITORY / "docs" / "examples").glob("*.y*ml"))}


class Example:
    """One example, deployed."""

    def __init__(self, account: Account, name: str) -> None:
        self.stack = UserStack(account)
        self._ecs = account.client("ecs")
        self._template = EXAMPLES[name].read_text()

    def create(self) -> dict[str, str]:
        """Create the stack and return its outputs."""
        created = self.stack.create(self._template)
        assert created["StackStatus"] == "CREATE_COMPLETE", created
        return self.stack.outputs()

    def update(self, **parameters: str) -> dict[str, str]:
        """Update the stack and return its outputs."""
        updated = self.stack.update(self._template, **parameters)
        assert updated["StackStatus"] == "UPDATE_COMPLETE", updated
        return self.stack.outputs()

    def delete(self) -> None:
        self.stack.delete()

    def tasks(self) -> list[dict[str, Any]]:
        """Return every task that run_task ever started for the stack."""
        arns = [
            arn
            for status in ("RUNNING", "STOPPED")
            for arn in self._ecs.list_tasks(cluster=DEMO_CLUSTER, desiredStatus=status)["taskArns"]
        ]
        if not arns:
            return []
        found = self._ecs.describe_tasks(cluster=DEMO_CLUSTER, tasks=arns)["tasks"]
        return [task for task in found if f"/{self.stack.name}/" in task.get("startedBy", "")]

    def service(self, name: str) -> dict[str, Any]:
        answer = self._ecs.describe_services(cluster=DEMO_CLUSTER, services=[name])
        return dict(answer["services"][0])


def _migration(example: Example) -> None:
    outputs = example.create()
    (task,) = example.tasks()
    assert (outputs["TaskArn"], outputs["ExitCode"]) == (task["taskArn"], "0")
    example.delete()
    assert len(example.tasks()) == 1


def _django_migration(example: Example) -> None:
    outputs = example.create()
    (task,) = example.tasks()
    assert task["taskArn"] == outputs["MigrationTaskArn"]
    assert task["containers"][0]["exitCode"] == 0
    assert example.service(outputs["ServiceName"])["taskDefinition"] == outputs["TaskDefinition"]

    # A new image is migrated before the service gets it.
    updated = example.update(Image="public.ecr.aws/docker/library/busybox:latest")
    assert updated["TaskDefinition"] != outputs["TaskDefinition"]
    (second,) = [one for one in example.tasks() if one["taskArn"] != task["taskArn"]]
    assert second["taskArn"] == updated["MigrationTaskArn"]
    assert second["taskDefinitionArn"] == updated["TaskDefinition"]
    assert example.service(outputs["ServiceName"])["taskDefinition"] == updated["TaskDefinition"]

    example.delete()
    assert len(example.tasks()) == 2


def _job_on_delete(example: Example) -> None:
    assert example.create() == {"Outcome": "Skipped"}
    assert example.tasks() == []
    example.delete()
    (task,) = example.tasks()
    assert task["containers"][0]["exitCode"] == 0


def _fargate_spot(example: Example) -> None:
    outputs = example.create()
    (task,) = example.tasks()
    assert (outputs["TaskArn"], outputs["ExitCode"]) == (task["taskArn"], "0")
    assert task["capacityProviderName"] == "FARGATE_SPOT"
    example.delete()


def _inherit_from_service(example: Example) -> None:
    outputs = example.create()
    (task,) = example.tasks()
    assert (outputs["TaskArn"], outputs["ExitCode"]) == (task["taskArn"], "0")
    assert task["launchType"] == example.service(outputs["ServiceName"])["launchType"]
    example.delete()


STORIES: dict[str, Callable[[Example], None]] = {
    "django-migration": _django_migration,
    "fargate-spot": _fargate_spot,
    "inherit-from-service": _inherit_from_service,
    "job-on-delete": _job_on_delete,
    "migration": _migration,
}


@pytest.fixture
def example(account: Account, request: pytest.FixtureRequest) -> Iterator[Example]:
    """Deployable; deleted even if the story broke off."""
    deployed = Example(account, request.param)
    yield deployed
    account.client("cloudformation").delete_stack(StackName=deployed.stack.name)


@pytest.mark.parametrize(
    ("example", "name"), [(name, name) for name in EXAMPLES], ids=EXAMPLES, indirect=["example"]
)
def test_example_does_what_it_says_when_it_is_deployed_with_its_defaults(
    example: Example, name: str
) -> None:
    assert name in STORIES, f"docs/examples/{name}.yaml has no story here"

    STORIES[name](example)
