"""What the tests of the local account share: a cluster, and a way to run one command in it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def create_service(self, definition: str, count: int, **request: Any) -> None:
        """Create the service `web`."""
        self.ecs.create_service(
            cluster=self.name,
            serviceName="web",
            taskDefinition=definition,
            desiredCount=count,
            launchType="FARGATE",
            **request,
        )

    def until_running(self, count: int) -> set[str]:
        """Wait until so many tasks of `web` are RUNNING; return the ARNs of those it keeps."""
        eventually(lambda: self.service()["runningCount"] == count, f"{count} tasks running")
        return self.tasks()

    def serve(self, definition: str, count: int, **request: Any) -> set[str]:
        """Create the service `web` and wait for its tasks; return their ARNs."""
        self.create_service(definition, count, **request)
        return self.until_running(count)

    def service(self) -> dict[str, Any]:
        answer = self.ecs.describe_services(cluster=self.name, services=["web"])
        return dict(answer["services"][0])

    def tasks(self) -> set[str]:
        """Return the ARNs of the tasks that the service `web` means to keep."""
        return set(self.ecs.list_tasks(cluster=self.name, serviceName="web")["taskArns"])

    def until(self, arn: str, status: str) -> dict[str, Any]:
        """Wait until a task has this status; return it."""

        def reached() -> dict[str, Any] | None:
            task = self.task(arn)
            return task if task["lastStatus"] == status else None

        return eventually(reached, f"task {status}")


@pytest.fixture
def cluster(account: Account) -> Cluster:
    return Cluster(account)


def allow(action: str, resource: str = "*", **condition: object) -> dict[str, Any]:
    """Return the statement of a policy."""
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def refused(call: Callable[[], object]) -> str:
    """Message of the AccessDenied that `call` meets; '' when it is let through."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"AccessDenied", "AccessDeniedException"}:
            raise
        return error.response["Error"]["Message"]
    return ""


@pytest.fixture
def client_as(account: Account) -> Callable[..., Any]:
    """Return a client of a service, of a new user who has just these statements."""

    def make(service: str, *statements: dict[str, Any]) -> Any:
        iam, name = account.client("iam"), f"user-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return boto3.client(
            service,  # type: ignore[call-overload]
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
            region_name=account.env["AWS_REGION"],
            endpoint_url=account.url,
            verify=str(account.ca_bundle),
        )

    return make
