"""CloudWatch alarms, metric and composite."""

from __future__ import annotations

from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient

_BATCH: Final = 100
"""Names in one DescribeAlarms: the API's own limit."""


def ringing(client: Callable[[str], Any], names: Sequence[str]) -> list[str]:
    """Return those alarms that are in ALARM; INSUFFICIENT_DATA is not.

    Needs cloudwatch:DescribeAlarms on `*`: with less, composite alarms are not told.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html

    Args:
        client: returns the client of a service; not asked for any when there are no names.
        names: of alarms.

    Raises:
        NotFound: names the alarms that do not exist.
        Transient, AwsFailure: see `aws_errors`.
    """
    names = list(dict.fromkeys(names))
    states: dict[str, str] = {}
    for batch in batched(names, _BATCH, strict=False):
        cloudwatch: CloudWatchClient = client("cloudwatch")
        with aws_errors("DescribeAlarms"):
            # Without the types, CloudWatch tells metric alarms only.
            pages = cloudwatch.get_paginator("describe_alarms").paginate(
                AlarmNames=list(batch), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
            for page in pages:
                for alarm in (*page.get("MetricAlarms", ()), *page.get("CompositeAlarms", ())):
                    states[alarm["AlarmName"]] = alarm["StateValue"]
    if missing := [name for name in names if name not in states]:
        raise NotFound(f"no such alarm: {', '.join(missing)}")
    return [name for name in names if states[name] == "ALARM"]
