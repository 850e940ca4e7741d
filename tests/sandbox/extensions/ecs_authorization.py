"""ECS actions are authorized on the resources AWS authorizes them on, and as many times.

ministack checks everything against the cluster. Per "Actions, resources, and condition keys for
Amazon ECS": RunTask needs the task definition, StopTask the task, and so on; a role handed to a
task also needs iam:PassRole for it, and tags need ecs:TagResource. Policies can tell resources by
their tags (`aws:ResourceTag/...`).
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import error_response_json, get_account_id, get_region
from ministack.core.router import extract_access_key_id
from ministack.services import ecs, tagging

# Action: the request's member that names the resource, and the resource's type.
_AUTHORIZED_ON = {
    "StopTask": ("task", "task"),
    "DescribeTasks": ("tasks", "task"),
    "GetTaskProtection": ("tasks", "task"),
    "UpdateTaskProtection": ("tasks", "task"),
    "DescribeServices": ("services", "service"),
    "UpdateService": ("service", "service"),
    "DeleteService": ("service", "service"),
}
_access_key: ContextVar[str] = ContextVar("ecs_access_key", default="")


def _arn(kind: str, name: str, cluster: str = "") -> str:
    path = f"{cluster}/{name}" if cluster and "/" not in name else name
    return f"arn:aws:ecs:{get_region()}:{get_account_id()}:{kind}/{path}"


def _named(kind: str, value: str, cluster: str = "") -> str:
    return value if value.startswith("arn:") else _arn(kind, value, cluster)


def _resource(action: str, data: dict[str, Any]) -> str | None:
    """ARN that the action is authorized on; None where ministack's answer will do."""
    cluster = ecs._resolve_cluster_name(data.get("cluster") or "default") or "default"
    if action in {"DescribeTaskDefinition", "ListTasks"}:
        return "*"
    if action == "RunTask":
        definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition", "")))
        given = _named("task-definition", data.get("taskDefinition", ""))
        return definition["taskDefinitionArn"] if definition else given
    if action in _AUTHORIZED_ON:
        member, kind = _AUTHORIZED_ON[action]
        value = data.get(member) or ""
        # A list is authorized item by item on AWS; the first stands for all here.
        return _named(kind, value[0] if isinstance(value, list) else value, cluster)
    return None


def _denied(action: str, resource: str, **context: str) -> Any:
    keys = {name.replace("_", ":", 1): value for name, value in context.items()}
    denial = iam_evaluator.enforce(
        _access_key.get(), action, "ecs", get_region(), resource_arn=resource, service_context=keys
    )
    if denial is None:
        return None
    message = f"User: {iam_evaluator.caller_arn()} is not authorized to perform: {action} on "
    return error_response_json("AccessDeniedException", f"{message}resource: {resource}", 400)


def _roles(data: dict[str, Any]) -> list[str]:
    """Role ARNs that a RunTask hands to its task."""
    definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition", ""))) or {}
    overrides = data.get("overrides") or {}
    names = ("taskRoleArn", "executionRoleArn")
    return [role for name in names if (role := overrides.get(name) or definition.get(name))]


def install() -> None:
    """Name the right resource to ministack's check, and add the checks it does not make."""
    extract = iam_actions.extract_resource_arn
    run_task = ecs._ACTION_MAP["RunTask"]

    def extract_resource_arn(
        service: str, method: str, path: str, headers: dict[str, str], body: bytes, *rest: Any
    ) -> str:
        if service == "ecs":
            _access_key.set(extract_access_key_id(headers, {}))
            action = headers.get("x-amz-target", "").rpartition(".")[2]
            resource = _resource(action, json.loads(body or b"{}"))
            if resource is not None:
                return resource
        return str(extract(service, method, path, headers, body, *rest))

    def authorized_run_task(data: dict[str, Any]) -> Any:
        for role in _roles(data):
            denied = _denied("iam:PassRole", role, iam_PassedToService="ecs-tasks.amazonaws.com")
            if denied:
                return denied
        if data.get("tags"):
            task = _arn("task", ecs._resolve_cluster_name(data.get("cluster", "default")) + "/*")
            denied = _denied("ecs:TagResource", task, ecs_CreateAction="RunTask")
            if denied:
                return denied
        return run_task(data)

    iam_actions.extract_resource_arn = extract_resource_arn
    ecs._ACTION_MAP["RunTask"] = authorized_run_task
    tagging._RESOURCE_TAG_COLLECTORS["ecs"] = tagging._collect_ecs
