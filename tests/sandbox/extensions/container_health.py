"""Container health checks run, and a service's task that fails them is replaced.

ministack's containers are UNKNOWN for ever. Rules: API reference of HealthCheck, and Docker's
HEALTHCHECK, to which it maps: a check passes with exit code 0; `retries` failures in a row make a
container UNHEALTHY; those in the `startPeriod` do not count, unless one has passed before.

The time from one check to the next is `ECS_OPS_SANDBOX_HEALTH_SECONDS`, and the start period is
shortened by as much. Processes alone: with Docker nothing is checked.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import ecs

# Seconds from one check of a container to the next, whatever its `interval` says.
HEALTH_SECONDS = float(os.environ.get("ECS_OPS_SANDBOX_HEALTH_SECONDS", "0.3"))
_INTERVAL, _TIMEOUT, _RETRIES = 30, 5, 3
_FAILED = "Task failed container health checks"

type Json = dict[str, Any]


def _command(words: list[str]) -> list[str] | None:
    """Return what is run; None when the check is disabled."""
    match words:
        case ["NONE"]:
            return None
        case ["CMD", *command]:
            return command
        case ["CMD-SHELL", *rest]:
            return ["/bin/sh", "-c", " ".join(rest)]
        case _:
            return ["/bin/sh", "-c", " ".join(words)]


def _task_health(task: Json) -> str:
    """Return the worst of its essential containers, with UNKNOWN between the two others."""
    essential = {
        container.get("healthStatus", "UNKNOWN")
        for container, is_essential in zip(
            task["containers"], task["_container_essentials"], strict=True
        )
        if is_essential
    }
    order = ("UNHEALTHY", "UNKNOWN", "HEALTHY")
    return next(status for status in order if status in essential)


def _watch(task: Json, index: int, check: Json, account: str, region: str) -> None:
    container = ecs._get_docker().containers.get(task["_docker_ids"][index])
    command = _command(check["command"])
    start_period = check.get("startPeriod") or 0
    quiet_until = time.monotonic() + start_period * HEALTH_SECONDS / check.get(
        "interval", _INTERVAL
    )
    failures, has_passed = 0, False
    while command and task["desiredStatus"] == "RUNNING" and container.status == "running":
        time.sleep(HEALTH_SECONDS)
        if container.run_inside(command, check.get("timeout", _TIMEOUT)) == 0:
            failures, has_passed, status = 0, True, "HEALTHY"
        elif not has_passed and time.monotonic() < quiet_until:
            continue
        else:
            failures += 1
            if failures < check.get("retries", _RETRIES):
                continue
            status = "UNHEALTHY"
        task["containers"][index]["healthStatus"] = status
        task["healthStatus"] = _task_health(task)
        if task["healthStatus"] == "UNHEALTHY" and task["group"].startswith("service:"):
            with request_scope(account, region):
                ecs._mark_task_stopped(task["taskArn"], task, _FAILED, "ServiceSchedulerInitiated")


def install() -> None:
    """Begin with the checks when a task is RUNNING."""
    if os.environ.get("ENGINE") == "docker":
        return
    mark_running = ecs._mark_task_running

    def mark_running_and_watch(arn: str, task: Json) -> bool:
        if not mark_running(arn, task):
            return False
        definition = ecs._task_defs.get(ecs._resolve_td_key(task["taskDefinitionArn"])) or {}
        for index, container in enumerate(definition.get("containerDefinitions", [])):
            if check := container.get("healthCheck"):
                scope = ecs.get_account_id(), ecs.get_region()
                threading.Thread(
                    target=_watch,
                    args=(task, index, check, *scope),
                    daemon=True,
                    name=f"health-{arn[-8:]}-{index}",
                ).start()
        return True

    ecs._mark_task_running = mark_running_and_watch
