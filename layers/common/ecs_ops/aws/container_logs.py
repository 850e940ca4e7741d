"""What a container wrote, from CloudWatch Logs: its last lines, or all of it, page by page."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ecs_ops.aws.clients import aws_errors, client
from ecs_ops.errors import AwsFailure, EcsOpsError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import GetLogEventsRequestTypeDef, OutputLogEventTypeDef

LINE_LIMIT = 300
"""Characters of one line."""

_PAGES = 3
# Colours and cursor movements, as test runners and package managers write them.
_TERMINAL_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CUT = "..."

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some of a log stream, oldest first."""

    events: tuple[tuple[str, str], ...]
    """Time (ISO 8601 in UTC, with milliseconds) and message of each, exactly as it was written."""
    next: str
    """Where the next page begins; '' while there is no stream."""
    at_end: bool
    """Whether CloudWatch has nothing after this page. It says so of an empty page only."""


class ContainerLogs:
    """Log streams of containers."""

    def __init__(self, logs: CloudWatchLogsClient) -> None:
        self._logs = logs

    def last_lines(self, group: str, stream: str, region: str = "", limit: int = 10) -> list[str]:
        """Return the last lines of a log stream, newest last, blank ones left out.

        Raises nothing: a verdict must not be lost for want of a log line.

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

    def page(self, group: str, stream: str, region: str, after: str, limit: int) -> LogPage:
        """Return the next events of a log stream.

        Messages are data here: whoever shows them to a person deals with their terminal sequences.

        Args:
            group: log group.
            stream: log stream; it need not be there yet.
            region: where the group is; '' for the client's own.
            after: `next` of the page before; '' to begin with the oldest event.
            limit: events at most, 1 to 10000; a page has 1 MB at most, whatever their number.

        Raises:
            InvalidRequest: CloudWatch does not know `after`, or no longer: it does for 24 hours.
            EcsOpsError: what `aws_errors` raises.
        """
        arguments: GetLogEventsRequestTypeDef = {
            "logGroupName": group,
            "logStreamName": stream,
            "limit": limit,
            "startFromHead": True,
        }
        try:
            with aws_errors("GetLogEvents"):
                return _next_page(self._in(region), arguments, after)
        except NotFound:
            return LogPage((), after, at_end=True)
        except AwsFailure as error:
            if after and error.code == "InvalidParameterException":
                raise InvalidRequest("after", "must be what a page before called next") from error
            raise

    def _in(self, region: str) -> CloudWatchLogsClient:
        if not region or region == self._logs.meta.region_name:
            return self._logs
        elsewhere: CloudWatchLogsClient = client("logs", region)
        return elsewhere


def _next_page(
    logs: CloudWatchLogsClient, arguments: GetLogEventsRequestTypeDef, token: str
) -> LogPage:
    """Read on while a page is empty and its token leads to more, a few pages at most.

    At the end of the stream a page's token is the one that was asked with:
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html
    """
    events: list[OutputLogEventTypeDef] = []
    at_end = False
    for _ in range(_PAGES):
        if token:
            arguments["nextToken"] = token
        page = logs.get_log_events(**arguments)
        events = page["events"]
        at_end = page["nextForwardToken"] == token
        token = page["nextForwardToken"]
        if events or at_end:
            break
    return LogPage(
        tuple((_time(event["timestamp"]), event["message"]) for event in events),
        token,
        at_end=at_end,
    )


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


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(message: str) -> str:
    plain = _TERMINAL_SEQUENCE.sub("", message)
    printable = "".join(char if char.isprintable() else " " for char in plain)
    line = " ".join(printable.split())
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - len(_CUT)] + _CUT
