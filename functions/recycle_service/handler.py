"""Replaces a service's tasks one by one, never below strength.

Trigger: an invocation or a schedule, by the alias `live`; runs as a durable execution.
Permissions: ecs:DescribeServices, ecs:UpdateService, ecs:ListTasks, ecs:DescribeTasks,
    ecs:StopTask.
Events: events/recycle_service/*.json
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from aws_durable_execution_sdk_python import durable_execution
from aws_lambda_powertools import Logger

from ecs_ops.aws.clients import client
from ecs_ops.aws.ecs_services import EcsService
from ecs_ops.aws.service_recycle import recycle
from ecs_ops.recycle import RecycleRequest

if TYPE_CHECKING:
    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.recycle import Report


@cache
def _logger() -> Logger:
    return Logger()


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> Report:
    # The context's logger says a line once, however often the handler is replayed.
    context.set_logger(_logger())
    request = RecycleRequest.parse(event)
    service = EcsService(client("ecs"), request.cluster_name, request.service_name)
    return recycle(request, context, service)
