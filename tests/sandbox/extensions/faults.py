"""Bad days, on demand: what AWS does when it does not do as it is asked.

Nothing happens unless a test asks for it, at a path of the gateway, without a signature:

    PUT  /_sandbox/faults                      a rule, JSON: the members of `Rule`
    GET  /_sandbox/faults?about=<name>         its rules and how often each came true; what
                                               CloudFormation asked custom resources, and every
                                               answer it was given; durable executions
    POST /_sandbox/faults/spot-interruption    {"task": ARN}: its capacity is taken back
    POST /_sandbox/faults/forgetting           {"task": ARN}: ECS forgets a stopped task, as it does
                                               after an hour
    POST /_sandbox/faults/time-out             {"execution": ARN}: its ExecutionTimeout is over
    POST /_sandbox/faults/memory               {"execution": ARN, "operation": name, "numbers": {}}:
                                               the operation has ended with these in its result

A rule applies to what mentions its name: a call in its path, query or body, an operation of a
durable execution in the event it began with. A test that names its stack, cluster, task definition
and log group alike has its bad luck for itself. `tests.e2e.faults` is the client.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import threading
import time
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from hypercorn.protocol.http_stream import HTTPStream
from ministack import app
from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.services import ecs, lambda_durable, lambda_svc
from ministack.services.cloudformation import custom_resource

if TYPE_CHECKING:
    import subprocess

PATH = "/_sandbox/faults"
_EXECUTION = re.compile(r"/durable-executions/(?P<arn>arn:.+/durable-execution/[^/]+/[^/]+)")
ANSWER = "cloudformation:Answer"
"""Somebody puts an answer to a ResponseURL."""
REQUEST = "cloudformation:Request"
"""CloudFormation asks a custom resource."""

type Json = dict[str, Any]
type Response = tuple[int, dict[str, Any], Any]


@dataclasses.dataclass(kw_only=True)
class Rule:
    """What goes wrong, when, and how often."""

    about: str
    """Name that must be mentioned."""
    action: str
    """As in a policy (`ecs:RunTask`, `logs:*`), or one of the two above."""
    fault: Literal["refuse", "answer", "lose", "kill before", "kill after", "repeat"]
    """Answer with an error; answer 200 with `body`; do it and drop the connection; SIGKILL to the
    function's process before it is done, or after; deliver a request twice."""
    times: int | None = 1
    """How often; None: always."""
    skip: int = 0
    """How many that fit are let pass before."""
    function: str = ""
    """Only calls of this function."""
    operation: str = ""
    """Only checkpoints that say something of the durable operation of this name ..."""
    updates: list[str] = dataclasses.field(default_factory=list)
    """... and that it did one of these: START, SUCCEED, FAIL, RETRY."""
    status: int = 400
    code: str = ""
    body: Json = dataclasses.field(default_factory=dict)
    happened: int = 0
    """How often it came true."""


@dataclasses.dataclass(frozen=True)
class _Call:
    """One thing that somebody asks of AWS."""

    action: str
    text: str
    caller: str = ""
    checkpointed: frozenset[tuple[str, str]] = frozenset()
    """Name of the operation, and what it did."""


_rules: list[Rule] = []
_requests: list[Json] = []
_answers: list[Json] = []
# What each busy worker of a function was invoked with.
_invocations: dict[lambda_runtime.Worker, str] = {}
_one_at_a_time = threading.Lock()
# Whether the request that this is about gets no answer.
_unanswered: ContextVar[bool] = ContextVar("unanswered", default=False)


def _fits(rule: Rule, call: _Call) -> bool:
    return (
        fnmatchcase(call.action, rule.action)
        and rule.about in call.text
        and rule.function in {"", call.caller}
        and (
            not rule.operation
            or any(
                rule.operation == name and (not rule.updates or action in rule.updates)
                for name, action in call.checkpointed
            )
        )
    )


def _struck_by(call: _Call) -> Rule | None:
    """Find the first rule whose turn it is, and count it."""
    with _one_at_a_time:
        for rule in _rules:
            if rule.times is not None and rule.happened >= rule.times:
                continue
            if not _fits(rule, call):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            rule.happened += 1
            return rule
    return None


def _call(method: str, path: str, headers: Json, body: bytes, query: Json) -> _Call:
    routing = app._routing_params(method, path, headers, body, query)
    service = app.detect_service(method, path, headers, routing)
    action = iam_actions.extract_iam_action(service, method, path, headers, body, routing)
    text, checkpointed = f"{path} {query} {body.decode(errors='replace')}", frozenset[Any]()
    if execution := _EXECUTION.search(unquote(path)):
        record = lambda_durable._executions.get(execution["arn"]) or {}
        text += record.get("InputPayload", "")
        names = {one["Id"]: one.get("Name") for one in record.get("Operations", [])}
        checkpointed = frozenset(
            (one.get("Name") or names.get(one["Id"]), one["Action"])
            for one in json.loads(body or b"{}").get("Updates") or []
        )
    caller = iam_evaluator.request_caller_arn(headers, query).rpartition("/")[2]
    return _Call(str(action), text, caller, checkpointed)


def _refusal(rule: Rule, request: tuple[Any, ...]) -> Response:
    method, path, headers, body, query = request[:5]
    routing = app._routing_params(method, path, headers, body, query)
    service = app.detect_service(method, path, headers, routing)
    # Every service has its own way to say so: JSON, XML or CBOR.
    _, told, text = iam_actions.access_denied_response(
        service,
        rule.action,
        "",
        "",
        error_code=rule.code,
        message="as the test asked for",
        headers=headers,
    )
    return rule.status, told, text


def _lost() -> Response:
    """Leave whoever asked without an answer: the connection just ends."""
    _unanswered.set(True)
    return 500, {}, b""


def _kill(about: str) -> None:
    """End the processes of functions that are at work on this, as nobody can prevent."""
    for worker, event in list(_invocations.items()):
        process: subprocess.Popen[str] | None = worker._proc
        if about in event and process:
            process.kill()
            process.wait()


async def _suffer(rule: Rule, go_on: Any, request: tuple[Any, ...]) -> Response:
    if rule.fault == "refuse":
        return _refusal(rule, request)
    if rule.fault == "answer":
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(rule.body).encode()
    if rule.fault == "kill before":
        await asyncio.to_thread(_kill, rule.about)
        return _lost()
    await go_on(*request)
    if rule.fault == "kill after":
        await asyncio.to_thread(_kill, rule.about)
    return _lost()


def _report(about: str) -> Json:
    return {
        "rules": [dataclasses.asdict(rule) for rule in _rules if rule.about == about],
        "requests": [one for one in _requests if about in json.dumps(one)],
        "answers": [one for one in _answers if about in json.dumps(one)],
        "executions": [
            arn
            for arn, record in list(lambda_durable._executions.items())
            if about in record["InputPayload"]
        ],
    }


def _control(method: str, path: str, body: bytes, query: Json) -> Response:
    told = json.loads(body or b"{}")
    answer: Json = {}
    match method, path.removeprefix(PATH):
        case "PUT", "":
            _rules.append(Rule(**told))
        case "GET", "":
            answer = _report(query["about"][0])
        case "POST", "/spot-interruption":
            reason = "Your Spot Task was interrupted."
            task = ecs._tasks[told["task"]]
            ecs._mark_task_stopped(told["task"], task, reason, "SpotInterruption")
        case "POST", "/forgetting":
            if ecs._tasks[told["task"]]["lastStatus"] == "STOPPED":
                del ecs._tasks[told["task"]]
        case "POST", "/time-out":
            lambda_durable._time_out_execution(lambda_durable._executions[told["execution"]])
        case "POST", "/memory":
            operations = lambda_durable._executions[told["execution"]]["Operations"]
            ended = next(one for one in operations if one.get("Name") == told["operation"])
            result = json.loads(ended["StepDetails"]["Result"])
            # The SDK stores the type of each value beside it.
            result["v"] |= {name: {"t": "i", "v": one} for name, one in told["numbers"].items()}
            ended["StepDetails"]["Result"] = json.dumps(result)
        case _:
            return 404, {"Content-Type": "application/json"}, b"{}"
    return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


def _watch_gateway() -> None:
    dispatch, shortcut = app._dispatch_service_request, app._handle_post_body_shortcuts

    # Both get: method, path, headers, body, query, request id.
    async def dispatch_or_suffer(*request: Any) -> Any:
        rule = _struck_by(_call(*request[:5])) if _rules else None
        return await (_suffer(rule, dispatch, request) if rule else dispatch(*request))

    async def answer_or_suffer(*request: Any) -> Any:
        method, path, _headers, body, query, _request_id = request
        if path.startswith(PATH):
            return _control(method, path, body, query)
        is_answer = path.startswith("/_ministack/cfn-response/")
        rule = _struck_by(_Call(ANSWER, body.decode())) if is_answer else None
        return await (_suffer(rule, shortcut, request) if rule else shortcut(*request))

    app._dispatch_service_request = dispatch_or_suffer
    app._handle_post_body_shortcuts = answer_or_suffer


def _watch_answers() -> None:
    send_response, send_error = app._send_response, HTTPStream._send_error_response

    async def send_or_not(*args: Any, **more: Any) -> None:
        if not _unanswered.get():
            await send_response(*args, **more)

    async def send_error_or_not(stream: HTTPStream, status: int) -> None:
        # What hypercorn says for an application that said nothing.
        if not _unanswered.get():
            await send_error(stream, status)

    app._send_response = send_or_not
    HTTPStream._send_error_response = send_error_or_not


def _watch_custom_resources() -> None:
    deliver = custom_resource.deliver_response
    execute = lambda_svc._execute_function_with_config_scope

    def deliver_and_note(token: str, answer: Json) -> bool:
        waiting = custom_resource._pending.get(token)
        first = waiting is not None and waiting["result"] is None
        # CloudFormation goes by the first answer.
        delivered = bool(deliver(token, answer)) if first else waiting is not None
        _answers.append({**answer, "Accepted": first, "At": time.time()})
        return delivered

    def request_and_note(function: Json, event: Any) -> Any:
        url = event.get("ResponseURL", "") if isinstance(event, dict) else ""
        if url.rpartition("/")[2] not in custom_resource._pending:
            return execute(function, event)
        _requests.append({"Event": event, "At": time.time()})
        if _struck_by(_Call(REQUEST, json.dumps(event))):
            execute(function, event)
        return execute(function, event)

    custom_resource.deliver_response = deliver_and_note
    lambda_svc._execute_function_with_config_scope = request_and_note


def _watch_workers() -> None:
    invoke = lambda_runtime.Worker.invoke

    def invoke_and_note(worker: lambda_runtime.Worker, event: Any, *args: Any, **more: Any) -> Any:
        _invocations[worker] = json.dumps(event)
        try:
            return invoke(worker, event, *args, **more)
        finally:
            del _invocations[worker]

    lambda_runtime.Worker.invoke = invoke_and_note


def install() -> None:
    """Listen at the gateway, between CloudFormation and its resources, and to the workers."""
    _watch_gateway()
    _watch_answers()
    _watch_custom_resources()
    _watch_workers()
