"""CloudFormation and EventBridge invoke asynchronously: at once, and again when it failed.

Lambda repeats an asynchronous invocation twice, or as the EventInvokeConfig of the qualifier that
was invoked says (developer guide, "Asynchronous invocation"); ministack's two callers run the
function once, and CloudFormation waits for it without its ServiceTimeout.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.services import eventbridge, lambda_svc
from ministack.services.cloudformation import custom_resource

type Json = dict[str, Any]


def _invoke(function_arn: str, event: Any) -> None:
    function, config, name = lambda_svc._get_func_record_for_ref(function_arn)
    if function is None:
        raise ValueError(f"Function not found: {name}")
    record = {**function, "config": {**config, "FunctionArn": function_arn}}
    lambda_svc.invoke_async_with_retry(record, event)


def _dispatch_to_lambda(arn: str, payload: str) -> None:
    try:
        event = json.loads(payload)
    except ValueError:
        event = {"body": payload}
    _invoke(arn, event)


def _settings(config: Json) -> Json:
    """EventInvokeConfig of the qualifier that was invoked; none and $LATEST are the same."""
    arn = config["FunctionArn"]
    name, qualifier = lambda_svc._lambda_function_name_and_qualifier_from_arn(arn)
    function = lambda_svc._functions.get(name) or {}
    names = [qualifier] if qualifier not in {None, "$LATEST"} else ["", "$LATEST"]
    found = [lambda_svc._event_invoke_config(function, name) for name in names]
    return next(filter(None, found), {})


def install() -> None:
    """Send both callers to ministack's asynchronous invocation, and that to its settings."""
    invoke_later = lambda_svc.invoke_async_with_retry
    execute = lambda_svc._execute_function_with_config_scope

    def invoke_as_configured(function: Json, event: Any) -> None:
        config = function.get("config") or function
        settings = lambda_svc._run_with_function_config_scope(config, _settings, config)
        record = {**function, "event_invoke_config": settings, "event_invoke_configs": {}}
        invoke_later(record, event)

    def execute_or_invoke(function: Json, event: Any) -> Any:
        url = event.get("ResponseURL", "") if isinstance(event, dict) else ""
        token = url.rpartition("/")[2]
        if token not in custom_resource._pending:
            return execute(function, event)
        try:
            _invoke(event["ResourceProperties"]["ServiceToken"], event)
        except ValueError as refused:
            failed = {"Status": "FAILED", "Reason": str(refused)}
            custom_resource.deliver_response(token, failed)
        return {"body": None}

    lambda_svc.invoke_async_with_retry = invoke_as_configured
    lambda_svc._execute_function_with_config_scope = execute_or_invoke
    eventbridge._dispatch_to_lambda = _dispatch_to_lambda
