"""Every template in docs/examples is deployed with its defaults, does what it says, and goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.stacks import UserStack
from tests.sandbox.account import REPOSITORY
from tests.sandbox.stack import DEMO_CLUSTER, DEMO_SUBNET
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.account import Account

EXAMPLES = {path.stem: path for path in sorted((REPOSITORY / "docs" / "examples").glob("*.y*ml"))}


class Example:
    """One example, deployed."""

    def __init__(self, account: Account, name: str) -> None:
        self.account = account
        self.stack = UserStack(account)
        self._ecs = account.client("ecs")
        self._template = EXAMPLES[name].read_text()

    def create(self, **parameters: str) -> dict[str, str]:
        """Create the stack and return its outputs; `parameters` are those without a default."""
        created = self.stack.create(self._template, **parameters)
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

    def run(self, family: str) -> str:
        """Run a task, not by the stack; return its ARN."""
        answer = self._ecs.run_task(
            cluster=DEMO_CLUSTER,
            taskDefinition=family,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": [DEMO_SUBNET]}},
        )
        return str(answer["tasks"][0]["taskArn"])

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


def _send_events_to_another_account(example: Example) -> None:
    # Another bus of this account takes the part of the other account's: here they cannot send.
    events, sqs = example.account.client("events"), example.account.client("sqs")
    name = example.stack.name
    bus = events.create_event_bus(Name=name)["EventBusArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    pattern = json.dumps({"source": ["aws.ecs"]})
    events.put_rule(Name=name, EventBusName=name, EventPattern=pattern)
    target = {"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}
    events.put_targets(Rule=name, EventBusName=name, Targets=[target])

    example.create(EventBusArn=bus)
    task = example.run("demo-job")

    def received() -> dict[str, Any] | None:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        found = [json.loads(message["Body"]) for message in answer.get("Messages", [])]
        return next((event for event in found if event["detail"].get("taskArn") == task), None)

    event = eventually(received, "an event of the task on the other bus")
    assert event["account"] == task.split(":")[4]
    assert event["resources"] == [task]
    example.delete()
    (rule,) = [one["Name"] for one in events.list_rules(EventBusName=name)["Rules"]]
    assert rule == name
    events.remove_targets(Rule=name, EventBusName=name, Ids=["queue"])
    events.delete_rule(Name=name, EventBusName=name)
    events.delete_event_bus(Name=name)


def _receive_events_of_an_organization(example: Example) -> None:
    events = example.account.client("events")
    outputs = example.create()
    described = events.describe_event_bus()
    assert outputs["EventBusArn"] == described["Arn"]
    (statement,) = json.loads(described["Policy"])["Statement"]
    assert statement["Resource"] == described["Arn"]
    assert statement["Condition"]["StringEquals"]["aws:PrincipalOrgID"] == "o-exampleorg1"
    example.delete()
    assert "Policy" not in events.describe_event_bus()


STORIES: dict[str, Callable[[Example], None]] = {
    "django-migration": _django_migration,
    "fargate-spot": _fargate_spot,
    "inherit-from-service": _inherit_from_service,
    "job-on-delete": _job_on_delete,
    "migration": _migration,
    "receive-events-of-an-organization": _receive_events_of_an_organization,
    "send-events-to-another-account": _send_events_to_another_account,
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
