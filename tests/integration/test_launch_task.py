"""The function URL, with the handler as Lambda calls it."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from aws_lambda_powertools.logging import Logger
from moto import mock_aws
from moto.moto_api import state_manager

from ecs_ops.aws.clients import client
from ecs_ops.errors import AwsFailure, Conflict, Throttled, Transient
from ecs_ops.launch_access import IamAccess
from ecs_ops.launch_profile import default_profile
from ecs_ops.launcher import Launcher, NoLog
from ecs_ops.settings import LaunchTaskSettings
from ecs_ops.task_request import ContainerDefinition
from functions.launch_task import handler as launch_task
from tests.fake_ecs_tasks import FakeTasks

EVENTS = Path(__file__).parents[2] / "events/launch_task"
ENVIRONMENT = {
    "LAUNCH_NAME": "ecs-ops-launch-task",
    "LAUNCH_AUTH": "AWS_IAM",
    "LAUNCH_SECRET_ARN": "",
    "LAUNCH_SIGNATURE_TABLE_NAME": "",
    "LAUNCH_PROFILES_PARAMETER": "",
    "EVENT_TABLE_NAME": "",
    "LAUNCH_CLUSTER": "shop",
    "LAUNCH_TASK_DEFINITION": "nightly",
    "LAUNCH_CONTAINER": "",
    "LAUNCH_SUBNETS": "subnet-1",
    "LAUNCH_SECURITY_GROUPS": "sg-1",
    "LAUNCH_ASSIGN_PUBLIC_IP": "DISABLED",
    "LAUNCH_ALLOWED_ENVIRONMENT": "JOB_*,GREETING=[a-z ]+",
    "LAUNCH_ALLOW_COMMAND": "true",
    "LAUNCH_MAX_CPU": "1024",
    "LAUNCH_MAX_MEMORY": "2048",
    "LAUNCH_ALLOWED_TAGS": "Team",
}
TOKEN = "a-token-of-thirty-two-characters"


class Context:
    """What the function uses of Lambda's context."""

    aws_request_id = "ref-1"
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:ecs-ops-launch-task"


CONTEXT = cast("Any", Context())


def event(case: str = "post", body: Any = None, **headers: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EVENTS / f"{case}.json").read_text())
    if body is not None:
        content["body"] = body if isinstance(body, str) else json.dumps(body)
    content["headers"] |= headers
    return content


def at(sent: dict[str, Any], path: str, method: str = "GET") -> dict[str, Any]:
    sent["rawPath"] = sent["requestContext"]["http"]["path"] = path
    sent["requestContext"]["http"]["method"] = method
    return sent


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account with the default profile's cluster and task definition."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    _forget()
    # By itself, moto lets a task run through its whole life from call to call.
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": 100})
    with mock_aws():
        ecs = boto3.client("ecs")
        ecs.create_cluster(clusterName="shop")
        ecs.register_task_definition(
            family="nightly",
            containerDefinitions=[
                {"name": "logs", "image": "logs", "memory": 64, "essential": False},
                {
                    "name": "job",
                    "image": "job",
                    "memory": 64,
                    "logConfiguration": {
                        "logDriver": "awslogs",
                        "options": {"awslogs-group": "/shop", "awslogs-stream-prefix": "ecs"},
                    },
                },
            ],
        )
        yield ecs
    state_manager.unset_transition("ecs::task")
    _forget()


def _forget() -> None:
    client.cache_clear()
    launch_task._wiring.cache_clear()


def tasks_of(ecs: Any) -> list[dict[str, Any]]:
    arns = ecs.list_tasks(cluster="shop")["taskArns"]
    return list(ecs.describe_tasks(cluster="shop", tasks=arns)["tasks"]) if arns else []


def call(sent: dict[str, Any]) -> tuple[int, Any]:
    """Return status and document."""
    answer = launch_task.handler(sent, CONTEXT)
    return answer["statusCode"], json.loads(answer["body"])


class TestLaunch:
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
        self, ecs: Any, case: str, environment: list[dict[str, str]]
    ) -> None:
        answer = launch_task.handler(event(case), CONTEXT)

        assert answer["statusCode"] == 202
        assert answer["headers"]["Content-Type"] == "application/json"
        (task,) = tasks_of(ecs)
        run = json.loads(answer["body"])
        assert run["id"] == task["taskArn"].rsplit("/", 1)[-1]
        assert run["taskArn"] == task["taskArn"]
        assert run["cluster"] == task["clusterArn"]
        assert (run["profile"], run["caller"]) == ("default", "assumed-role/Developer/alice")
        assert answer["headers"]["Location"] == f"/runs/{run['id']}"
        assert task["launchType"] == "FARGATE"
        assert task["startedBy"] == "ecs-ops-launch-task/default/assumed-role/Developer/alice"
        assert task["overrides"]["containerOverrides"] == [
            {"name": "job", "environment": environment}
        ]

    def test_task_is_launched_as_it_is_when_the_body_is_empty(self, ecs: Any) -> None:
        sent = event()
        del sent["body"]

        assert call(sent)[0] == 202
        assert "containerOverrides" not in tasks_of(ecs)[0]["overrides"]

    def test_task_is_launched_as_ordered_when_the_profile_allows_it(self, ecs: Any) -> None:
        assert call(event("post_runs"))[0] == 202

        (task,) = tasks_of(ecs)
        overrides = task["overrides"]
        assert overrides["containerOverrides"][0]["command"] == ["run", "--all"]
        assert (overrides["cpu"], overrides["memory"]) == ("512", "1024")
        described = ecs.describe_tasks(cluster="shop", tasks=[task["taskArn"]], include=["TAGS"])
        tags = {tag["key"]: tag["value"] for tag in described["tasks"][0]["tags"]}
        assert tags == {
            "Team": "search",
            "ecs-ops:launcher": "ecs-ops-launch-task",
            "ecs-ops:profile": "default",
            "ecs-ops:caller": "arn:aws:sts::111122223333:assumed-role/Developer/alice",
        }

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ("not json", "body"),
            ([], "body"),
            ({"JOB_NAME": None}, "JOB_NAME"),
            ({"JOB_NAME": {"a": 1}}, "JOB_NAME"),
            ({"PATH": "/tmp"}, "PATH"),
            ({"GREETING": "Hi!"}, "GREETING"),
            ({"JOB_NAME": "x" * 9000}, "JOB_NAME"),
            ({"JOB_A": "x" * 5000, "JOB_B": "x" * 5000}, "body"),
        ],
    )
    def test_nothing_is_launched_when_the_body_is_wrong(
        self, ecs: Any, body: Any, field: str
    ) -> None:
        answer = launch_task.handler(event(body=body), CONTEXT)

        assert answer["statusCode"] == 400
        assert answer["headers"]["Content-Type"] == "application/problem+json"
        assert json.loads(answer["body"])["field"] == field
        assert tasks_of(ecs) == []

    def test_nothing_is_launched_when_nobody_has_signed(self, ecs: Any) -> None:
        sent = event()
        del sent["requestContext"]["authorizer"]

        assert call(sent)[0] == 401
        assert tasks_of(ecs) == []


class TestFollow:
    def test_run_is_followed_to_its_log_and_stopped(self, ecs: Any) -> None:
        _, run = call(event("post"))
        logs = boto3.client("logs")
        logs.create_log_group(logGroupName="/shop")
        stream = f"ecs/job/{run['id']}"
        logs.create_log_stream(logGroupName="/shop", logStreamName=stream)
        logs.put_log_events(
            logGroupName="/shop",
            logStreamName=stream,
            logEvents=[{"timestamp": int(time.time() * 1000), "message": "hello"}],
        )
        path = f"/runs/{run['id']}"

        status, shown = call(at(event("show_run"), path))
        assert (status, shown["id"], shown["caller"]) == (200, run["id"], run["caller"])
        assert call(event("list_runs"))[0] == 200
        status, log = call(at(event("read_log"), f"{path}/logs"))
        assert (status, [line["message"] for line in log["events"]]) == (200, ["hello"])
        assert call(at(event("stop_run"), path, "DELETE"))[0] in {200, 202}
        assert (
            ecs.describe_tasks(cluster="shop", tasks=[run["taskArn"]])["tasks"][0]["desiredStatus"]
            == "STOPPED"
        )

    @pytest.mark.usefixtures("ecs")
    def test_run_is_not_there_when_it_is_nobodys(self) -> None:
        assert call(event("show_run"))[0] == 404

    @pytest.mark.usefixtures("ecs")
    def test_run_is_read_from_the_log_when_ecs_has_forgotten_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EVENT_TABLE_NAME", "events")
        _forget()
        dynamodb = boto3.client("dynamodb")
        dynamodb.create_table(
            TableName="events",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "resourceArn", "AttributeType": "S"},
                {"AttributeName": "eventKey", "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "resourceArn", "KeyType": "HASH"},
                {"AttributeName": "eventKey", "KeyType": "RANGE"},
            ],
        )
        sent = event("show_run")
        run_id = sent["rawPath"].rsplit("/", 1)[-1]
        record = {
            "resourceArn": f"arn:aws:ecs:eu-west-1:123456789012:task/shop/{run_id}",
            "eventKey": "2026-01-01T00:00:00Z#0000000005#1",
            "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/shop",
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/nightly:1",
            "startedBy": "ecs-ops-launch-task/default/alice",
            "lastStatus": "STOPPED",
            "stopCode": "EssentialContainerExited",
        }
        dynamodb.put_item(
            TableName="events",
            Item={
                **{name: {"S": value} for name, value in record.items()},
                "exitCodes": {"M": {"job": {"N": "3"}}},
                "ttl": {"N": "99999999999"},
                "version": {"N": "5"},
            },
        )

        status, run = call(sent)

        assert (status, run["status"], run["exitCode"]) == (200, "FAILED", 3)


class TestToken:
    @pytest.fixture
    def secret(self, ecs: Any, monkeypatch: pytest.MonkeyPatch) -> str:
        assert ecs
        arn = boto3.client("secretsmanager").create_secret(
            Name="launcher", SecretString=json.dumps({"ci": TOKEN})
        )["ARN"]
        monkeypatch.setenv("LAUNCH_AUTH", "TOKEN")
        monkeypatch.setenv("LAUNCH_SECRET_ARN", arn)
        _forget()
        return str(arn)

    @pytest.mark.usefixtures("secret")
    def test_task_is_launched_in_the_name_of_the_token(self) -> None:
        sent = event("post_token", authorization=f"Bearer {TOKEN}")

        status, run = call(sent)

        assert (status, run["caller"]) == (202, "ci")

    @pytest.mark.usefixtures("secret")
    @pytest.mark.parametrize("authorization", ["", "Bearer no", f"Basic {TOKEN}"])
    def test_nothing_is_told_when_the_token_is_wrong(self, ecs: Any, authorization: str) -> None:
        for case in ("post_token", "post", "list_runs", "show_run", "read_log", "stop_run"):
            status, problem = call(event(case, authorization=authorization))

            assert status == 401
            assert set(problem) == {"type", "title", "status", "detail"}
        assert tasks_of(ecs) == []

    @pytest.mark.usefixtures("secret")
    def test_page_and_document_need_no_token(self) -> None:
        page = launch_task.handler(event("console"), CONTEXT)
        document = launch_task.handler(at(event("console"), "/openapi.json"), CONTEXT)

        assert page["statusCode"] == document["statusCode"] == 200
        assert page["headers"]["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in page["headers"]["Content-Security-Policy"]
        assert json.loads(document["body"])["security"] == [{"token": []}]

    @pytest.mark.usefixtures("ecs")
    def test_page_is_not_there_when_access_is_by_iam(self) -> None:
        assert call(event("console"))[0] == 404

    @pytest.mark.usefixtures("secret")
    def test_profiles_are_those_of_the_parameter_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        profiles = {
            "other": {"taskDefinition": "nightly", "cluster": "shop", "subnets": ["subnet-2"]},
            "broken": {"cluster": 7},
        }
        boto3.client("ssm").put_parameter(
            Name="/profiles", Value=json.dumps(profiles), Type="String"
        )
        monkeypatch.setenv("LAUNCH_PROFILES_PARAMETER", "/profiles")
        _forget()
        authorization = f"Bearer {TOKEN}"

        def order(profile: str) -> tuple[int, Any]:
            return call(event("post_token", {"profile": profile}, authorization=authorization))

        status, run = order("other")
        assert (status, run["profile"]) == (202, "other")
        assert order("broken")[0] == 500
        assert order("unknown")[1]["field"] == "profile"
        _, listed = call(at(event("console", authorization=authorization), "/profiles"))
        assert [profile["name"] for profile in listed["profiles"]] == ["default", "other"]

    @pytest.mark.usefixtures("secret")
    def test_default_profile_is_followed_when_the_parameter_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LAUNCH_PROFILES_PARAMETER", "/nowhere")
        _forget()
        authorization = f"Bearer {TOKEN}"

        _, run = call(event("post", authorization=authorization))

        shown = at(event("show_run", authorization=authorization), f"/runs/{run['id']}")
        assert call(shown)[0] == 200
        order = event("post_token", {"profile": "other"}, authorization=authorization)
        assert call(order)[0] == 500


@pytest.mark.parametrize(
    ("method", "path", "status"), [("PUT", "/", 405), ("DELETE", "/runs", 405), ("GET", "/x", 404)]
)
def test_problem_is_told_when_nothing_is_there(
    ecs: Any, method: str, path: str, status: int
) -> None:
    answer = launch_task.handler(at(event(), path, method), CONTEXT)

    assert answer["statusCode"] == status
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert ("Allow" in answer["headers"]) is (status == 405)
    assert tasks_of(ecs) == []


def post(
    tasks: FakeTasks, sent: dict[str, Any] | None = None, log: io.StringIO | None = None
) -> dict[str, Any]:
    """Post to the routes with tasks that behave as a test tells them to."""
    settings = LaunchTaskSettings.from_env(ENVIRONMENT)
    launcher = Launcher(
        name=settings.name,
        function_arn=Context.invoked_function_arn,
        default=default_profile(settings),
        profiles_text=None,
        tasks=tasks,
        log=NoLog,
        output=lambda: cast("Any", None),
    )
    logger = Logger(service=f"test-{id(log)}", level="DEBUG", stream=log or io.StringIO())
    app = launch_task.routes(launcher, IamAccess(), settings.auth, logger)
    return dict(app.resolve(sent or event(), CONTEXT))


def nightly(*containers: ContainerDefinition) -> FakeTasks:
    return FakeTasks(*containers, family="nightly")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Conflict("the token is taken"), 409),
        (Throttled("RunTask failed: ThrottlingException"), 429),
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
    assert ("Retry-After" in answer["headers"]) is (status in {429, 503})
    assert problem.get("reference") == (None if status == 409 else "ref-1")
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


def test_two_tasks_are_launched_when_a_post_without_a_key_is_repeated() -> None:
    tasks = nightly()
    again = event()
    again["requestContext"]["requestId"] = "another"

    post(tasks)
    post(tasks, again)

    assert tasks.started == 2


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

    assert "ref-1" in log.getvalue()
    assert "hunter2" not in log.getvalue()
