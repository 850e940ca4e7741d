"""Replaces a service's tasks, never below strength, and always puts the service back.

Trigger: an invocation or a schedule, by the alias `live`; or EventBridge, when an execution of this
    function failed, was stopped or timed out. Runs as a durable execution.
Permissions: those of docs/recycle-service.md on the service; its leases in DynamoDB;
    lambda:InvokeFunction and lambda:GetDurableExecution of itself; sns:Publish; where a request or
    a parameter names them, sts:AssumeRole and secretsmanager:GetSecretValue.
Events: events/recycle_service/*.json
"""

from __future__ import annotations

import os
import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from aws_durable_execution_sdk_python import durable_execution

from ecs_ops.aws.clients import client, later
from ecs_ops.aws.ecs_services import EcsService
from ecs_ops.aws.ended_execution import EndedExecutions, count, ended_arn, is_status_change
from ecs_ops.aws.further_execution import FurtherExecution
from ecs_ops.aws.log_lines import correlate
from ecs_ops.aws.metrics import Metrics
from ecs_ops.aws.recycle_lease import RecycleLease
from ecs_ops.aws.recycle_reports import RecycleReports
from ecs_ops.aws.recycle_rescue import rescue
from ecs_ops.aws.service_recycle import Outside, continuation_of, recycle, without_continuation
from ecs_ops.aws.sessions import clients_for
from ecs_ops.errors import InvalidRequest
from ecs_ops.recycle import RecycleRequest
from ecs_ops.settings import RecycleServiceSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.aws.recycle_rescue import Rescue
    from ecs_ops.recycle import Continued, Report


@cache
def _wiring() -> tuple[RecycleServiceSettings, RecycleReports, Metrics]:
    settings = RecycleServiceSettings.from_env(os.environ)
    reports = RecycleReports(
        partial(client, "sns"),
        partial(client, "secretsmanager"),
        topic_arn=settings.alert_topic_arn,
        smtp_secret_arn=settings.smtp_secret_arn,
        recipients=settings.report_recipients,
        subject_prefix=settings.report_subject_prefix,
    )
    return settings, reports, Metrics(os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""))


@durable_execution
def handler(event: Any, context: DurableContext) -> Report | Continued | Rescue | None:
    _settings, reports, metrics = _wiring()
    if not isinstance(event, dict):
        raise InvalidRequest("input", "must be an object")
    execution = context.execution_context.durable_execution_arn
    handed_over = continuation_of(event, execution)
    correlate(handed_over["run"] if handed_over else ended_arn(event) or execution)
    if is_status_change(event):
        find = partial(EndedExecutions(client("lambda")).read, event)
        outside_of = partial(_outside, event, context)
        return rescue(
            context,
            find,
            outside_of,
            reports.tell_of_rescue,
            time.time,
            put=metrics.put,
            count=partial(count, event, metrics.put),
        )
    request = RecycleRequest.parse(without_continuation(event))
    return recycle(request, context, _outside(event, context, request), handed_over)


def _outside(event: Mapping[str, Any], context: DurableContext, request: RecycleRequest) -> Outside:
    settings, reports, metrics = _wiring()
    function = context.lambda_context
    if function is None:
        raise RuntimeError("Lambda gives every invocation a context")
    clients = clients_for(
        request,
        allowed_role_arns=settings.role_arns,
        allowed_secret_arns=settings.secret_arns,
        session_name=str(function.function_name),
    )
    further_execution = FurtherExecution(
        partial(client, "lambda"), f"{function.function_name}:live"
    )
    return Outside(
        service=EcsService(clients, request.cluster_name, request.service_name),
        leases=RecycleLease(later("dynamodb"), settings.lease_table_name),
        go_on=lambda name, further: further_execution.start(name, {**event, **further}),
        tell=reports.tell,
        put=metrics.put,
    )
