"""ECS tells EventBridge of every change of a task, of a service's deployments and its actions.

Shapes as in "Amazon ECS events" of the developer guide. Events arrive at least once and in any
order; a cluster tagged `sandbox:events` gets to feel it:

    duplicated    every event is delivered twice, with one id
    reordered     every event is held back for up to a second
"""

from __future__ import annotations

import copy
import json
import queue
import random
import threading
import time
import uuid
from typing import Any

from ministack.core.concurrency import resource_lock
from ministack.core.responses import request_scope
from ministack.services import ecs, eventbridge

_SWITCH = "sandbox:events"
# DescribeTasks shows these too; events do not carry them.
_NOT_IN_EVENTS = {"tags", "healthStatus"}

# Tasks whose version went up, to be looked at once whoever changed them let go of their lock.
_changed: queue.SimpleQueue[tuple[dict[str, Any], str, str]] = queue.SimpleQueue()
_published: dict[str, int] = {}
_deployments: dict[str, str] = {}
_steady: dict[str, bool] = {}


def _publish(cluster_arn: str, resource: str, detail_type: str, detail: dict[str, Any]) -> None:
    account, region = ecs.get_account_id(), ecs.get_region()
    event = {
        "EventId": str(uuid.uuid4()),
        "Source": "aws.ecs",
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
        "EventBusName": "default",
        "Time": int(time.time()),
        "Resources": [resource],
        "Account": account,
        "Region": region,
    }
    tags = ecs._tags.get(cluster_arn) or []
    switches = next((tag["value"] for tag in tags if tag["key"] == _SWITCH), "").split()

    def deliver() -> None:
        with request_scope(account, region):
            for _ in range(2 if "duplicated" in switches else 1):
                eventbridge._dispatch_event(event)

    if "reordered" in switches:
        threading.Timer(random.random(), deliver).start()
    else:
        deliver()


def _publish_changed_tasks() -> None:
    while True:
        task, account, region = _changed.get()
        arn = task["taskArn"]
        with request_scope(account, region):
            with resource_lock("ecs-task", arn):
                seen = copy.deepcopy(task)
            if _published.get(arn, 0) < seen["version"]:
                _published[arn] = seen["version"]
                _publish(seen["clusterArn"], arn, "ECS Task State Change", _task_detail(seen))


def _task_detail(task: dict[str, Any]) -> dict[str, Any]:
    on_fargate = {"containerInstanceArn"} if task["launchType"] == "FARGATE" else set()
    left_out = _NOT_IN_EVENTS | on_fargate
    detail = {
        name: value
        for name, value in ecs._sanitize(task).items()
        if value != "" and name not in left_out
    }
    return {**detail, "updatedAt": ecs._iso()}


def _publish_service(service: dict[str, Any]) -> None:
    for deployment in service["deployments"]:
        state = deployment.get("rolloutState")
        if state and _deployments.get(deployment["id"]) != state:
            _deployments[deployment["id"]] = state
            _publish(
                service["clusterArn"],
                service["serviceArn"],
                "ECS Deployment State Change",
                {
                    "eventType": "ERROR" if state == "FAILED" else "INFO",
                    "eventName": f"SERVICE_DEPLOYMENT_{state}",
                    "deploymentId": deployment["id"],
                    "updatedAt": ecs._iso(),
                    "reason": deployment.get("rolloutStateReason") or f"ECS deployment {state}.",
                },
            )
    steady = (
        len(service["deployments"]) == 1
        and service["runningCount"] == service["desiredCount"]
        and service["pendingCount"] == 0
    )
    was_steady = _steady.get(service["serviceArn"], False)
    _steady[service["serviceArn"]] = steady
    if steady and not was_steady:
        _publish(
            service["clusterArn"],
            service["serviceArn"],
            "ECS Service Action",
            {
                "eventType": "INFO",
                "eventName": "SERVICE_STEADY_STATE",
                "clusterArn": service["clusterArn"],
                "createdAt": ecs._iso(),
            },
        )


def install() -> None:
    """Watch the version of every task and the state of every service."""
    bump, refresh = ecs._bump_task_version, ecs._refresh_service_state

    def notice(task: dict[str, Any]) -> None:
        _changed.put((task, ecs.get_account_id(), ecs.get_region()))

    def bump_and_notice(task: dict[str, Any]) -> None:
        bump(task)
        notice(task)

    def noticing(run_task: Any) -> Any:
        def run_task_and_notice(data: dict[str, Any]) -> Any:
            response = run_task(data)
            for started in json.loads(response[2]).get("tasks", []):
                notice(ecs._tasks[started["taskArn"]])
            return response

        return run_task_and_notice

    def refresh_and_publish(cluster: str, group: str | None) -> None:
        refresh(cluster, group)
        if group and group.startswith("service:"):
            service = ecs._services.get(f"{cluster}/{group.removeprefix('service:')}")
            if service:
                _publish_service(service)

    ecs._bump_task_version = bump_and_notice
    # The scheduler's launches, and the API's.
    ecs._run_task = noticing(ecs._run_task)
    ecs._ACTION_MAP["RunTask"] = noticing(ecs._ACTION_MAP["RunTask"])
    ecs._refresh_service_state = refresh_and_publish
    threading.Thread(target=_publish_changed_tasks, daemon=True, name="task-events").start()
