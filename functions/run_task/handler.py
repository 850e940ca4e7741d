"""Custom::ECSRunTask: runs an ECS task and lets its exit code decide.

Trigger: CloudFormation; or an invocation with a truthy `Test` at the top of the event, which runs
    the task, answers nobody, and returns what the answer would have been; or EventBridge, when an
    execution of this function failed, was stopped or timed out and left a request unanswered.
Permissions: ecs:RunTask, ecs:DescribeTasks, ecs:DescribeTaskDefinition, ecs:StopTask,
    ecs:ListTasks, iam:PassRole; ecs:TagResource for resources that name Tags,
    ecs:DescribeServices for those that name a Service; logs:GetLogEvents,
    cloudformation:DescribeStacks, lambda:GetDurableExecution of its own executions.
Events: events/run_task/*.json
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from aws_durable_execution_sdk_python import durable_execution

from ecs_ops.aws.clients import client, later
from ecs_ops.aws.cloudformation import CloudFormation, Stacks
from ecs_ops.aws.container_logs import ContainerLogs
from ecs_ops.aws.ecs_tasks import EcsTasks
from ecs_ops.aws.ended_execution import EndedExecutions, ended_arn, is_status_change
from ecs_ops.aws.log_lines import correlate
from ecs_ops.aws.metrics import Metrics
from ecs_ops.aws.task_rescue import rescue
from ecs_ops.aws.task_run import Outside, respond

if TYPE_CHECKING:
    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.custom_resource import Answer


@cache
def _wiring() -> Outside:
    return Outside(
        tasks=EcsTasks(later("ecs")),
        stacks=Stacks(later("cloudformation")),
        logs=ContainerLogs(later("logs")),
        answers=CloudFormation(),
        put=Metrics(os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")).put,
    )


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> Answer | None:
    # An execution that ended without an answer is known by its ARN until its request is read.
    correlate(str(event.get("RequestId") or ended_arn(event)))
    if is_status_change(event):
        find = partial(EndedExecutions(client("lambda")).read, event)
        return rescue(event, context, _wiring(), find)
    return respond(event, context, _wiring())
