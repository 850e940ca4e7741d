"""The function URL, with the handler as Lambda calls it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from aws_lambda_powertools.logging import Logger
from moto import mock_aws

from ecs_ops.aws.clients import client
from ecs_ops.errors import AwsFailure, Conflict, Transient
from ecs_ops.settings import LaunchTaskSettings
from ecs_ops.task_request import ContainerDefinition
from functions.launch_task import handler as launch_task
from tests.fake_ecs_tasks import FakeTasks

EVENTS = Path(__file__).parents[2] / "events/launch_task"
ENVIRONMENT = {
    "LAUNCH_CLUSTER": "shop",
    "LAUNCH_TASK_DEFINITION": "nightly",
    "LAUNCH_CONTAINER": "",
    "LAUNCH_SUBNETS": "subnet-1",
    "LAUNCH_SECURITY_GROUPS": "sg-1",
    "LAUNCH_ASSIGN_PUBLIC_IP": "DISABLED",
    "LAUNCH_ALLOWED_ENVIRONMENT": "JOB_*,GREETING",
}


class Context:
    """What the function uses of Lambda's context."""

    aws_request_id = "ref-1"


CONTEXT = cast("Any", Context())


def event(case: str = "post", body: Any = None, **headers: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EVENTS / f"{case}.json").read_text())
    if body is not None:
        content["body"] = body if isinstance(body, str) else json.dumps(body)
    content["headers"] |= headers
    return content


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account with the default profile's cluster and task definition."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    _forget()
    with mock_aws():
        ecs = boto3.client("ecs")
        ecs.create_cluster(clusterName="shop")
        ecs.register_task_definition(
            family="nightly",
            containerDefinitions=[
                {"name": "logs", "image": "logs", "memory": 64, "essential": False},
                {"name": "job", "image": "job", "memory": 64},
            ],
        )
        yield ecs
    _forget()


def _forget() -> None:
    client.cache_clear()
    launch_task._wiring.cache_clear()


def tasks_of(ecs: Any) -> list[dict[str, Any]]:
    arns = ecs.list_tasks(cluster="shop")["taskArns"]
    return list(ecs.describe_tasks(cluster="shop", tasks=arns)["tasks"]) if arns else []


@pytest.mark.parametrize(
    ("case", "environment"),
    [
        (
            "post",
            [
                {"name": "JOB_NAME", "value": "nightly"},
                {"name": "JOB_LIMIT", "value": "100"},
                {"name": "JOB_DRY_RUN", "value": "true"},
            ],
        ),
        ("post_base64", [{"name": "JOB_NAME", "value": "nächtlich"}]),
        ("post_idempotent", [{"name": "JOB_NAME", "value": "nightly"}]),
    ],
)
def test_task_is_launched_when_it_is_posted(
    ecs: Any, case: str, environment: list[dict[str, str]]
) -> None:
    answer = launch_task.handler(event(case), CONTEXT)

    assert answer["statusCode"] == 202
    assert answer["headers"]["Content-Type"] == "application/json"
    (task,) = tasks_of(ecs)
    run = json.loads(answer["body"])
    assert run == {
        "id": task["taskArn"].rsplit("/", 1)[-1],
        "taskArn": task["taskArn"],
        "status": "RUNNING",
        "cluster": task["clusterArn"],
    }
    assert answer["headers"]["Location"] == f"/runs/{run['id']}"
    assert task["launchType"] == "FARGATE"
    assert task["startedBy"] == "launch_task/assumed-role/Developer/alice"
    assert task["overrides"]["containerOverrides"] == [{"name": "job", "environment": environment}]


def test_task_is_launched_as_it_is_when_the_body_is_empty(ecs: Any) -> None:
    sent = event()
    del sent["body"]

    assert launch_task.handler(sent, CONTEXT)["statusCode"] == 202
    assert "containerOverrides" not in tasks_of(ecs)[0]["overrides"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("not json", "body"),
        ([], "body"),
        ({"JOB_NAME": None}, "JOB_NAME"),
        ({"JOB_NAME": {"a": 1}}, "JOB_NAME"),
        ({"PATH": "/tmp"}, "PATH"),
        ({"JOB_NAME": "x" * 9000}, "body"),
    ],
)
def test_nothing_is_launched_when_the_body_is_wrong(ecs: Any, body: Any, field: str) -> None:
    answer = launch_task.handler(event(body=body), CONTEXT)

    assert answer["statusCode"] == 400
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    problem = json.loads(answer["body"])
    assert problem["type"] == "about:blank"
    assert problem["title"] == "Bad Request"
    assert problem["status"] == 400
    assert problem["field"] == field
    assert tasks_of(ecs) == []


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 405), ("GET", "/x", 404)])
def test_problem_is_told_when_nothing_is_there(
    ecs: Any, method: str, path: str, status: int
) -> None:
    sent = event()
    sent["rawPath"] = sent["requestContext"]["http"]["path"] = path
    sent["requestContext"]["http"]["method"] = method

    answer = launch_task.handler(sent, CONTEXT)

    assert answer["statusCode"] == status
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert answer["headers"].get("Allow") == ("POST" if status == 405 else None)
    assert tasks_of(ecs) == []


def post(
    tasks: FakeTasks, sent: dict[str, Any] | None = None, log: io.StringIO | None = None
) -> dict[str, Any]:
    """Post to the routes with tasks that behave as a test tells them to."""
    settings = LaunchTaskSettings.from_env(ENVIRONMENT)
    logger = Logger(service=f"test-{id(log)}", level="DEBUG", stream=log or io.StringIO())
    return dict(launch_task.routes(settings, tasks, logger).resolve(sent or event(), CONTEXT))


def nightly(*containers: ContainerDefinition) -> FakeTasks:
    return FakeTasks(*containers, family="nightly")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Conflict("the token is taken"), 409),
        (Transient("RunTask placed no task: RESOURCE:MEMORY"), 503),
        (AwsFailure("RunTask", "AccessDeniedException", "role/secret-name"), 500),
        (KeyError("tasks"), 500),
    ],
)
def test_problem_is_told_when_ecs_does_not_start_the_task(error: Exception, status: int) -> None:
    tasks = nightly()
    tasks.refusals = [error]

    answer = post(tasks)

    problem = json.loads(answer["body"])
    assert answer["statusCode"] == problem["status"] == status
    assert ("Retry-After" in answer["headers"]) is (status == 503)
    assert problem.get("reference") == ("ref-1" if status >= 500 else None)
    assert "secret-name" not in answer["body"]


def test_operator_is_to_blame_when_the_container_is_in_doubt() -> None:
    tasks = nightly(ContainerDefinition(name="job"), ContainerDefinition(name="proxy"))

    assert post(tasks)["statusCode"] == 500
    assert tasks.calls == []


def test_one_task_is_launched_when_a_keyed_post_is_repeated() -> None:
    tasks = nightly()

    first = post(tasks, event("post_idempotent"))
    again = post(tasks, event("post_idempotent"))

    assert first == again
    assert tasks.started == 1


def test_key_is_the_callers_own_when_another_uses_it_too() -> None:
    tasks = nightly()
    other = event("post_idempotent")
    other["requestContext"]["authorizer"]["iam"]["userArn"] = "arn:aws:iam::1:user/bob"

    post(tasks, event("post_idempotent"))
    post(tasks, other)

    assert tasks.started == 2


def test_no_value_is_logged_when_a_launch_fails() -> None:
    tasks, log = nightly(), io.StringIO()
    tasks.refusals = [AwsFailure("RunTask", "AccessDeniedException", "no")]

    post(tasks, event(body={"JOB_TOKEN": "hunter2"}), log)
    post(tasks, event(body={"TOKEN": "hunter2"}), log)

    # The operator finds the failure by the reference that the caller was told.
    (line,) = log.getvalue().splitlines()
    assert json.loads(line)["reference"] == "ref-1"
    assert "hunter2" not in line
