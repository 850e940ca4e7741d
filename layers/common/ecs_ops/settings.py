"""Each function's settings, read once from the environment that template.yaml gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class MissingSettings(Exception):
    """A mistake of the deployment: names every variable the function needs and did not get."""


@dataclass(frozen=True, slots=True)
class LogEventsSettings:
    """Settings of log_events."""

    table_name: str
    retention_days: int

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read `EVENT_TABLE_NAME` and `EVENT_RETENTION_DAYS`; raise MissingSettings."""
        _require(env, "EVENT_TABLE_NAME", "EVENT_RETENTION_DAYS")
        return cls(
            table_name=env["EVENT_TABLE_NAME"],
            retention_days=int(env["EVENT_RETENTION_DAYS"]),
        )


@dataclass(frozen=True, slots=True)
class LaunchTaskSettings:
    """Settings of launch_task: its default profile."""

    cluster: str
    task_definition: str
    container: str
    """Name of the container that gets the environment; '' for the only essential one."""
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    assign_public_ip: str
    """`ENABLED` or `DISABLED`."""
    allowed_environment: tuple[str, ...]
    """Names a caller may set; a trailing `*` stands for any ending."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the `LAUNCH_*` variables; lists are comma separated. Raise MissingSettings."""
        _require(
            env,
            "LAUNCH_CLUSTER",
            "LAUNCH_TASK_DEFINITION",
            "LAUNCH_CONTAINER",
            "LAUNCH_SUBNETS",
            "LAUNCH_SECURITY_GROUPS",
            "LAUNCH_ASSIGN_PUBLIC_IP",
            "LAUNCH_ALLOWED_ENVIRONMENT",
        )
        return cls(
            cluster=env["LAUNCH_CLUSTER"],
            task_definition=env["LAUNCH_TASK_DEFINITION"],
            container=env["LAUNCH_CONTAINER"],
            subnets=_items(env["LAUNCH_SUBNETS"]),
            security_groups=_items(env["LAUNCH_SECURITY_GROUPS"]),
            assign_public_ip=env["LAUNCH_ASSIGN_PUBLIC_IP"],
            allowed_environment=_items(env["LAUNCH_ALLOWED_ENVIRONMENT"]),
        )


def _require(env: Mapping[str, str], *names: str) -> None:
    missing = [name for name in names if name not in env]
    if missing:
        raise MissingSettings(f"missing environment variables: {', '.join(missing)}")


def _items(text: str) -> tuple[str, ...]:
    return tuple(item for part in text.split(",") if (item := part.strip()))
