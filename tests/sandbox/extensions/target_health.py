"""Targets take time: initial, healthy, and draining when their task ends.

ministack's targets are healthy, or not there. Rules: "Target health status" and "Deregistration
delay" in the guide to Application Load Balancers, and DEACTIVATING in "Amazon ECS task lifecycle":

- a task's target is `initial` for a moment, then `healthy`;
- when the task ends it is `draining` for the deregistration delay of its target group, used or
  not, and only then the task's containers are asked to stop;
- in a target group with the health check path `/unhealthy` every target is `unhealthy`.

Tasks have addresses for it, from 10.0.0.0/8, where nobody listens. What describes is authorized on
`*`, as in "Actions, resources, and condition keys for AWS Elastic Load Balancing V2".
"""

from __future__ import annotations

import os
import time
from ipaddress import IPv4Address
from itertools import count
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions
from ministack.services import alb, ecs

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds until a target's first health checks have passed.
TARGET_SECONDS = float(os.environ.get("ECS_OPS_SANDBOX_TARGET_SECONDS", "0.5"))
UNHEALTHY_PATH = "/unhealthy"
_DELAY = "deregistration_delay.timeout_seconds"

type Key = tuple[str, str]
type Json = dict[str, Any]

# Target group's ARN and target's id: since when it is registered; until when it drains.
_since: dict[Key, float] = {}
_draining: dict[Key, tuple[float, Json]] = {}
_addresses = count(int(IPv4Address("10.0.0.4")))


def _give_addresses() -> None:
    container_ip = ecs._container_ip

    def some_ip(container: Any, network: Any) -> Any:
        return container_ip(container, network) or str(IPv4Address(next(_addresses)))

    ecs._container_ip = some_ip


def _delay(group: str) -> float:
    attributes = alb._tg_attrs.get(group) or []
    found = [float(one["Value"]) for one in attributes if one["Key"] == _DELAY]
    return found[0] if found else 300


def _note(group: str, before: dict[str, Json], after: dict[str, Json]) -> None:
    now = time.time()
    for target in after.keys() - before.keys():
        _since[group, target] = now
        _draining.pop((group, target), None)
    for target in before.keys() - after.keys():
        until = now + _delay(group)
        _draining[group, target] = until, before[target]
        for task in list(ecs._tasks.values()):
            if ecs._task_ip(task) == target:
                # Whoever ends the task waits for it before the containers are asked to stop.
                task["_drains_until"] = max(until, task.get("_drains_until", 0))


def _noting(change: Callable[..., Any], group_of: Callable[[Any], str]) -> Callable[..., Any]:
    """Wrap what changes the targets of a group."""

    def noted(first: Any, *rest: Any) -> Any:
        group = group_of(first)
        before = {one["Id"]: one for one in alb._targets.get(group) or []}
        answer = change(first, *rest)
        _note(group, before, {one["Id"]: one for one in alb._targets.get(group) or []})
        return answer

    return noted


def _state(group: str, target: str) -> tuple[str, str]:
    """State, and the code of its reason."""
    if alb._tgs[group].get("HealthCheckPath") == UNHEALTHY_PATH:
        return "unhealthy", "Target.ResponseCodeMismatch"
    if time.time() < _since[group, target] + TARGET_SECONDS:
        return "initial", "Elb.RegistrationInProgress"
    return "healthy", ""


def _describe(params: Json) -> Any:
    group = alb._p(params, "TargetGroupArn")
    if group not in alb._tgs:
        return alb._error("TargetGroupNotFound", f"Target group '{group}' not found.")
    asked = {one["Id"] for one in alb._parse_targets_param(params)}
    found = [(one, *_state(group, one["Id"])) for one in alb._targets.get(group) or []]
    for (its_group, _), (until, target) in list(_draining.items()):
        if its_group == group and time.time() < until:
            found.append((target, "draining", "Target.DeregistrationInProgress"))
    members = "".join(
        f"<member><Target><Id>{target['Id']}</Id><Port>{target.get('Port', 80)}</Port></Target>"
        f"<TargetHealth><State>{state}</State>"
        + (f"<Reason>{reason}</Reason>" if reason else "")
        + "</TargetHealth></member>"
        for target, state, reason in found
        if not asked or target["Id"] in asked
    )
    body = f"<TargetHealthDescriptions>{members}</TargetHealthDescriptions>"
    return alb._xml(200, "DescribeTargetHealth", body)


def _authorize() -> None:
    resource_of = iam_actions.extract_resource_arn

    def extract_resource_arn(service: str, *request: Any) -> str:
        resource = str(resource_of(service, *request))
        if service != "elasticloadbalancing":
            return resource
        *_, query, _region, _account = request
        return "*" if alb._p(query, "Action").startswith("Describe") else resource

    iam_actions.extract_resource_arn = extract_resource_arn


def install() -> None:
    """Listen to whatever registers and deregisters, and tell the state accordingly."""
    _give_addresses()
    _authorize()
    alb.set_targets_for_group = _noting(alb.set_targets_for_group, str)
    for action in ("RegisterTargets", "DeregisterTargets"):
        alb._ACTION_MAP[action] = _noting(
            alb._ACTION_MAP[action], lambda params: str(alb._p(params, "TargetGroupArn"))
        )
    alb._ACTION_MAP["DescribeTargetHealth"] = _describe
