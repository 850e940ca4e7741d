"""What containers wrote: last lines, which are never worth a verdict, and pages."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from ecs_ops.aws.container_logs import LINE_LIMIT, ContainerLogs, LogPage
from ecs_ops.errors import AwsFailure, InvalidRequest, Throttled

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


# ---------------------------------------------------------------- pages
def messages(page: LogPage) -> list[str]:
    return [message for _, message in page.events]


def test_all_is_read_in_order_when_page_follows_page(logs: Any) -> None:
    adapter = write(logs, *(f"line {number}" for number in range(25)))

    read: list[str] = []
    page = LogPage((), "", at_end=False)
    while not page.at_end:
        page = adapter.page("/shop", STREAM, "", page.next, 10)
        read += messages(page)

    assert read == [f"line {number}" for number in range(25)]


def test_reading_goes_on_when_lines_come_after_the_end_was_reached(logs: Any) -> None:
    adapter = write(logs, "one")
    first = adapter.page("/shop", STREAM, "", "", 10)
    end = adapter.page("/shop", STREAM, "", first.next, 10)
    assert (end.events, end.at_end, end.next) == ((), True, first.next)

    event = {"timestamp": int(time.time() * 1000) + 9, "message": "two"}
    logs.put_log_events(logGroupName="/shop", logStreamName=STREAM, logEvents=[event])

    assert messages(adapter.page("/shop", STREAM, "", end.next, 10)) == ["two"]


def test_messages_are_as_they_were_written_when_they_are_for_no_terminal(logs: Any) -> None:
    written = ["\x1b[1;31mred\x1b[0m 失败", " a\tb\n", "x" * 999]

    assert messages(write(logs, *written).page("/shop", STREAM, "", "", 10)) == written


@pytest.mark.parametrize("after", ["", "f/1"])
@pytest.mark.parametrize("group", ["/shop", "/nothing"])
def test_page_is_empty_when_there_is_no_stream_yet(logs: Any, group: str, after: str) -> None:
    logs.create_log_group(logGroupName="/shop")

    page = ContainerLogs(logs).page(group, STREAM, "", after, 10)

    assert page == LogPage((), after, at_end=True)


def test_place_is_refused_when_cloudwatch_does_not_know_it(logs: Any) -> None:
    adapter = write(logs, "one")

    with pytest.raises(InvalidRequest) as refused:
        adapter.page("/shop", STREAM, "", "made up", 10)

    assert refused.value.field == "after"


def test_page_is_read_there_when_the_group_is_in_another_region(
    logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    write(boto3.client("logs", region_name="us-east-1"), "far away")

    far = ContainerLogs(logs).page("/shop", STREAM, "us-east-1", "", 10)

    assert messages(far) == ["far away"]
    with pytest.raises(AwsFailure):
        ContainerLogs(logs).page("/shop", STREAM, "no region!", "", 10)


@pytest.fixture
def stub(logs: Any) -> Iterator[Stubber]:
    with Stubber(logs) as stub:
        yield stub


def answer_with(stub: Stubber, token: str, *events: dict[str, Any], after: str = "") -> None:
    asked = {"logGroupName": "/shop", "logStreamName": STREAM, "limit": 2, "startFromHead": True}
    stub.add_response(
        "get_log_events",
        {"events": list(events), "nextForwardToken": token},
        {**asked, "nextToken": after} if after else asked,
    )


def test_page_is_read_on_when_it_is_empty_and_not_the_last(logs: Any, stub: Stubber) -> None:
    event = {"timestamp": 1_767_225_600_007, "message": "one"}
    answer_with(stub, "f/1")
    answer_with(stub, "f/2", after="f/1")
    answer_with(stub, "f/3", event, after="f/2")

    page = ContainerLogs(logs).page("/shop", STREAM, "", "", 2)

    assert page == LogPage((("2026-01-01T00:00:00.007Z", "one"),), "f/3", at_end=False)


def test_page_is_not_the_last_when_it_stays_empty_while_its_token_changes(
    logs: Any, stub: Stubber
) -> None:
    for number in range(3):
        answer_with(stub, f"f/{number + 1}", after=f"f/{number}")

    page = ContainerLogs(logs).page("/shop", STREAM, "", "f/0", 2)

    assert page == LogPage((), "f/3", at_end=False)


def test_page_is_the_last_when_the_stream_is_empty(logs: Any, stub: Stubber) -> None:
    answer_with(stub, "f/1")
    answer_with(stub, "f/1", after="f/1")

    page = ContainerLogs(logs).page("/shop", STREAM, "", "", 2)

    assert page == LogPage((), "f/1", at_end=True)


@pytest.mark.parametrize(
    ("code", "after", "error"),
    [
        ("ThrottlingException", "f/1", Throttled),
        ("AccessDeniedException", "f/1", AwsFailure),
        # There was nothing of the caller's in it.
        ("InvalidParameterException", "", AwsFailure),
    ],
)
def test_error_is_raised_when_a_page_cannot_be_read(
    logs: Any, stub: Stubber, code: str, after: str, error: type[Exception]
) -> None:
    stub.add_client_error("get_log_events", code)

    with pytest.raises(error):
        ContainerLogs(logs).page("/shop", STREAM, "", after, 2)
