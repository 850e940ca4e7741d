"""A task's times are told to the millisecond, and its size is the one that was asked for.

ministack tells seconds, and the size of the task definition whatever RunTask overrides.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from ministack.services import ecs


def _seconds(moment: object) -> object:
    if not isinstance(moment, str) or not moment:
        return moment
    return round(datetime.fromisoformat(moment).timestamp(), 3)


def install() -> None:
    """Take the place of what reads times, and mend what RunTask made."""
    run_task = ecs._ACTION_MAP["RunTask"]

    def run_task_in_size(data: dict[str, Any]) -> Any:
        status, headers, body = run_task(data)
        given = data.get("overrides") or {}
        size = {name: given[name] for name in ("cpu", "memory") if given.get(name)}
        if status != 200 or not size:
            return status, headers, body
        answer = json.loads(body)
        for task in answer["tasks"]:
            task.update(size)
            ecs._tasks[task["taskArn"]].update(size)
        return status, headers, json.dumps(answer).encode()

    ecs._ts_to_epoch = _seconds
    ecs._ACTION_MAP["RunTask"] = run_task_in_size
