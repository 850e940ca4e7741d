"""launch_task as its callers see it: what they may ask for, and how they are told it went wrong.

Errors are problem documents (RFC 9457).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

from ecs_ops.errors import Conflict, InvalidRequest, Transient
from ecs_ops.settings import MissingSettings
from ecs_ops.task_request import (
    Network,
    TaskRequest,
    check_environment,
    choose_container,
    client_token,
    run_task_arguments,
    started_by,
)
from ecs_ops.verdict import task_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mypy_boto3_ecs.type_defs import RunTaskRequestTypeDef

    from ecs_ops.settings import LaunchTaskSettings
    from ecs_ops.task_request import ContainerDefinition
    from ecs_ops.verdict import TaskState

_LONGEST_KEY = 255
_RETRY_AFTER_SECONDS = 5
_METHODS = {"/": "POST"}


class Tasks(Protocol):
    """What `ecs_ops.aws.ecs_tasks.EcsTasks` does, and a fake can do."""

    def run(self, arguments: RunTaskRequestTypeDef) -> TaskState: ...
    def containers(self, task_definition: str) -> Sequence[ContainerDefinition]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One `POST /`, as it came."""

    body: str | None
    is_base64: bool
    """Whether Lambda encoded the body, as it does with bytes that are not text."""
    idempotency_key: str | None
    caller: str
    """ARN of who signed the request; '' when nobody did."""
    request_id: str

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> Self:
        """Read an event of a function URL (payload format 2.0, header names in lower case)."""
        context = event["requestContext"]
        # Each of the two may be there and null.
        iam = (context.get("authorizer") or {}).get("iam") or {}
        return cls(
            body=event.get("body"),
            is_base64=bool(event.get("isBase64Encoded")),
            idempotency_key=event["headers"].get("idempotency-key"),
            caller=iam.get("userArn") or "",
            request_id=context["requestId"],
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer over HTTP."""

    status: HTTPStatus
    content_type: str
    body: str
    """JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)


def launch(request: LaunchRequest, settings: LaunchTaskSettings, tasks: Tasks) -> Reply:
    """Launch the default profile with the environment that the body asks for.

    Returns:
        202, for the task has only been accepted; `Location` is where to ask for it.

    Raises:
        InvalidRequest: body or key are wrong; nothing was started.
        MissingSettings: no container is set, and the task definition leaves a choice.
        EcsOpsError: whatever `tasks` raises.
    """
    environment = read_environment(
        request.body, is_base64=request.is_base64, allowed=settings.allowed_environment
    )
    token = launch_token(
        caller=request.caller, key=request.idempotency_key, request_id=request.request_id
    )
    container = settings.container or _only_container(tasks.containers(settings.task_definition))
    task = tasks.run(
        launch_arguments(
            settings,
            container=container,
            environment=environment,
            caller=request.caller,
            token=token,
        )
    )
    run = {
        "id": task_id(task["taskArn"]),
        "taskArn": task["taskArn"],
        "status": task["lastStatus"],
        "cluster": task["clusterArn"],
    }
    location = {"Location": f"/runs/{run['id']}"}
    return Reply(HTTPStatus.ACCEPTED, "application/json", json.dumps(run), location)


def read_environment(
    body: str | None, *, is_base64: bool, allowed: Iterable[str]
) -> dict[str, str]:
    """Return the environment a caller asks for: a flat JSON object of names and values.

    Numbers and booleans become the text that the JSON holds: `1.10` stays `1.10`. An empty body
    asks for nothing.

    Args:
        body: of the request.
        is_base64: whether Lambda encoded it, as it does with bytes that are not text.
        allowed: names a caller may set; a trailing `*` stands for any ending.

    Raises:
        InvalidRequest: not JSON, not an object, a name twice or not allowed, a value that is null
            or nested. `field` is the name, or `body`.
    """
    text = _decoded(body) if is_base64 and body else body or ""
    if not text.strip():
        return {}
    patterns = tuple(allowed)
    environment = check_environment(_parsed(text), blame="")
    for name in environment:
        if not _is_allowed(name, patterns):
            choice = ", ".join(patterns) or "none"
            raise InvalidRequest(name, f"is not a name you may set; allowed: {choice}")
    return environment


def launch_token(*, caller: str, key: str | None, request_id: str) -> str:
    """Return the client token of one request: the same whenever its caller repeats it.

    Args:
        caller: ARN of who sent it, so that nobody meets another's key; '' when nobody signed it.
        key: its Idempotency-Key header, which says that a request is a repetition.
        request_id: stands in for the key when there is none.

    Raises:
        InvalidRequest: the key is empty or longer than 255 characters.
    """
    if key is None:
        return client_token("launch_task", "request", request_id)
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise InvalidRequest("Idempotency-Key", f"must be 1 to {_LONGEST_KEY} characters long")
    return client_token("launch_task", "key", caller, key)


def launch_arguments(
    settings: LaunchTaskSettings,
    *,
    container: str,
    environment: Mapping[str, str],
    caller: str,
    token: str,
) -> RunTaskRequestTypeDef:
    """Return the keyword arguments of `ecs.run_task` that launch the default profile.

    Raises:
        InvalidRequest: the environment is too large.
    """
    public_ip = settings.assign_public_ip
    task = TaskRequest(
        cluster=settings.cluster,
        task_definition=settings.task_definition,
        environment=environment,
        launch_type="FARGATE",
        network=Network(
            subnets=settings.subnets,
            security_groups=settings.security_groups,
            assign_public_ip="ENABLED" if public_ip == "ENABLED" else "DISABLED",
        ),
    )
    # The account is in the task's own ARN; what is left of the caller's says who it was.
    origin = started_by("launch_task", caller.rsplit(":", 1)[-1] or "anonymous")
    return run_task_arguments(task, container=container, token=token, origin=origin, blame="body")


def problem_of(error: Exception, reference: str) -> Reply:
    """Return the answer to a request that raised `error`.

    Only what the caller can mend is told in detail. For the rest they get `reference`, by which
    the operator finds the error in the log.
    """
    if isinstance(error, InvalidRequest):
        return problem(HTTPStatus.BAD_REQUEST, error.problem, field=error.field)
    if isinstance(error, Conflict):
        return problem(
            HTTPStatus.CONFLICT,
            "This Idempotency-Key was used with another request. Use a new key.",
            field="Idempotency-Key",
        )
    if isinstance(error, Transient):
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Amazon ECS cannot start the task at the moment. Try again, with an Idempotency-Key to "
            "be sure that it starts once.",
            headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
            reference=reference,
        )
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The task could not be started. The operator finds the cause by the reference.",
        reference=reference,
    )


def no_route(path: str) -> Reply:
    """Return the answer to a request that nothing here handles: 405 on a known path, else 404."""
    if method := _METHODS.get(path):
        return problem(HTTPStatus.METHOD_NOT_ALLOWED, f"Use {method}.", headers={"Allow": method})
    return problem(HTTPStatus.NOT_FOUND, "There is nothing at this path.")


def problem(
    status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None, **members: str
) -> Reply:
    """Return a problem document; its type is `about:blank`, for the status says it all."""
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        **members,
    }
    return Reply(status, "application/problem+json", json.dumps(document), headers or {})


def _only_container(containers: Sequence[ContainerDefinition]) -> str:
    try:
        return choose_container(containers, "", blame="LAUNCH_CONTAINER").name
    except InvalidRequest as error:
        # The deployment's mistake, not the caller's.
        raise MissingSettings(str(error)) from error


def _decoded(body: str) -> str:
    try:
        return base64.b64decode(body, validate=True).decode()
    except ValueError as error:
        raise InvalidRequest("body", "is not text in UTF-8") from error


def _parsed(text: str) -> list[tuple[str, object]]:
    # The outermost object is left as the pairs it was written in, so that a name given twice is
    # seen; by then its values are parsed. Numbers stay the text they are.
    try:
        parsed = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_int=str,
            parse_float=str,
            parse_constant=_no_constant,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidRequest("body", "is not JSON") from error
    if not isinstance(parsed, _Pairs):
        raise InvalidRequest("body", "must be a JSON object of environment values")
    return parsed


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, told from a JSON array by its type."""


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest("body", f"is not JSON: {name}")


def _is_allowed(name: str, patterns: Iterable[str]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )
