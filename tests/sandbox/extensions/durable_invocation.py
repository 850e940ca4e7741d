"""Every way of invoking a durable function starts an execution; a name starts one only once.

ministack does so for a direct synchronous call, and answers with its first invocation. Rules:
developer guide, "Invoking durable functions" and "Idempotency"; API reference of Invoke.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from typing import Any

from ministack.core.concurrency import run_reentrant, spawn_background
from ministack.core.responses import error_response_json
from ministack.services import lambda_durable, lambda_svc

_INVALID = "InvalidParameterValueException"
_SYNCHRONOUS_SECONDS = 900
_UNQUALIFIED = "You cannot invoke a durable function using an unqualified ARN."
_TOO_LONG = (
    "You cannot synchronously invoke a durable function with an executionTimeout greater than 15 "
    "minutes."
)

type Json = dict[str, Any]

_starting = threading.RLock()
_endings: dict[str, threading.Event] = {}


class _NameTakenError(Exception):
    """The name belongs to an execution with another payload."""


def _refusal(config: Json, *, synchronous: bool) -> str | None:
    if config["FunctionArn"].endswith(f":function:{config['FunctionName']}"):
        return _UNQUALIFIED
    timeout = int(config["DurableConfig"].get("ExecutionTimeout", 0))
    return _TOO_LONG if synchronous and timeout > _SYNCHRONOUS_SECONDS else None


def _start(config: Json, event: Any, name: str | None = None) -> Json:
    """Start an execution, or find the one that has this name and this payload."""
    function_arn, version = lambda_svc._func_arn(config["FunctionName"]), config["Version"]
    payload = json.dumps(event)
    record: Json
    with _starting:
        for record in lambda_durable._executions.values():
            same_function = record["FunctionArn"].startswith(f"{function_arn}:")
            if same_function and record["DurableExecutionName"] == name:
                if record["InputPayload"] != payload:
                    raise _NameTakenError
                return record
        timeout = config["DurableConfig"].get("ExecutionTimeout")
        record = lambda_durable.create_execution_for_invoke(
            f"{function_arn}:{version}", version, payload, name, execution_timeout=timeout
        )
        lambda_durable.schedule_resume(record["DurableExecutionArn"])
        return record


def _outcome(record: Json) -> Json:
    """Wait for the end, and tell it as the result of an invocation."""
    _endings[record["DurableExecutionArn"]].wait()
    if record["Status"] == "SUCCEEDED":
        return {"body": json.loads(record["Result"] or "null")}
    return _failure(record["Error"].get("ErrorType"), record["Error"].get("ErrorMessage"))


def _failure(kind: str | None, message: str | None) -> Json:
    body = {"errorMessage": message, "errorType": kind}
    return {"error": True, "function_error": "Unhandled", "body": body}


def _execution_arn(function_arn: str, version: str, name: str | None) -> tuple[str, str, str]:
    function, name = ":".join(function_arn.split(":")[:7]), name or str(uuid.uuid4())
    return f"{function}:{version}/durable-execution/{name}/{uuid.uuid4()}", name, name


def _chain(parent: Json, operation_id: str, options: Json, payload: str | None) -> None:
    """Run what `context.invoke` names, and tell the parent's operation how it ended."""

    def run() -> None:
        target, event = options["FunctionName"], json.loads(payload or "{}")
        function, config, _ = lambda_svc._get_func_record_for_ref(target)
        _, qualifier = lambda_svc._resolve_name_and_qualifier(target)
        result: Json
        if function is None:
            result = _failure("ResourceNotFoundException", f"Function not found: {target}")
        elif not config.get("DurableConfig"):
            record = lambda_svc._execution_record_for_config(function, config)
            result = lambda_svc._execute_function(record, event)
        elif qualifier is None:
            result = _failure(_INVALID, _UNQUALIFIED)
        else:
            result = _outcome(_start(config, event))
        body, error = result["body"], None
        if failed := bool(result.get("error")):
            error = {"ErrorType": body.get("errorType"), "ErrorMessage": body.get("errorMessage")}
        lambda_durable._append_chained_result(
            parent, operation_id, success=not failed, result=json.dumps(body), err=error
        )

    spawn_background(run)


def _extend_invoke_api() -> None:
    invoke = lambda_svc._invoke

    async def invoke_durable(
        name: str, event: Any, headers: Json, in_path: str | None = None, query: Json | None = None
    ) -> Any:
        qualifier = in_path or lambda_svc._qp_first(query or {}, "Qualifier") or None
        _, config = lambda_svc._get_func_record_for_qualifier(name, qualifier)
        kind = headers.get("x-amz-invocation-type", "RequestResponse")
        if config is None or not config.get("DurableConfig") or kind == "DryRun":
            return await invoke(name, event, headers, in_path, query)
        invoked = lambda_svc._func_arn(name) + (f":{qualifier}" if qualifier else "")
        refusal = _refusal({**config, "FunctionArn": invoked}, synchronous=kind != "Event")
        if refusal:
            return error_response_json(_INVALID, refusal, 400)
        execution_name = headers.get("x-amz-durable-execution-name")
        if execution_name and not re.fullmatch("[a-zA-Z0-9_-]{1,64}", execution_name):
            message = f"Value '{execution_name}' at 'durableExecutionName' is not valid."
            return error_response_json("ValidationException", message, 400)
        try:
            record = _start(config, event, execution_name)
        except _NameTakenError:
            message = f"A durable execution named {execution_name} has another payload."
            return error_response_json("DurableExecutionAlreadyStartedException", message, 409)
        told = {
            "X-Amz-Executed-Version": record["Version"],
            "X-Amz-Durable-Execution-Arn": record["DurableExecutionArn"],
        }
        if kind == "Event":
            return 202, told, b""
        result = await run_reentrant(_outcome, record)
        if result.get("error"):
            told["X-Amz-Function-Error"] = result["function_error"]
        return (
            200,
            {"Content-Type": "application/json", **told},
            json.dumps(result["body"]).encode(),
        )

    lambda_svc._invoke = invoke_durable


def _extend_other_callers() -> None:
    execute, invoke_later = lambda_svc._execute_function, lambda_svc.invoke_async_with_retry

    def execute_durable(function: Json, event: Any) -> Any:
        config = function.get("config") or function
        invocation_of = (lambda_svc._durable_ctx.get() or {}).get("arn", "")
        if (
            not config.get("DurableConfig")
            or (isinstance(event, dict) and event.get("DurableExecutionArn") == invocation_of)
            or lambda_svc._function_config_scope_mismatch(config)  # It comes back in its scope.
        ):
            return execute(function, event)
        if refusal := _refusal(config, synchronous=True):
            return _failure(_INVALID, refusal)
        return _outcome(_start(config, event))

    def start_later(function: Json, event: Any) -> None:
        config = function.get("config") or function
        if not config.get("DurableConfig"):
            invoke_later(function, event)
            return
        # Without retries: Lambda does not start again an execution that failed.
        if refusal := _refusal(config, synchronous=False):
            raise ValueError(refusal)
        lambda_svc._run_with_function_config_scope(config, _start, config, event)

    lambda_svc._execute_function = execute_durable
    lambda_svc.invoke_async_with_retry = start_later


def install() -> None:
    """Wrap the Invoke API and the two functions behind every other way of invoking."""
    _extend_invoke_api()
    _extend_other_callers()
    emit = lambda_durable._emit_history_event

    def emit_and_note(record: Json, *args: Any, **more: Any) -> None:
        emit(record, *args, **more)
        ended = _endings.setdefault(record["DurableExecutionArn"], threading.Event())
        if record["Status"] != "RUNNING":
            ended.set()

    lambda_durable._emit_history_event = emit_and_note
    lambda_durable.build_durable_execution_arn = _execution_arn
    lambda_durable._fire_chained_invoke = _chain
