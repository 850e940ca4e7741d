"""HTTPS endpoint that launches Fargate tasks.

Trigger: function URL (payload format 2.0)
Permissions: ecs:RunTask, iam:PassRole; ecs:DescribeTaskDefinition when no container is set
Events: events/launch_task/*.json
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response
from aws_lambda_powertools.logging import Logger

from ecs_ops.aws.clients import client
from ecs_ops.aws.ecs_tasks import EcsTasks
from ecs_ops.launch_request import LaunchRequest, Reply, Tasks, launch, no_route, problem_of
from ecs_ops.settings import LaunchTaskSettings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def routes(settings: LaunchTaskSettings, tasks: Tasks, log: Logger) -> LambdaFunctionUrlResolver:
    app = LambdaFunctionUrlResolver(debug=False)  # Debugging prints the event, secrets and all.

    def post() -> Response[str]:
        request = LaunchRequest.parse(app.current_event.raw_event)
        return _response(launch(request, settings, tasks))

    def other(_error: Exception) -> Response[str]:
        return _response(no_route(app.current_event.path))

    def failed(error: Exception) -> Response[str]:
        reference = app.lambda_context.aws_request_id
        reply = problem_of(error, reference)
        if reply.status.is_server_error:
            log.error("Not launched", exc_info=error, reference=reference)
        return _response(reply)

    app.post("/")(post)
    app.not_found(other)
    app.exception_handler(Exception)(failed)
    return app


def _response(reply: Reply) -> Response[str]:
    return Response(reply.status, reply.content_type, reply.body, reply.headers)


@cache
def _wiring() -> LambdaFunctionUrlResolver:
    settings = LaunchTaskSettings.from_env(os.environ)
    return routes(settings, EcsTasks(client("ecs")), Logger())


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return _wiring().resolve(event, context)
