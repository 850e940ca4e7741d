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
    mask_environment: bool
    cluster_arns: tuple[str, ...]
    """Clusters whose events are recorded; empty for all."""
    alert_topic_arn: str
    opensearch_endpoint: str
    """`https://…`; '' when there is none."""
    search_queue_arn: str
    """The queue of events for OpenSearch; '' when there is none."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read what template.yaml sets; lists are comma separated. Raise MissingSettings."""
        _require(
            env,
            "EVENT_TABLE_NAME",
            "EVENT_RETENTION_DAYS",
            "EVENT_MASK_ENVIRONMENT",
            "EVENT_CLUSTER_ARNS",
            "ALERT_TOPIC_ARN",
            "OPENSEARCH_ENDPOINT",
            "SEARCH_QUEUE_ARN",
        )
        return cls(
            table_name=env["EVENT_TABLE_NAME"],
            retention_days=int(env["EVENT_RETENTION_DAYS"]),
            # Whatever is not a clear "false" masks.
            mask_environment=env["EVENT_MASK_ENVIRONMENT"] != "false",
            cluster_arns=_items(env["EVENT_CLUSTER_ARNS"]),
            alert_topic_arn=env["ALERT_TOPIC_ARN"],
            opensearch_endpoint=env["OPENSEARCH_ENDPOINT"],
            search_queue_arn=env["SEARCH_QUEUE_ARN"],
        )


@dataclass(frozen=True, slots=True)
class RecycleServiceSettings:
    """Settings of recycle_service."""

    lease_table_name: str
    role_arns: tuple[str, ...]
    """Roles a request may name; `*` in one stands for anything."""
    secret_arns: tuple[str, ...]
    """Secrets with keys that a request may name; likewise."""
    alert_topic_arn: str
    smtp_secret_arn: str
    """The mail server's; '' for no mail."""
    report_recipients: tuple[str, ...]
    report_subject_prefix: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read what template.yaml sets; lists are comma separated. Raise MissingSettings."""
        _require(
            env,
            "RECYCLE_LEASE_TABLE_NAME",
            "RECYCLE_ROLE_ARNS",
            "RECYCLE_SECRET_ARNS",
            "ALERT_TOPIC_ARN",
            "SMTP_SECRET_ARN",
            "REPORT_RECIPIENTS",
            "REPORT_SUBJECT_PREFIX",
        )
        return cls(
            lease_table_name=env["RECYCLE_LEASE_TABLE_NAME"],
            role_arns=_items(env["RECYCLE_ROLE_ARNS"]),
            secret_arns=_items(env["RECYCLE_SECRET_ARNS"]),
            alert_topic_arn=env["ALERT_TOPIC_ARN"],
            smtp_secret_arn=env["SMTP_SECRET_ARN"],
            report_recipients=_items(env["REPORT_RECIPIENTS"]),
            report_subject_prefix=env["REPORT_SUBJECT_PREFIX"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchTaskSettings:
    """Settings of launch_task: who is let in, and its default profile."""

    name: str
    """Of the function."""
    auth: str
    """`AWS_IAM`, `TOKEN` or `HMAC`."""
    secret_arn: str
    """Of the tokens or keys; '' for AWS_IAM."""
    signature_table_name: str
    """Of signatures that were seen; '' but for HMAC."""
    profiles_parameter: str
    """Name of the SSM parameter with further profiles; '' for none."""
    event_table_name: str
    """'' without an event log."""
    cluster: str
    task_definition: str
    container: str
    """Name of the container that gets environment and command; '' for the only essential one."""
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    assign_public_ip: bool
    allowed_environment: tuple[str, ...]
    """See `ecs_ops.launch_profile.read_rules`."""
    allow_command: bool
    max_cpu: int
    """CPU units; 0 when a caller may not set the size."""
    max_memory: int
    """MiB; 0 likewise."""
    allowed_tags: tuple[str, ...]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read what template.yaml sets; lists are comma separated. Raise MissingSettings."""
        _require(
            env,
            "LAUNCH_NAME",
            "LAUNCH_AUTH",
            "LAUNCH_SECRET_ARN",
            "LAUNCH_SIGNATURE_TABLE_NAME",
            "LAUNCH_PROFILES_PARAMETER",
            "EVENT_TABLE_NAME",
            "LAUNCH_CLUSTER",
            "LAUNCH_TASK_DEFINITION",
            "LAUNCH_CONTAINER",
            "LAUNCH_SUBNETS",
            "LAUNCH_SECURITY_GROUPS",
            "LAUNCH_ASSIGN_PUBLIC_IP",
            "LAUNCH_ALLOWED_ENVIRONMENT",
            "LAUNCH_ALLOW_COMMAND",
            "LAUNCH_MAX_CPU",
            "LAUNCH_MAX_MEMORY",
            "LAUNCH_ALLOWED_TAGS",
        )
        return cls(
            name=env["LAUNCH_NAME"],
            auth=env["LAUNCH_AUTH"],
            secret_arn=env["LAUNCH_SECRET_ARN"],
            signature_table_name=env["LAUNCH_SIGNATURE_TABLE_NAME"],
            profiles_parameter=env["LAUNCH_PROFILES_PARAMETER"],
            event_table_name=env["EVENT_TABLE_NAME"],
            cluster=env["LAUNCH_CLUSTER"],
            task_definition=env["LAUNCH_TASK_DEFINITION"],
            container=env["LAUNCH_CONTAINER"],
            subnets=_items(env["LAUNCH_SUBNETS"]),
            security_groups=_items(env["LAUNCH_SECURITY_GROUPS"]),
            assign_public_ip=env["LAUNCH_ASSIGN_PUBLIC_IP"] == "ENABLED",
            allowed_environment=_items(env["LAUNCH_ALLOWED_ENVIRONMENT"]),
            allow_command=env["LAUNCH_ALLOW_COMMAND"] == "true",
            max_cpu=int(env["LAUNCH_MAX_CPU"]),
            max_memory=int(env["LAUNCH_MAX_MEMORY"]),
            allowed_tags=_items(env["LAUNCH_ALLOWED_TAGS"]),
        )


def _require(env: Mapping[str, str], *names: str) -> None:
    missing = [name for name in names if name not in env]
    if missing:
        raise MissingSettings(f"missing environment variables: {', '.join(missing)}")


def _items(text: str) -> tuple[str, ...]:
    return tuple(item for part in text.split(",") if (item := part.strip()))
