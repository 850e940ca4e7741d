"""Metrics: lines of CloudWatch's embedded metric format, on standard output.

Lambda takes the line to the function's log group, and CloudWatch makes data points of it. Nothing
is called, so nothing can fail or be denied.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

Powertools' Metrics writes the same (a test holds the two together). Its import would take some ten
milliseconds of a cold start; this module imports what is there anyway.

A line is written where the thing happened, in durable executions inside an operation: a replay
does not write it again. An operation that is cut off before its result is stored runs twice, and
counts twice.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

from ecs_ops.aws.log_lines import correlation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAMESPACE: Final = "ecs-ops"

type Name = Literal[
    "TasksStopped",
    "TasksFailed",
    "AlertsSent",
    "Messages",
    "MessagesFailed",
    "EventsNotIndexed",
    "RunsLaunched",
    "RunsRefused",
    "RequestsRefused",
    "RequestsFailed",
    "Answers",
    "AnswerLatency",
    "ExecutionsWithoutResult",
    "Recycles",
    "TasksBeingReplaced",
    "TasksReplaced",
]
"""What is measured; docs/operations.md says what each of them counts."""

NAMES: Final[tuple[Name, ...]] = get_args(Name.__value__)
_UNITS: Final[Mapping[Name, str]] = {"AnswerLatency": "Seconds"}
_NONE: Final = "(none)"
_LONGEST_VALUE: Final = 255
"""Characters. CloudWatch takes 1,024; no name of ECS is longer than this."""


class Put(Protocol):
    """What `Metrics.put` does, and `unmeasured` does not."""

    def __call__(self, values: Mapping[Name, float], /, **by: str) -> None: ...


def unmeasured(_values: Mapping[Name, float], /, **_by: str) -> None:
    """Take the place of `Metrics.put` where nobody counts."""


class Metrics:
    """The metrics of one function."""

    def __init__(
        self,
        function_name: str,
        *,
        clock: Callable[[], float] = time.time,
        write: Callable[[str], None] = print,
    ) -> None:
        """Remember whose they are.

        Args:
            function_name: the dimension FunctionName, as AWS/Lambda has it.
            clock: epoch seconds.
            write: takes one line.
        """
        self._function_name = function_name
        self._clock = clock
        self._write = write

    def put(self, values: Mapping[Name, float], /, **by: str) -> None:
        """Write one line: a data point for the function, and one for the function and `by`.

        The run's correlation id is in the line besides, for who reads it as a log.

        Args:
            values: by name of the metric.
            by: further dimensions. Each combination of values is a metric that is paid for: name
                clusters, services and outcomes, never tasks.
        """
        dimensions = {"FunctionName": self._function_name, **by}
        sets = [["FunctionName"], list(dimensions)] if by else [["FunctionName"]]
        metrics = [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in values]
        line: dict[str, Any] = {
            "_aws": {
                "Timestamp": int(self._clock() * 1000),
                "CloudWatchMetrics": [
                    {"Namespace": NAMESPACE, "Dimensions": sets, "Metrics": metrics}
                ],
            },
            **{name: _value(text) for name, text in dimensions.items()},
            **correlation(),
        }
        line |= {str(name): value for name, value in values.items()}
        self._write(json.dumps(line, separators=(",", ":")))


def _value(text: str) -> str:
    """Return what CloudWatch takes for the value of a dimension: printable ASCII, and not empty."""
    shown = "".join(char if " " <= char <= "~" else "?" for char in text).strip().lstrip(":")
    return shown[:_LONGEST_VALUE] or _NONE
