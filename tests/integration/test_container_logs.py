"""The last lines of a container's log, which are welcome and never worth a verdict."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ecs_ops.aws.container_logs import LINE_LIMIT, ContainerLogs

REGION = "eu-west-1"
STREAM = "ecs/app/0f1e2d3c"


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield boto3.client("logs", region_name=REGION)


def write(logs: Any, *messages: str) -> ContainerLogs:
    logs.create_log_group(logGroupName="/shop")
    logs.create_log_stream(logGroupName="/shop", logStreamName=STREAM)
    now = int(time.time() * 1000)
    events = [{"timestamp": now + i, "message": text} for i, text in enumerate(messages)]
    logs.put_log_events(logGroupName="/shop", logStreamName=STREAM, logEvents=events)
    return ContainerLogs(logs)


def test_newest_line_is_last_when_there_are_more_than_asked_for(logs: Any) -> None:
    adapter = write(logs, *(f"line {number}" for number in range(30)))

    assert adapter.last_lines("/shop", STREAM, limit=3) == ["line 27", "line 28", "line 29"]
    assert len(adapter.last_lines("/shop", STREAM)) == 10


def test_all_lines_are_there_when_there_are_few(logs: Any) -> None:
    assert write(logs, "one", "two").last_lines("/shop", STREAM) == ["one", "two"]


def test_each_is_one_short_printable_line_when_a_program_wrote_something_else(logs: Any) -> None:
    adapter = write(logs, "a\n\tb\x00c", "\x1b[1;31mred\x1b[0m 失败", "   ", "x" * 999)

    assert adapter.last_lines("/shop", STREAM) == [
        "a b c",
        "red 失败",
        "x" * (LINE_LIMIT - 3) + "...",
    ]


@pytest.mark.parametrize(("group", "stream"), [("", STREAM), ("/shop", "")])
def test_nothing_is_asked_when_the_container_has_no_log(group: str, stream: str) -> None:
    no_client: Any = None

    assert ContainerLogs(no_client).last_lines(group, stream) == []


def test_there_are_no_lines_when_the_group_is_missing(
    logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ecs_ops"):
        assert ContainerLogs(logs).last_lines("/nothing", STREAM) == []

    assert len(caplog.records) == 1


def test_lines_are_read_there_when_the_group_is_in_another_region(
    logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    write(boto3.client("logs", region_name="us-east-1"), "far away")

    assert ContainerLogs(logs).last_lines("/shop", STREAM, region="us-east-1") == ["far away"]
    assert ContainerLogs(logs).last_lines("/shop", STREAM, region=REGION) == []
    assert ContainerLogs(logs).last_lines("/shop", STREAM, region="no region!") == []


class Paged:
    """A log service whose first page is empty, as the real one's may be."""

    def __init__(self, *pages: list[str] | Exception) -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []

    def get_log_events(self, **arguments: Any) -> Any:
        self.asked.append(arguments)
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        events = [{"message": text} for text in page]
        return {"events": events, "nextBackwardToken": f"b/{len(self.pages)}"}


def test_lines_are_found_when_the_first_page_is_empty() -> None:
    paged: Any = Paged([], ["two", "three"], ["zero", "one"])

    assert ContainerLogs(paged).last_lines("/shop", STREAM, limit=3) == ["one", "two", "three"]
    assert [asked.get("nextToken") for asked in paged.asked] == [None, "b/2", "b/1"]


def test_failure_is_logged_without_its_text_when_it_is_not_one_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    paged: Any = Paged(RuntimeError("hunter2"))

    assert ContainerLogs(paged).last_lines("/shop", STREAM) == []

    assert "RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text
