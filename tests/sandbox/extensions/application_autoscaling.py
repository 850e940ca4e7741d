"""Application Auto Scaling keeps a service's desired count within bounds.

ministack does not know it. Here are RegisterScalableTarget, DescribeScalableTargets and
DeregisterScalableTarget for services of ECS; no policies and no schedules, so nothing scales by
itself. Rules: API reference of RegisterScalableTarget. Authorized as in "Actions, resources, and
condition keys for AWS Application Auto Scaling": what describes, on `*`; what changes, on the
target, with the condition keys for namespace and dimension; and whoever registers needs to be
allowed what is done in his name ("Permissions validation" in the user guide).
"""

from __future__ import annotations

import json
import time
import uuid
from contextvars import ContextVar
from typing import Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator, router
from ministack.core.concurrency import run_reentrant
from ministack.core.responses import (
    AccountRegionScopedDict,
    error_response_json,
    get_account_id,
    get_region,
    json_response,
)
from ministack.core.router import extract_access_key_id
from ministack.services import ecs

_SERVICE = "application-autoscaling"
_DIMENSION = "ecs:service:DesiredCount"
_CONTEXT = {
    "application-autoscaling:service-namespace": "ServiceNamespace",
    "application-autoscaling:scalable-dimension": "ScalableDimension",
}
_ROLE = (
    "aws-service-role/ecs.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_ECSService"
)

type Json = dict[str, Any]

# Resource id (service/<cluster>/<service>) to target.
_targets: Any = AccountRegionScopedDict()
_access_key: ContextVar[str] = ContextVar("autoscaling_access_key", default="")


class _RefusedError(Exception):
    """Carries the error's code and message."""


def _invalid(message: str) -> _RefusedError:
    return _RefusedError("ValidationException", message)


def _service(resource_id: str) -> Json:
    kind, _, key = resource_id.partition("/")
    service: Json | None = ecs._services.get(key) if kind == "service" else None
    if service is None or service["status"] != "ACTIVE":
        raise _invalid(f"ECS service doesn't exist: {resource_id}")
    return service


def _validate_permissions(service: Json) -> None:
    for action in ("ecs:DescribeServices", "ecs:UpdateService"):
        key, region, arn = _access_key.get(), get_region(), service["serviceArn"]
        if iam_evaluator.enforce(key, action, "ecs", region, resource_arn=arn):
            raise _invalid(f"Unable to assume your permissions: {action} is not allowed on {arn}")


def _register(data: Json) -> Json:
    resource_id = data["ResourceId"]
    service = _service(resource_id)
    _validate_permissions(service)
    known = _targets.get(resource_id)
    target: Json = {**(known or _new(resource_id))}
    names = ("MinCapacity", "MaxCapacity", "SuspendedState")
    target.update({name: data[name] for name in names if name in data})
    if target["MinCapacity"] is None or target["MaxCapacity"] is None:
        raise _invalid("Minimum and maximum capacity are required for a new scalable target")
    if not 0 <= target["MinCapacity"] <= target["MaxCapacity"]:
        raise _invalid("Maximum capacity cannot be less than minimum capacity")
    _targets[resource_id] = target
    # Also when neither bound is in the request.
    count = min(max(service["desiredCount"], target["MinCapacity"]), target["MaxCapacity"])
    if count != service["desiredCount"]:
        _, cluster, name = resource_id.split("/")
        ecs._update_service({"cluster": cluster, "service": name, "desiredCount": count})
    return {"ScalableTargetARN": target["ScalableTargetARN"]}


def _new(resource_id: str) -> Json:
    where = f"{get_region()}:{get_account_id()}"
    return {
        "ServiceNamespace": "ecs",
        "ResourceId": resource_id,
        "ScalableDimension": _DIMENSION,
        "MinCapacity": None,
        "MaxCapacity": None,
        "RoleARN": f"arn:aws:iam::{get_account_id()}:role/{_ROLE}",
        "CreationTime": time.time(),
        "SuspendedState": {
            "DynamicScalingInSuspended": False,
            "DynamicScalingOutSuspended": False,
            "ScheduledScalingSuspended": False,
        },
        "ScalableTargetARN": f"arn:aws:{_SERVICE}:{where}:scalable-target/{uuid.uuid4().hex}",
    }


def _describe(data: Json) -> Json:
    wanted = data.get("ResourceIds")
    found = [target for target in _targets.values() if not wanted or target["ResourceId"] in wanted]
    return {"ScalableTargets": found}


def _deregister(data: Json) -> Json:
    if _targets.pop(data["ResourceId"], None) is None:
        message = f"No scalable target found for resource ID: {data['ResourceId']}"
        raise _RefusedError("ObjectNotFoundException", message)
    return {}


_ACTIONS = {
    "RegisterScalableTarget": _register,
    "DescribeScalableTargets": _describe,
    "DeregisterScalableTarget": _deregister,
}


def _act(action: str, data: Json) -> Any:
    try:
        if data.get("ServiceNamespace") != "ecs":
            raise _invalid("The local account knows the service namespace ecs alone")
        if data.get("ScalableDimension", _DIMENSION) != _DIMENSION:
            raise _invalid(f"Unsupported scalable dimension: {data['ScalableDimension']}")
        return json_response(_ACTIONS[action](data))
    except _RefusedError as refused:
        return error_response_json(*refused.args, 400)


async def _handle(
    _method: str, _path: str, headers: dict[str, str], body: bytes, _query: Json
) -> Any:
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    if action not in _ACTIONS:
        return error_response_json("UnknownOperationException", action, 400)
    _access_key.set(extract_access_key_id(headers, {}))
    return await run_reentrant(_act, action, json.loads(body or b"{}"))


def install() -> None:
    """Make it a service of the gateway, with its actions, resources and condition keys."""
    router.SERVICE_PATTERNS[_SERVICE] = {"target_prefixes": ["AnyScaleFrontendService"]}
    app.SERVICE_HANDLERS[_SERVICE] = _handle
    iam_actions.SERVICE_TO_IAM_NAMESPACE[_SERVICE] = _SERVICE
    resource_of, context_of = iam_actions.extract_resource_arn, iam_actions.request_tag_context

    def extract_resource_arn(
        service: str, method: str, path: str, headers: dict[str, str], body: bytes, *rest: Any
    ) -> str:
        if service != _SERVICE:
            return str(resource_of(service, method, path, headers, body, *rest))
        if headers.get("x-amz-target", "").rpartition(".")[2].startswith("Describe"):
            return "*"
        resource_id = json.loads(body or b"{}").get("ResourceId", "")
        target = _targets.get(resource_id) or _new(resource_id)
        return str(target["ScalableTargetARN"])

    def request_context(service: str, action: str, body: bytes, params: Json) -> Json:
        if service != _SERVICE:
            return dict(context_of(service, action, body, params))
        data = json.loads(body or b"{}")
        return {key: data[member] for key, member in _CONTEXT.items() if member in data}

    iam_actions.extract_resource_arn = extract_resource_arn
    iam_actions.request_tag_context = request_context
