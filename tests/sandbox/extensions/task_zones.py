"""The tasks of a service are spread over the Availability Zones of its subnets.

ministack puts all of them in the service's first subnet, in zone a. Here the first subnet of a
service is in zone a, the second in b, and so on; a new task goes where the service has the fewest.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ministack.core.responses import get_region
from ministack.services import ecs

_ZONES = "abcdef"

type Json = dict[str, Any]


def _spread(task: Json, subnets: list[str]) -> None:
    mates = Counter(
        one["_subnet"]
        for one in list(ecs._tasks.values())
        if one is not task
        and one["desiredStatus"] == "RUNNING"
        and (one["clusterArn"], one["group"]) == (task["clusterArn"], task["group"])
    )
    index = min(range(len(subnets)), key=lambda index: mates[subnets[index]])
    task["_subnet"] = subnets[index]
    task["availabilityZone"] = f"{get_region()}{_ZONES[index % len(_ZONES)]}"


def install() -> None:
    """Choose the subnet of every task that the scheduler runs, while it is PROVISIONING."""
    run_task = ecs._run_task

    def run_spread(data: Json) -> Any:
        answer = run_task(data)
        network = (data.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        tasks = [ecs._tasks[one["taskArn"]] for one in json.loads(answer[2]).get("tasks", [])]
        if subnets := network.get("subnets"):
            for task in tasks:
                task["_subnet"] = ""
            for task in tasks:
                _spread(task, subnets)
        return answer

    ecs._run_task = run_spread
