"""The function URL launches tasks for those who may, and only what they may."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.http import call
from tests.sandbox.stack import DEMO_CLUSTER, LOG_GROUP
from tests.waiting import eventually

if TYPE_CHECKING:
    import urllib3

    from tests.sandbox.account import Account


def _post(
    account: Account, outputs: dict[str, str], body: str, **headers: str
) -> urllib3.BaseHTTPResponse:
    given = {"content-type": "application/json", **headers}
    return call(account, "POST", outputs["LauncherUrl"], body.encode(), given)


def _tasks(account: Account) -> set[str]:
    ecs = account.client("ecs")
    return {
        arn
        for status in ("RUNNING", "STOPPED")
        for arn in ecs.list_tasks(cluster=DEMO_CLUSTER, family="demo-job", desiredStatus=status)[
            "taskArns"
        ]
    }


def test_task_runs_with_the_environment_when_a_post_asks_for_it(
    account: Account, outputs: dict[str, str]
) -> None:
    answer = _post(account, outputs, '{"GREETING": "good morning", "JOB_NAME": 7}')

    assert answer.status == 202
    run: dict[str, Any] = json.loads(answer.data)
    assert answer.headers["location"] == f"/runs/{run['id']}"
    logs = account.client("logs")

    def output() -> list[dict[str, Any]]:
        try:
            answer = logs.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=f"demo/app/{run['id']}"
            )
        except logs.exceptions.ResourceNotFoundException:
            return []
        return list(answer["events"])

    assert eventually(output, "the task's output")[0]["message"] == "good morning from task 7"
    task = account.client("ecs").describe_tasks(cluster=DEMO_CLUSTER, tasks=[run["taskArn"]])
    assert task["tasks"][0]["launchType"] == "FARGATE"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("no JSON", "body"),
        ("[1]", "body"),
        ('{"LD_PRELOAD": "/tmp/x.so"}', "LD_PRELOAD"),
        ('{"GREETING": {"nested": true}}', "GREETING"),
    ],
)
def test_problem_names_the_field_and_nothing_starts_when_input_is_bad(
    account: Account, outputs: dict[str, str], body: str, field: str
) -> None:
    before = _tasks(account)

    answer = _post(account, outputs, body)

    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.data)["field"] == field
    assert _tasks(account) == before


def test_one_task_runs_when_a_keyed_post_is_repeated(
    account: Account, outputs: dict[str, str]
) -> None:
    key = {"idempotency-key": "order-41"}
    first = _post(account, outputs, '{"GREETING": "once"}', **key)
    again = _post(account, outputs, '{"GREETING": "once"}', **key)
    other = _post(account, outputs, '{"GREETING": "twice"}', **key)

    assert json.loads(first.data) == json.loads(again.data)
    assert other.status == 409


def test_nobody_unsigned_starts_anything_when_access_is_by_iam(
    account: Account, outputs: dict[str, str]
) -> None:
    before = _tasks(account)

    answer = call(account, "POST", outputs["LauncherUrl"], b"{}", sign=False)

    assert answer.status == 403
    assert _tasks(account) == before
