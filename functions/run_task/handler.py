"""Custom::ECSRunTask: runs an ECS task and lets its exit code decide.

Trigger: CloudFormation; or an invocation with a truthy `Test` at the top of the event, which runs
    the task, answers nobody, and returns what the answer would have been.
Permissions: ecs:RunTask, ecs:DescribeTasks, ecs:DescribeTaskDefinition, iam:PassRole, and
    ecs:TagResource for resources that name Tags.
Events: events/run_task/*.json
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from aws_durable_execution_sdk_python import durable_execution

from ecs_ops.aws.clients import client
from ecs_ops.aws.cloudformation import CloudFormation
from ecs_ops.aws.ecs_tasks import EcsTasks
from ecs_ops.aws.task_run import respond

if TYPE_CHECKING:
    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.custom_resource import Answer


@cache
def _wiring() -> tuple[EcsTasks, CloudFormation]:
    return EcsTasks(client("ecs")), CloudFormation()


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> Answer:
    return respond(event, context, *_wiring())
