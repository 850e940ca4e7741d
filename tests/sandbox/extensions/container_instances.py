"""A task without a network interface of its own is reached by the ports of an instance.

ministack knows no container instances, and registers each task by an address. On AWS a task in the
network mode `bridge` or `host` is a target by the id of its EC2 instance and its host port. Each
such task has an instance to itself here, so that its host ports are those of its containers.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ministack.core import iam_actions
from ministack.core.responses import json_response
from ministack.services import ecs

type Json = dict[str, Any]


def _instance_id(container_instance: str) -> str:
    return f"i-{hashlib.sha256(container_instance.encode()).hexdigest()[:17]}"


def _describe(data: Json) -> Any:
    known = {task["containerInstanceArn"] for task in list(ecs._tasks.values())}
    asked = data.get("containerInstances", [])
    return json_response(
        {
            "containerInstances": [
                {"containerInstanceArn": arn, "ec2InstanceId": _instance_id(arn)}
                for arn in asked
                if arn in known
            ],
            "failures": [{"arn": arn, "reason": "MISSING"} for arn in asked if arn not in known],
        }
    )


def install() -> None:
    """Bind ports, tell the target, and describe the instance to whoever may ask about it."""
    build, target_of = ecs._build_task_containers, ecs._task_ip
    resource_of = iam_actions.extract_resource_arn

    def build_bound(definition: Json, overrides: Any) -> Any:
        containers = build(definition, overrides)
        if definition.get("networkMode") != "awsvpc":
            for container, its in zip(
                containers, definition.get("containerDefinitions", []), strict=False
            ):
                container["networkBindings"] = [
                    {**port, "hostPort": port.get("hostPort") or port["containerPort"]}
                    for port in its.get("portMappings", [])
                ]
        return containers

    def target(task: Json) -> Any:
        if task["_network_mode"] == "awsvpc":
            return target_of(task)
        return _instance_id(task["containerInstanceArn"])

    def extract_resource_arn(
        service: str, method: str, path: str, headers: Any, body: bytes, *rest: Any
    ) -> str:
        if service == "ecs" and headers.get("x-amz-target", "").endswith(
            ".DescribeContainerInstances"
        ):
            # A list is authorized item by item on AWS; the first stands for all here.
            return str(json.loads(body)["containerInstances"][0])
        return str(resource_of(service, method, path, headers, body, *rest))

    ecs._build_task_containers = build_bound
    ecs._task_ip = target
    ecs._ACTION_MAP["DescribeContainerInstances"] = _describe
    iam_actions.extract_resource_arn = extract_resource_arn
