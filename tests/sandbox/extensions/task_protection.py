"""Task scale-in protection: it can be set and read, and the scheduler spares who has it.

ministack answers both calls with nothing. Rules: API reference of UpdateTaskProtection and of
GetTaskProtection, and "API failure reasons". Protection keeps nobody else from stopping a task.
"""

from __future__ import annotations

import time
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import ecs

_DEFAULT_MINUTES, _MOST_MINUTES, _MOST_TASKS = 120, 2880, 10
_SCALE_IN = "Service scaling down"
_SPARED = {_SCALE_IN, "Task definition updated", "Deployment capacity limit"}

type Json = dict[str, Any]


def _is_protected(task: Json) -> bool:
    return bool(task.get("_protected_until", 0) > time.time())


def _protection(task: Json) -> Json:
    protected = _is_protected(task)
    until = {"expirationDate": task["_protected_until"]} if protected else {}
    return {"taskArn": task["taskArn"], "protectionEnabled": protected, **until}


def _invalid(message: str) -> Any:
    return error_response_json("InvalidParameterException", message, 400)


def _answer(data: Json, until: float | None = None) -> Any:
    cluster = ecs._resolve_cluster_name(data.get("cluster") or "default")
    if cluster not in ecs._clusters:
        return error_response_json("ClusterNotFoundException", "Cluster not found.", 400)
    protected, failures = [], []
    for reference in data.get("tasks") or []:
        task = ecs._resolve_task(reference, cluster)
        if task is None or task["lastStatus"] == "STOPPED":
            failures.append({"arn": reference, "reason": "MISSING"})
        elif not task["group"].startswith("service:"):
            failures.append({"arn": task["taskArn"], "reason": "TASK_NOT_VALID"})
        else:
            if until is not None:
                task["_protected_until"] = until
            protected.append(_protection(task))
    return json_response({"protectedTasks": protected, "failures": failures})


def _update(data: Json) -> Any:
    minutes = data.get("expiresInMinutes", _DEFAULT_MINUTES)
    if not 1 <= minutes <= _MOST_MINUTES:
        return _invalid(f"expiresInMinutes must be from 1 to {_MOST_MINUTES}.")
    if len(data.get("tasks") or []) > _MOST_TASKS:
        return _invalid(f"tasks must have at most {_MOST_TASKS} items.")
    return _answer(data, time.time() + 60 * minutes if data.get("protectionEnabled") else 0)


def _victim(task: Json) -> Json | None:
    """Return the task that scale-in stops where ministack wants this one; None for no task."""
    service = ecs._services.get(
        f"{ecs._cluster_name_from_arn(task['clusterArn'])}/{task['group'].removeprefix('service:')}"
    )
    kept = [
        one
        for one in list(ecs._tasks.values())
        if one["group"] == task["group"]
        and one["clusterArn"] == task["clusterArn"]
        and one["desiredStatus"] == "RUNNING"
    ]
    # ministack counts tasks too that are about to stop.
    if service is None or len(kept) <= service["desiredCount"]:
        return None
    free = [one for one in kept if not _is_protected(one)]
    return task if task in free else max(free, key=lambda one: one["createdAt"], default=None)


def install() -> None:
    """Answer both calls, and stand between the scheduler and the tasks it stops."""
    stop_task = ecs._stop_task

    def stop_unprotected(data: Json) -> Any:
        if data.get("reason") not in _SPARED:
            return stop_task(data)
        task: Json | None = ecs._tasks[data["task"]]
        if data["reason"] == _SCALE_IN:
            task = _victim(ecs._tasks[data["task"]])
        elif _is_protected(ecs._tasks[data["task"]]):
            task = None
        return stop_task({**data, "task": task["taskArn"]}) if task else None

    ecs._stop_task = stop_unprotected
    ecs._ACTION_MAP["GetTaskProtection"] = _answer
    ecs._ACTION_MAP["UpdateTaskProtection"] = _update
