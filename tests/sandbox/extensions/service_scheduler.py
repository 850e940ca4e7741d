"""The ECS service scheduler: a service's task that ends is replaced, whoever ended it."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import ecs

# Seconds between a task leaving RUNNING and the scheduler looking at its service.
REACTION_SECONDS = float(os.environ.get("ECS_OPS_SANDBOX_SCHEDULER_SECONDS", "0.2"))

_locks: dict[str, threading.RLock] = defaultdict(threading.RLock)
_due: set[tuple[str, str, str]] = set()
_due_lock = threading.Lock()


def _below_strength(service: dict[str, Any]) -> bool:
    kept = sum(
        task.get("group") == f"service:{service['serviceName']}"
        and task["clusterArn"] == service["clusterArn"]
        and task["lastStatus"] in ecs._PRE_STOP_STATUSES
        for task in list(ecs._tasks.values())
    )
    return bool(service["status"] == "ACTIVE" and kept < service["desiredCount"])


def _look_soon(cluster: str, key: str) -> None:
    scope = ecs.get_account_id(), ecs.get_region()
    due = (*scope, key)
    with _due_lock:
        if due in _due:
            return
        _due.add(due)

    def look() -> None:
        time.sleep(REACTION_SECONDS)
        with _due_lock:
            _due.discard(due)
        with request_scope(*scope):
            ecs._reconcile_service_tasks(cluster, key)

    threading.Thread(target=look, daemon=True, name=f"scheduler-{key}").start()


def install() -> None:
    """Look at a service whenever its counts changed; one look at a time."""
    reconcile = ecs._reconcile_service_tasks
    refresh = ecs._refresh_service_state
    run_task = ecs._run_task

    def run_task_of_deployment(data: dict[str, Any]) -> Any:
        return run_task({**data, "startedBy": data.get("_deploymentId") or data.get("startedBy")})

    def reconcile_alone(cluster: str, key: str) -> None:
        with _locks[f"{ecs.get_account_id()}/{ecs.get_region()}/{key}"]:
            reconcile(cluster, key)

    def refresh_and_look(cluster: str, group: str | None) -> None:
        refresh(cluster, group)
        if group and group.startswith("service:"):
            key = f"{cluster}/{group.removeprefix('service:')}"
            service = ecs._services.get(key)
            if service and _below_strength(service):
                _look_soon(cluster, key)

    ecs._run_task = run_task_of_deployment
    ecs._reconcile_service_tasks = reconcile_alone
    ecs._refresh_service_state = refresh_and_look
    # How long a new task must live before its deployment counts as done.
    ecs._ECS_DEPLOYMENT_STEADY_DELAY = REACTION_SECONDS
