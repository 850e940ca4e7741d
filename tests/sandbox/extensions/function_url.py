"""A function URL can be called as CloudFormation prints it, and knows its caller.

AWS answers at `<id>.lambda-url.<region>.on.aws`, which leads nowhere from a laptop. Here the host
ends in `.localhost`, which curl and browsers take to this machine, and carries the port. With
AWS_IAM, the event names the caller in `requestContext.authorizer.iam`.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import json_response
from ministack.services import lambda_svc


def install() -> None:
    """Rename what is created, and add the caller to what is delivered."""
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

    def build_with_caller(*args: Any, anonymous: bool = False, **kwargs: Any) -> dict[str, Any]:
        event: dict[str, Any] = build_event(*args, anonymous=anonymous, **kwargs)
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
    lambda_svc._build_function_url_event = build_with_caller
