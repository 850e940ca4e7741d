"""The API of durable executions is authorized, and the policy that SAM attaches for it exists.

ministack lets every role checkpoint. On AWS a function needs lambda:CheckpointDurableExecution and
lambda:GetDurableExecutionState, which `AWSLambdaBasicDurableExecutionRolePolicy` grants.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from ministack.core import iam_actions
from ministack.services import iam

_POLICY = "service-role/AWSLambdaBasicDurableExecutionRolePolicy"
_GRANTS = [
    "lambda:CheckpointDurableExecution",
    "lambda:GetDurableExecutionState",
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
]
_EXECUTION = re.compile(
    r"/2025-12-01/durable-executions/(?P<arn>arn:.+?)(/(?P<verb>checkpoint|history|state|stop))?$"
)
_LIST = re.compile(r"/2025-12-01/functions/[^/]+/durable-executions$")
_ACTIONS = {
    None: "GetDurableExecution",
    "checkpoint": "CheckpointDurableExecution",
    "history": "GetDurableExecutionHistory",
    "state": "GetDurableExecutionState",
    "stop": "StopDurableExecution",
}


def install() -> None:
    """Name action and resource to ministack's check, and seed the managed policy."""
    action_of, resource_of = iam_actions.extract_iam_action, iam_actions.extract_resource_arn

    def extract_iam_action(service: str, method: str, path: str, *rest: Any) -> str | None:
        if service == "lambda" and (execution := _EXECUTION.match(unquote(path))):
            return f"lambda:{_ACTIONS[execution['verb']]}"
        if service == "lambda" and _LIST.match(unquote(path)):
            return "lambda:ListDurableExecutionsByFunction"
        action: str | None = action_of(service, method, path, *rest)
        return action

    def extract_resource_arn(service: str, method: str, path: str, *rest: Any) -> str:
        if service == "lambda" and (execution := _EXECUTION.match(unquote(path))):
            return execution["arn"]
        return str(resource_of(service, method, path, *rest))

    iam_actions.extract_iam_action = extract_iam_action
    iam_actions.extract_resource_arn = extract_resource_arn
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": _GRANTS, "Resource": "*"}],
    }
    iam._aws_managed_policies[f"{iam._AWS_MANAGED_POLICY_PREFIX}{_POLICY}"] = (
        iam._make_aws_managed_record(_POLICY, json.dumps(document))
    )
