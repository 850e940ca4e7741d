"""Task states take time, and a stopping task passes through all of them.

ministack goes from PROVISIONING to RUNNING and from RUNNING to STOPPED in one step, and stops the
containers after the task already is STOPPED. Here, as in "Amazon ECS task lifecycle":

    PROVISIONING → PENDING → ACTIVATING → RUNNING
    → (desired status STOPPED) → DEACTIVATING → STOPPING → DEPROVISIONING → STOPPED

Containers get SIGTERM while STOPPING, and SIGKILL after the container's `stopTimeout` (30 s); the
exit codes are those of the processes.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from ministack.core.concurrency import resource_lock
from ministack.core.responses import error_response_json, json_response, request_scope
from ministack.services import ecs, ecs_metadata

# Seconds a task spends on its way up and on its way down, besides what its processes take.
START_SECONDS = float(os.environ.get("ECS_OPS_SANDBOX_TASK_START_SECONDS", "0.4"))
STOP_SECONDS = float(os.environ.get("ECS_OPS_SANDBOX_TASK_STOP_SECONDS", "0.4"))
_DEFAULT_STOP_TIMEOUT = 30


def _pause_before(name: str, seconds: float) -> None:
    mark = getattr(ecs, name)

    def paused(task_arn: str, task: dict[str, Any]) -> bool:
        time.sleep(seconds)
        return bool(mark(task_arn, task))

    setattr(ecs, name, paused)


def _begin_stop(task: dict[str, Any], reason: str, stop_code: str) -> bool:
    """Ask for the end of a task; False when it is already ending."""
    arn = task["taskArn"]
    with resource_lock("ecs-task", arn):
        if not ecs._task_is_active(arn, task):
            return False
        ecs._bump_task_version(task)
        task["desiredStatus"] = "STOPPED"
        task["stoppingAt"] = ecs._iso()
        task["stoppedReason"] = reason
        task["stopCode"] = stop_code
    scope = ecs.get_account_id(), ecs.get_region()
    threading.Thread(
        target=_finish_stop, args=(task, *scope), daemon=True, name=f"stop-{arn[-8:]}"
    ).start()
    return True


def _finish_stop(task: dict[str, Any], account: str, region: str) -> None:
    with request_scope(account, region):
        # The agent needs a moment to hear of it: until then the task still counts as running.
        time.sleep(STOP_SECONDS / 2)
        _enter(task, "DEACTIVATING")
        # Its targets are deregistered now; whoever does that says how long they drain.
        time.sleep(max(0, task.get("_drains_until", 0) - time.time()))
        _enter(task, "STOPPING")
        _stop_containers(task)
        task["executionStoppedAt"] = ecs._iso()
        _enter(task, "DEPROVISIONING", counts=True)
        time.sleep(STOP_SECONDS / 2)
        _enter(task, "STOPPED", counts=True)
        ecs._cleanup_task_resources(task, ecs._get_docker())
        if task["stopCode"] in {"EssentialContainerExited", "TaskFailedToStart"}:
            ecs._record_service_task_failure(task)


def _enter(task: dict[str, Any], status: str, *, counts: bool = False) -> None:
    arn = task["taskArn"]
    with resource_lock("ecs-task", arn):
        if counts:
            ecs._bump_task_version(task)
        task["lastStatus"] = status
        if status == "STOPPED":
            task["stoppedAt"] = ecs._iso()
            for container in task["containers"]:
                container["lastStatus"] = "STOPPED"
    ecs_metadata.set_task_status(arn, known_status=status, desired_status="STOPPED")
    cluster = ecs._cluster_name_from_arn(task["clusterArn"])
    ecs._recount_cluster(cluster)
    ecs._refresh_service_state(cluster, task.get("group", ""))


def _stop_containers(task: dict[str, Any]) -> None:
    engine = ecs._get_docker()
    definition = ecs._task_defs.get(ecs._resolve_td_key(task["taskDefinitionArn"])) or {}
    definitions = definition.get("containerDefinitions", [])
    for index, container_id in enumerate(list(task.get("_docker_ids") or [])):
        timeout = definitions[index].get("stopTimeout", _DEFAULT_STOP_TIMEOUT)
        container = engine.containers.get(container_id)
        container.stop(timeout=timeout)
        task["containers"][index]["exitCode"] = container.wait()["StatusCode"]


def _stop_task(data: dict[str, Any], stop_code: str) -> Any:
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    if cluster is None:
        return error_response_json("ClusterNotFoundException", "Cluster not found.", 400)
    task = ecs._resolve_task(data.get("task", ""), cluster)
    if not task:
        message = "The referenced task was not found."
        return error_response_json("InvalidParameterException", message, 400)
    _begin_stop(task, data.get("reason") or "Task stopped by user", stop_code)
    return json_response({"task": ecs._sanitize(task)})


def install() -> None:
    """Spread the start over its states and replace every way a task stops."""
    _pause_before("_mark_task_pending", START_SECONDS / 2)
    _pause_before("_mark_task_activating", START_SECONDS / 2)

    def mark_stopped(
        _arn: str, task: dict[str, Any], reason: str, stop_code: str, **_: object
    ) -> bool:
        _begin_stop(task, reason, stop_code)
        return False  # The caller would clean up; _finish_stop does, when the containers ended.

    def stop_by_scheduler(data: dict[str, Any]) -> Any:
        return _stop_task(data, "ServiceSchedulerInitiated")

    def stop_by_user(data: dict[str, Any]) -> Any:
        return _stop_task(data, "UserInitiated")

    ecs._mark_task_stopped = mark_stopped
    ecs._stop_task = stop_by_scheduler
    ecs._ACTION_MAP["StopTask"] = stop_by_user
