"""HTTPS endpoint that launches Fargate tasks, and lets the caller follow and stop them.

Trigger: function URL (payload format 2.0); openapi.json beside this file says what it answers
Permissions: ecs:RunTask, ecs:TagResource, iam:PassRole; ecs:DescribeTasks, ecs:ListTasks,
    ecs:DescribeTaskDefinition, logs:GetLogEvents, dynamodb:Query to follow; ecs:StopTask;
    ssm:GetParameter, secretsmanager:GetSecretValue, dynamodb:PutItem for what is configured
Events: events/launch_task/*.json
"""

from __future__ import annotations

import os
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response
from aws_lambda_powertools.logging import Logger

from ecs_ops.aws.clients import client
from ecs_ops.aws.ecs_tasks import EcsTasks
from ecs_ops.aws.launch_access import ProfilesParameter, Secret, SeenSignatures
from ecs_ops.aws.log_lines import correlate
from ecs_ops.aws.metrics import Metrics, unmeasured
from ecs_ops.launch_access import Access, HmacAccess, IamAccess, TokenAccess
from ecs_ops.launch_api import (
    Reply,
    Request,
    description,
    methods_at,
    no_route,
    page,
    problem_of,
)
from ecs_ops.launch_profile import default_profile
from ecs_ops.launcher import Launcher, NoLog
from ecs_ops.settings import LaunchTaskSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from ecs_ops.aws.metrics import Put
    from ecs_ops.launcher import Log, Output


def routes(
    launcher: Launcher, access: Access, auth: str, log: Logger, put: Put = unmeasured
) -> LambdaFunctionUrlResolver:
    app = LambdaFunctionUrlResolver(debug=False)  # Debugging prints the event, secrets and all.

    def answered_by(
        action: Callable[..., Reply], caller_of: Callable[[Request], str] = access.caller
    ) -> Callable[..., Response[str]]:
        def handle(**parts: str) -> Response[str]:
            request = Request.parse(app.current_event.raw_event)
            caller = caller_of(request)
            told: dict[str, Any] = {
                "caller": caller,
                "method": request.method,
                "path": request.path,
            }
            # One line for each request: a second one would be a twentieth of what it costs.
            try:
                reply = action(request, caller, **parts)
            except Exception:
                log.info("Called", **told)
                raise
            log.info("Called", **told, location=reply.headers.get("Location"))
            return _response(reply)

        return handle

    def console() -> Response[str]:
        return _response(page(_file("console.html")) if auth == "TOKEN" else no_route())

    def openapi() -> Response[str]:
        return _response(description(_file("openapi.json"), auth))

    def other(_error: Exception) -> Response[str]:
        sent = app.current_event
        return _response(no_route(sent.http_method, methods_at(sent.path, _file("openapi.json"))))

    def failed(error: Exception) -> Response[str]:
        reference = app.lambda_context.aws_request_id
        reply = problem_of(error, reference, auth)
        status = str(int(reply.status))
        if reply.status.is_server_error:
            put({"RequestsFailed": 1}, Status=status)
            log.error("Not done", exc_info=error, reference=reference)
        else:
            # Without the error's text, which may quote the caller's.
            log.info("Refused", status=status, error=type(error).__name__)
            put({"RequestsRefused": 1}, Status=status)
        return _response(reply)

    app.get("/")(console)
    app.get("/openapi.json")(openapi)
    app.post("/")(answered_by(launcher.launch_default))
    app.post("/runs")(answered_by(launcher.launch))
    app.get("/runs")(answered_by(launcher.list_runs))
    app.get("/runs/<run_id>")(answered_by(launcher.show))
    app.delete("/runs/<run_id>")(answered_by(launcher.stop))
    app.get("/runs/<run_id>/logs")(answered_by(launcher.read_log))
    app.get("/profiles")(answered_by(launcher.list_profiles))
    app.post("/hooks/<profile>")(answered_by(launcher.launch_from_webhook, access.webhook))
    app.not_found(other)
    app.exception_handler(Exception)(failed)
    return app


def _response(reply: Reply) -> Response[str]:
    return Response(reply.status, reply.content_type, reply.body, reply.headers)


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _access(settings: LaunchTaskSettings) -> Access:
    if settings.auth == "AWS_IAM":
        return IamAccess()
    secret = Secret(partial(client, "secretsmanager"), settings.secret_arn)
    if settings.auth == "TOKEN":
        return TokenAccess(secret)
    seen = SeenSignatures(partial(client, "dynamodb"), settings.signature_table_name)
    return HmacAccess(secret, seen, time.time)


# A launch needs neither of the two, and their imports would be part of its cold start.
def _launched_log(table: str) -> Log:
    from ecs_ops.aws.launched_log import LaunchedLog  # noqa: PLC0415

    return LaunchedLog(client("dynamodb"), table)


def _container_logs() -> Output:
    from ecs_ops.aws.container_logs import ContainerLogs  # noqa: PLC0415

    return ContainerLogs(client("logs"))


@cache
def _wiring(function_arn: str) -> LambdaFunctionUrlResolver:
    settings = LaunchTaskSettings.from_env(os.environ)
    profiles, table = settings.profiles_parameter, settings.event_table_name
    metrics = Metrics(settings.name)
    launcher = Launcher(
        name=settings.name,
        function_arn=function_arn,
        default=default_profile(settings),
        profiles_text=ProfilesParameter(partial(client, "ssm"), profiles) if profiles else None,
        tasks=EcsTasks(client("ecs")),
        log=(lambda: _launched_log(table)) if table else NoLog,
        output=_container_logs,
        count=lambda what, profile: metrics.put({what: 1}, Profile=profile),
    )
    return routes(launcher, _access(settings), settings.auth, Logger(), metrics.put)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    correlate(context.aws_request_id)
    return _wiring(context.invoked_function_arn).resolve(event, context)
