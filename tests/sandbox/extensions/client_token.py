"""RunTask honours `clientToken`: the same request gets the first result, another one a conflict.

Of a task that has stopped since, the result is its ARN and two statuses.
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import ecs

_locks: dict[tuple[str, str, str], threading.Lock] = defaultdict(threading.Lock)
_results: dict[tuple[str, str, str], tuple[str, Any]] = {}


_OF_A_STOPPED_TASK = ("taskArn", "lastStatus", "desiredStatus")


def _repeated(response: Any) -> Any:
    status, headers, body = response
    answer = json.loads(body)
    known = [ecs._tasks.get(task["taskArn"], task) for task in answer["tasks"]]
    answer["tasks"] = [
        {name: task[name] for name in _OF_A_STOPPED_TASK}
        if task["lastStatus"] == "STOPPED"
        else first
        for task, first in zip(known, answer["tasks"], strict=True)
    ]
    return status, headers, json.dumps(answer).encode()


def install() -> None:
    """Wrap the API action; the service scheduler's own launches carry no token."""
    run_task = ecs._ACTION_MAP["RunTask"]

    def run_task_once(data: dict[str, Any]) -> Any:
        token = data.get("clientToken")
        if not token:
            return run_task(data)
        key = ecs.get_account_id(), ecs.get_region(), token
        request = json.dumps(data, sort_keys=True)
        with _locks[key]:
            if key not in _results:
                response = run_task(data)
                # A request that started nothing has not used its token up.
                if response[0] == 200 and json.loads(response[2])["tasks"]:
                    _results[key] = request, response
                return response
            first_request, first_response = _results[key]
        if request != first_request:
            message = "The clientToken was already used with a different request."
            return error_response_json("ConflictException", message, 400)
        return _repeated(first_response)

    ecs._ACTION_MAP["RunTask"] = run_task_once
