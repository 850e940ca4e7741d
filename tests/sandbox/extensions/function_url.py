"""A function URL can be called as CloudFormation prints it, and knows its caller.

AWS answers at `<id>.lambda-url.<region>.on.aws`, which leads nowhere from a laptop. Here the host
ends in `.localhost`, which curl and browsers take to this machine, and carries the port. With
AWS_IAM, the event names the caller in `requestContext.authorizer.iam`. Without, everybody is let
in only where the function's own policy says so, twice: "Control access to Lambda function URLs".
The query reaches the function as it was sent; a signature over it may depend on that.
"""

from __future__ import annotations

import json
import os
from contextvars import ContextVar
from typing import Any

from ministack import app
from ministack.core import iam_evaluator
from ministack.core.responses import json_response
from ministack.services import lambda_svc

# What a policy has to allow to everybody, and what the request is like for its conditions.
_NEEDED = {
    "lambda:InvokeFunctionUrl": {"lambda:functionurlauthtype": "NONE"},
    "lambda:InvokeFunction": {"lambda:invokedviafunctionurl": "true"},
}
_query: ContextVar[str] = ContextVar("function_url_query", default="")


def _is_open(account: str, region: str, name: str, qualifier: str | None) -> bool:
    """Whether the function's policy lets everybody in."""
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}" + (
        f":{qualifier}" if qualifier else ""
    )
    policy, _owner = lambda_svc.function_policy_for_arn(arn) or ({}, "")
    decisions = {
        iam_evaluator.evaluate_resource_policy(
            policy,
            iam_evaluator.EvalContext(
                principal_arn="anonymous",
                principal_type="Anonymous",
                principal_account="anonymous",
                action=action,
                resource_arn=arn,
                region=region,
                service_context=context,
            ),
        ).decision
        for action, context in _NEEDED.items()
    }
    return decisions == {"Allow"}


def _keep_query() -> None:
    handle = app._handle_special_data_plane_request

    async def handle_keeping_query(*args: Any, **more: Any) -> Any:
        _query.set(more.get("raw_query_string", ""))
        return await handle(*args, **more)

    app._handle_special_data_plane_request = handle_keeping_query


def _check_openness() -> None:
    handle = lambda_svc.handle_function_url_request

    async def handle_if_open(url_id: str, method: str, *args: Any, **more: Any) -> Any:
        resolved = lambda_svc.resolve_function_url(url_id)
        if resolved and resolved[4]["AuthType"] == "NONE" and not _is_open(*resolved[:4]):
            return json_response({"Message": "Forbidden"}, status=403)
        return await handle(url_id, method, *args, **more)

    lambda_svc.handle_function_url_request = handle_if_open


def install() -> None:
    """Rename what is created, let in who may, and complete what is delivered."""
    create = lambda_svc._create_function_url_config
    build_event = lambda_svc._build_function_url_event

    def create_local(name: str, data: dict[str, Any], qualifier: str | None) -> Any:
        status, headers, body = create(name, data, qualifier)
        if status != 201:
            return status, headers, body
        config = lambda_svc._function_urls[lambda_svc._url_config_key(name, qualifier)]
        local = f".localhost:{os.environ['GATEWAY_PORT']}"
        config["FunctionUrl"] = config["FunctionUrl"].replace(".on.aws", local)
        return json_response({**json.loads(body), **config}, status=status)

    def build_complete(*args: Any, anonymous: bool = False, **kwargs: Any) -> dict[str, Any]:
        event: dict[str, Any] = build_event(*args, anonymous=anonymous, **kwargs)
        event["rawQueryString"] = _query.get()
        if not anonymous:
            headers, query = args[5], args[7]
            arn = iam_evaluator.request_caller_arn(headers, query)
            event["requestContext"]["authorizer"] = {
                "iam": {
                    "accessKey": headers["authorization"].partition("Credential=")[2].split("/")[0],
                    "accountId": arn.split(":")[4],
                    "callerId": arn.split("/")[-1],
                    "userArn": arn,
                    "userId": arn.split("/")[-1],
                }
            }
        return event

    lambda_svc._create_function_url_config = create_local
    lambda_svc._build_function_url_event = build_complete
    _keep_query()
    _check_openness()
