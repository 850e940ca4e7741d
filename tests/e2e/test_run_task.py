"""Custom::ECSRunTask from a user's stack: the exit code decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.stacks import MIGRATION, UserStack
from tests.sandbox.stack import DEMO_CLUSTER

if TYPE_CHECKING:
    from tests.sandbox.account import Account


@pytest.fixture
def stack(account: Account) -> UserStack:
    return UserStack(account)


def _runs(account: Account, stack: UserStack) -> list[str]:
    """ARNs of all tasks that this stack ever started."""
    ecs = account.client("ecs")
    arns = [
        arn
        for status in ("RUNNING", "STOPPED")
        for arn in ecs.list_tasks(cluster=DEMO_CLUSTER, desiredStatus=status)["taskArns"]
    ]
    tasks = ecs.describe_tasks(cluster=DEMO_CLUSTER, tasks=arns)["tasks"] if arns else []
    return [task["taskArn"] for task in tasks if stack.name in task["startedBy"]]


def test_stack_goes_on_when_the_task_exits_with_0(account: Account, stack: UserStack) -> None:
    created = stack.create(MIGRATION.read_text())

    assert created["StackStatus"] == "CREATE_COMPLETE"
    assert stack.outputs()["ExitCode"] == "0"
    assert _runs(account, stack) == [stack.outputs()["TaskArn"]]


def test_stack_rolls_back_with_the_exit_code_when_the_task_fails(
    account: Account, stack: UserStack
) -> None:
    created = stack.create(MIGRATION.read_text(), ExitCode="3")

    assert created["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "exited with 3" in stack.reason("Migration")
    # What the task wrote last, for whoever has only the console.
    assert "applying 3 migrations" in stack.reason("Migration")
    assert len(_runs(account, stack)) == 1


def test_task_runs_again_and_ref_stays_when_a_property_changes(
    account: Account, stack: UserStack
) -> None:
    stack.create(MIGRATION.read_text())
    before = stack.physical_id("Migration")

    updated = stack.update(MIGRATION.read_text(), TaskDefinition="demo-job")

    assert updated["StackStatus"] == "UPDATE_COMPLETE"
    assert stack.physical_id("Migration") == before
    assert len(_runs(account, stack)) == 2


def test_task_is_tagged_when_the_resource_has_tags(account: Account, stack: UserStack) -> None:
    tagged = "LaunchType: FARGATE\n      Tags: [{Key: team, Value: shop}]"
    stack.create(MIGRATION.read_text().replace("LaunchType: FARGATE", tagged))

    answer = account.client("ecs").describe_tasks(
        cluster=DEMO_CLUSTER, tasks=_runs(account, stack), include=["TAGS"]
    )
    assert [task["tags"] for task in answer["tasks"]] == [[{"key": "team", "value": "shop"}]]


def test_nothing_runs_when_the_stack_is_deleted(account: Account, stack: UserStack) -> None:
    stack.create(MIGRATION.read_text())

    stack.delete()

    assert len(_runs(account, stack)) == 1


def test_reason_names_the_property_and_nothing_runs_when_it_is_unknown(
    account: Account, stack: UserStack
) -> None:
    template = MIGRATION.read_text().replace("TaskDefinition: !Ref", "TaskDefinitoin: !Ref")

    created = stack.create(template)

    assert created["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "TaskDefinitoin" in stack.reason("Migration")
    assert "TaskDefinition" in stack.reason("Migration")
    assert _runs(account, stack) == []
