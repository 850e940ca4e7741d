"""The comparison of what is granted with what was used finds both kinds of a difference."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.permissions import Grant, denied, granted, unused

STATEMENTS: list[Any] = [
    {"Sid": "Read", "Action": ["ecs:DescribeTasks", "ecs:ListTasks"], "Resource": "*"},
    {"Sid": "Ask", "Action": "dynamodb:Query", "Resource": [{"Ref": "Table"}, {"Ref": "Index"}]},
    {
        "Fn::If": [
            "HasSecret",
            {
                "Sid": "Know",
                "Action": "secretsmanager:GetSecretValue",
                "Resource": {"Fn::Split": [",", {"Ref": "Secrets"}]},
            },
            {"Ref": "AWS::NoValue"},
        ]
    },
]
TEMPLATE = {
    "Resources": {
        "Table": {"Type": "AWS::DynamoDB::Table"},
        "Job": {
            "Type": "AWS::Serverless::Function",
            "Properties": {"Policies": [{"Statement": STATEMENTS}]},
        },
    }
}
GRANTS = granted(TEMPLATE)


def call(sid: str, action: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """Return one that a single grant allows."""
    by = [[sid, action, number]]
    told = {"stack": "ecs-ops", "role": "JobRole", "action": action, "resource": "arn:…"}
    return {**told, "allowed": True, "by": by, **more}


CALLS = [
    call("Read", "ecs:DescribeTasks"),
    call("Read", "ecs:ListTasks"),
    call("Ask", "dynamodb:Query"),
    call("Ask", "dynamodb:Query", 1),
    call("Know", "secretsmanager:GetSecretValue", 2),
]


def test_each_action_on_each_resource_is_a_grant_whatever_the_condition() -> None:
    assert {
        Grant("Job", "Read", "ecs:DescribeTasks", 0),
        Grant("Job", "Read", "ecs:ListTasks", 0),
        Grant("Job", "Ask", "dynamodb:Query", 0),
        Grant("Job", "Ask", "dynamodb:Query", 1),
        Grant("Job", "Know", "secretsmanager:GetSecretValue", 0),
    } == GRANTS


def test_nothing_is_found_when_each_grant_was_needed() -> None:
    assert not denied(CALLS, GRANTS)
    assert not unused(CALLS, GRANTS)


@pytest.mark.parametrize("index", range(len(CALLS)))
def test_grant_is_found_when_no_call_needed_it(index: int) -> None:
    calls = CALLS[:index] + CALLS[index + 1 :]

    (line,) = unused(calls, GRANTS)
    assert CALLS[index]["action"] in line


def test_grant_is_found_when_another_one_allows_the_same() -> None:
    either = call("Ask", "dynamodb:Query", by=[["Ask", "dynamodb:Query", n] for n in range(2)])

    lines = unused([*CALLS[:2], *CALLS[4:], either], GRANTS)

    assert [line.split("dynamodb:Query")[1] for line in lines] == [
        " on its resource 1",
        " on its resource 2",
    ]


@pytest.mark.parametrize("trouble", [{"allowed": False}, {"action": "kms?"}])
def test_call_is_found_when_it_was_denied_or_nowhere_authorized(trouble: dict[str, Any]) -> None:
    bad = {**call("", "ecs:StopTask", by=[]), **trouble}

    (line,) = denied([*CALLS, bad], GRANTS)

    assert bad["action"] in line


def test_call_is_no_matter_when_the_role_is_not_a_functions() -> None:
    assert not denied([call("", "ecs:StopTask", by=[], allowed=False, role="Recycler")], GRANTS)
