"""Events as Amazon ECS sends them, by a seed: whole lives of Fargate tasks, and their services'.

The shapes: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html and
the two pages beside it. What is random in real events is random here, so that gzip finds no more
to squeeze than it would there.
"""

from __future__ import annotations

import heapq
import json
import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_REGION: Final = "eu-central-1"
_ACCOUNT: Final = "111122223333"
_CLUSTER: Final = "production"
_ARN: Final = f"arn:aws:ecs:{_REGION}:{_ACCOUNT}"
_REGISTRY: Final = f"{_ACCOUNT}.dkr.ecr.{_REGION}.amazonaws.com"
_SERVICES: Final = ("web", "checkout", "search-indexer", "mail-worker", "image-resizer", "billing")
_JOBS: Final = ("migrate", "nightly-report")
# These run a second container beside their own.
_WITH_ROUTER: Final = frozenset({"web", "checkout", "billing"})

# A task has some nine events, so that 1 % of all events are a failed task's last.
_FAILS: Final = 0.09
_IS_JOB: Final = 0.1
# Per task, an event of its service: a step of a deployment, or a word from the scheduler.
_IS_SERVICE_EVENT: Final = 0.3

# What ended a task: stop code, reason, exit code of the app (None: it never ran).
type _End = tuple[str, str, int | None]
_GOOD_ENDS: Final[tuple[_End, ...]] = (
    ("ServiceSchedulerInitiated", "Scaling activity initiated by (deployment {deployment})", 143),
    ("ServiceSchedulerInitiated", "Scaling activity initiated by (deployment {deployment})", 0),
    ("UserInitiated", "Task stopped by user", 143),
)
_BAD_ENDS: Final[tuple[_End, ...]] = (
    ("EssentialContainerExited", "Essential container in task exited", 1),
    ("EssentialContainerExited", "Essential container in task exited", 137),
    ("TaskFailedToStart", "CannotPullContainerError: {image}: not found", None),
    ("SpotInterruption", "Your Spot Task was interrupted.", 143),
)
_JOB_END: Final[_End] = ("EssentialContainerExited", "Essential container in task exited", 0)

# lastStatus, desiredStatus, and about how many seconds after the event before it.
_TO_RUNNING: Final = (
    ("PROVISIONING", "RUNNING", 0),
    ("PROVISIONING", "RUNNING", 8),
    ("PENDING", "RUNNING", 9),
    ("ACTIVATING", "RUNNING", 14),
    ("RUNNING", "RUNNING", 6),
)
_TO_STOPPED: Final = (
    ("DEACTIVATING", "STOPPED", 600),
    ("STOPPING", "STOPPED", 12),
    ("DEPROVISIONING", "STOPPED", 10),
    ("STOPPED", "STOPPED", 14),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that was sent."""

    id: str
    body: str
    """As it stands in the queue."""
    is_of_task: bool
    failed_task: str
    """ARN of the task whose failure this is, or ''."""


def realistic_events(number: int, *, seed: int, begins: datetime) -> list[Sent]:
    """Return so many events of a cluster that starts a task every ten seconds or so, in order."""
    return list(islice(stream(seed=seed, begins=begins), number))


def stream(*, seed: int, begins: datetime) -> Iterator[Sent]:
    """Yield events without end, each as it is made, in the order of their times."""
    return _Cluster(random.Random(seed), begins).events()


class _Cluster:
    """All that happens, in a heap by its time."""

    def __init__(self, rng: random.Random, begins: datetime) -> None:
        self._rng = rng
        self._now = begins.astimezone(UTC)
        names = (*_SERVICES, *_JOBS)
        self._revision = {name: rng.randrange(3, 90) for name in names}
        self._digest = {name: f"sha256:{rng.randbytes(32).hex()}" for name in (*names, "router")}
        self._deployment = {name: f"ecs-svc/{rng.randrange(10**18, 10**19)}" for name in names}

    def events(self) -> Iterator[Sent]:
        order = count()
        heap: list[tuple[datetime, int, Iterator[tuple[datetime, Sent]], Sent]] = []

        def follow(life: Iterator[tuple[datetime, Sent]]) -> None:
            if step := next(life, None):
                heapq.heappush(heap, (step[0], next(order), life, step[1]))

        while True:
            # A task begins at `_now`; what came before it is told first.
            while heap and heap[0][0] <= self._now:
                _, _, life, sent = heapq.heappop(heap)
                yield sent
                follow(life)
            follow(self._task(self._now))
            if self._rng.random() < _IS_SERVICE_EVENT:
                follow(iter([(self._now, self._service_event(self._now))]))
            self._now += timedelta(seconds=self._rng.expovariate(1 / 10))

    def _task(self, began: datetime) -> Iterator[tuple[datetime, Sent]]:
        rng = self._rng
        is_job, fails = rng.random() < _IS_JOB, rng.random() < _FAILS
        name = rng.choice(_JOBS if is_job else _SERVICES)
        end = rng.choice(_BAD_ENDS) if fails else _JOB_END if is_job else rng.choice(_GOOD_ENDS)
        steps = (_TO_RUNNING if end[2] is not None else _TO_RUNNING[:3]) + _TO_STOPPED
        detail = self._new_task(name, began, is_job=is_job)
        now = began
        for version, (last, desired, seconds) in enumerate(steps, start=1):
            now += timedelta(seconds=seconds * rng.uniform(0.5, 1.5))
            self._advance(detail, last, now, end)
            detail |= {
                "lastStatus": last,
                "desiredStatus": desired,
                "updatedAt": _precise(now),
                "version": version,
            }
            yield (
                now,
                self._sent(
                    "ECS Task State Change",
                    detail["taskArn"],
                    detail,
                    now,
                    is_of_task=True,
                    failed=fails and last == "STOPPED",
                ),
            )

    def _new_task(self, name: str, began: datetime, *, is_job: bool) -> dict[str, Any]:
        rng = self._rng
        task = rng.randbytes(16).hex()
        zone = rng.choice("abc")
        images = {"app": name} | ({"log-router": "router"} if name in _WITH_ROUTER else {})
        overrides: list[dict[str, Any]] = [{"name": container} for container in images]
        if is_job:
            values = {"DATABASE_PASSWORD": rng.randbytes(12).hex(), "RELEASE": "2026.1"}
            overrides[0]["command"] = ["./manage", name, "--all"]
            overrides[0]["environment"] = [{"name": k, "value": v} for k, v in values.items()]
        return {
            "attachments": [
                {
                    "id": self._uuid(),
                    "type": "eni",
                    "status": "PRECREATED",
                    "details": [
                        {"name": "subnetId", "value": f"subnet-{ord(zone) * 40_503_477_119:017x}"},
                    ],
                }
            ],
            "attributes": [{"name": "ecs.cpu-architecture", "value": "arm64"}],
            "availabilityZone": f"{_REGION}{zone}",
            "capacityProviderName": "FARGATE_SPOT" if rng.random() < 0.3 else "FARGATE",
            "clusterArn": f"{_ARN}:cluster/{_CLUSTER}",
            "containers": [
                {
                    "containerArn": f"{_ARN}:container/{_CLUSTER}/{task}/{self._uuid()}",
                    "lastStatus": "PENDING",
                    "name": container,
                    "image": f"{_REGISTRY}/{image}:2026.1",
                    "taskArn": f"{_ARN}:task/{_CLUSTER}/{task}",
                    "networkInterfaces": [],
                    "cpu": "0",
                }
                for container, image in images.items()
            ],
            "cpu": "512",
            "createdAt": _precise(began),
            "enableExecuteCommand": False,
            "ephemeralStorage": {"sizeInGiB": 20},
            "group": f"family:{name}" if is_job else f"service:{name}",
            "launchType": "FARGATE",
            "memory": "1024",
            "overrides": {"containerOverrides": overrides},
            "platformVersion": "1.4.0",
            "startedBy": "scheduler" if is_job else self._deployment[name],
            "taskArn": f"{_ARN}:task/{_CLUSTER}/{task}",
            "taskDefinitionArn": f"{_ARN}:task-definition/{name}:{self._revision[name]}",
        }

    def _advance(self, detail: dict[str, Any], last: str, now: datetime, end: _End) -> None:
        """Bring the task's detail up to its next status."""
        match last:
            case "PENDING":
                self._attach(detail)
                detail |= {"connectivity": "CONNECTED", "connectivityAt": _precise(now)}
            case "ACTIVATING":
                self._pull(detail)
                detail |= {"pullStartedAt": _precise(now), "pullStoppedAt": _precise(now)}
            case "RUNNING":
                detail["startedAt"] = _precise(now)
                for container in detail["containers"]:
                    container["lastStatus"] = "RUNNING"
            case "DEACTIVATING":
                image = detail["containers"][0]["image"]
                reason = end[1].format(deployment=detail["startedBy"], image=image)
                detail |= {"stopCode": end[0], "stoppedReason": reason}
                detail["stoppingAt"] = _precise(now)
            case "DEPROVISIONING":
                _end_containers(detail, end[2])
                detail["executionStoppedAt"] = _precise(now)
            case "STOPPED":
                detail["stoppedAt"] = _precise(now)

    def _attach(self, detail: dict[str, Any]) -> None:
        rng, attachment = self._rng, detail["attachments"][0]
        address = f"10.0.{rng.randrange(64)}.{rng.randrange(4, 250)}"
        host = f"ip-{address.replace('.', '-')}.{_REGION}.compute.internal"
        details = {
            "networkInterfaceId": f"eni-{rng.randbytes(9).hex()[:17]}",
            "macAddress": ":".join(f"{one:02x}" for one in rng.randbytes(6)),
            "privateDnsName": host,
            "privateIPv4Address": address,
        }
        attachment["status"] = "ATTACHED"
        attachment["details"] += [{"name": name, "value": it} for name, it in details.items()]
        interface = {"attachmentId": attachment["id"], "privateIpv4Address": address}
        for container in detail["containers"]:
            container["networkInterfaces"] = [interface]

    def _pull(self, detail: dict[str, Any]) -> None:
        task = _last_part(detail["taskArn"])
        for container in detail["containers"]:
            image = _last_part(container["image"]).partition(":")[0]
            container["imageDigest"] = self._digest[image]
            container["runtimeId"] = f"{task}-{self._rng.randrange(10**9, 10**10)}"

    def _service_event(self, now: datetime) -> Sent:
        rng = self._rng
        name = rng.choice(_SERVICES)
        arn = f"{_ARN}:service/{_CLUSTER}/{name}"
        if rng.random() < 0.5:
            deployment = self._deployment[name]
            detail = {
                "eventType": "INFO",
                "eventName": "SERVICE_DEPLOYMENT_COMPLETED",
                "deploymentId": deployment,
                "updatedAt": _precise(now),
                "reason": f"ECS deployment {deployment} completed.",
            }
            return self._sent("ECS Deployment State Change", arn, detail, now)
        detail = {
            "eventType": "INFO",
            "eventName": "SERVICE_STEADY_STATE",
            "clusterArn": f"{_ARN}:cluster/{_CLUSTER}",
            "createdAt": _precise(now),
        }
        return self._sent("ECS Service Action", arn, detail, now)

    def _sent(
        self,
        detail_type: str,
        resource: str,
        detail: dict[str, Any],
        now: datetime,
        *,
        is_of_task: bool = False,
        failed: bool = False,
    ) -> Sent:
        event_id = self._uuid()
        event = {
            "version": "0",
            "id": event_id,
            "detail-type": detail_type,
            "source": "aws.ecs",
            "account": _ACCOUNT,
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": _REGION,
            "resources": [resource],
            "detail": detail,
        }
        body = json.dumps(event, separators=(",", ":"))
        return Sent(event_id, body, is_of_task, resource if failed else "")

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))


def _end_containers(detail: dict[str, Any], exit_code: int | None) -> None:
    """End the app with this code, and its log router well; None: they never ran."""
    detail["attachments"][0]["status"] = "DELETED"
    for container in detail["containers"]:
        is_app = container["name"] == "app"
        container["lastStatus"] = "STOPPED"
        if exit_code is not None:
            container["exitCode"] = exit_code if is_app else 0
        elif is_app:
            container["reason"] = detail["stoppedReason"]


def _last_part(text: str) -> str:
    return text.rpartition("/")[2]


def _precise(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
