"""What a container wrote last, from CloudWatch Logs."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from ecs_ops.aws.clients import aws_errors, client
from ecs_ops.errors import EcsOpsError

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import GetLogEventsRequestTypeDef

LINE_LIMIT = 300
"""Characters of one line."""

_PAGES = 3
# Colours and cursor movements, as test runners and package managers write them.
_TERMINAL_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CUT = "..."

_logger = logging.getLogger(__name__)


class ContainerLogs:
    """Raises nothing: a verdict must not be lost for want of a log line."""

    def __init__(self, logs: CloudWatchLogsClient) -> None:
        self._logs = logs

    def last_lines(self, group: str, stream: str, region: str = "", limit: int = 10) -> list[str]:
        """Return the last lines of a log stream, newest last, blank ones left out.

        Args:
            group: log group; '' for a container that does not log to CloudWatch.
            stream: log stream; '' likewise.
            region: where the group is; '' for the client's own.
            limit: lines at most.

        Returns:
            Lines of one printable line and 300 characters at most each; none at all when they
            cannot be read, which is logged.
        """
        if not (group and stream):
            return []
        try:
            with aws_errors("GetLogEvents"):
                messages = _last_messages(self._in(region), group, stream, limit)
        except Exception as error:  # noqa: BLE001 - a log line is never worth a verdict
            # Our own texts are fit to be read; of any other, who knows.
            why = str(error) if isinstance(error, EcsOpsError) else type(error).__name__
            _logger.warning("No lines of log stream %s in %s: %s", stream, group, why)
            return []
        lines = [_one_line(message) for message in messages]
        return [line for line in lines if line][-limit:]

    def _in(self, region: str) -> CloudWatchLogsClient:
        if not region or region == self._logs.meta.region_name:
            return self._logs
        elsewhere: CloudWatchLogsClient = client("logs", region)
        return elsewhere


def _last_messages(logs: CloudWatchLogsClient, group: str, stream: str, limit: int) -> list[str]:
    """Read from the end of the stream, a few pages at most.

    A page may hold fewer events than there are, or none, while its token leads to more:
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html
    """
    arguments: GetLogEventsRequestTypeDef = {
        "logGroupName": group,
        "logStreamName": stream,
        "limit": limit,
        "startFromHead": False,
    }
    messages: list[str] = []
    for _ in range(_PAGES):
        page = logs.get_log_events(**arguments)
        messages = [event.get("message", "") for event in page["events"]] + messages
        token = page.get("nextBackwardToken", "")
        if len(messages) >= limit or token in {"", arguments.get("nextToken")}:
            break
        arguments["nextToken"] = token
    return messages


def _one_line(message: str) -> str:
    plain = _TERMINAL_SEQUENCE.sub("", message)
    printable = "".join(char if char.isprintable() else " " for char in plain)
    line = " ".join(printable.split())
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - len(_CUT)] + _CUT
