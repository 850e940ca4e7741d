"""The command `python -m ecs_ops.events`, from its arguments to what it prints."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from rich.console import Console

from ecs_ops.aws.clients import client
from ecs_ops.event_view import FAILED
from ecs_ops.events import main, print_table
from tests.integration.test_event_reader import (
    ARN,
    TABLE,
    create_table,
    failure,
    item,
    put,
    stack_answers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime.now(UTC).replace(microsecond=0)
KEPT = int(NOW.timestamp()) + 86_400
EVENT = gzip.compress(json.dumps({"id": "i", "detail-type": "ECS Task State Change"}).encode())


class Log:
    """The table, and which API calls were made since."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.client = client("dynamodb")
        create_table(self.client)

    def put(self, *items: dict[str, Any]) -> None:
        put(self.client, *({**one, "ttl": KEPT, "event": EVENT} for one in items))

    def watch(self) -> None:
        for service in ("dynamodb", "cloudformation", "sts"):
            client(service).meta.events.register(
                "before-call.*.*", lambda model, **_: self.calls.append(model.name)
            )


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    client.cache_clear()
    with mock_aws():
        log = Log()
        # Not the moment of the import: on a busy machine that is minutes ago.
        now = datetime.now(UTC)
        minute = timedelta(minutes=1)
        log.put(
            item("aaaaaaaaaa", "PENDING", at=now - 9 * minute),
            failure(
                "aaaaaaaaaa",
                at=now - 5 * minute,
                createdAt=(now - 9 * minute).isoformat(),
                startedAt=(now - 8 * minute).isoformat(),
            ),
            item("bbbbbbbbbb", at=now - 3 * minute),
            item("cccccccccc", at=now - 3000 * minute),
            item("dddddddddd", at=now - minute, clusterArn=f"{ARN}:cluster/other", serviceName="x"),
            {
                **item("claim", at=now),
                "resourceArn": f"alert#{ARN}:task/shop/claim",
            },
        )
        log.watch()
        yield log
    client.cache_clear()


class Answer:
    """What the command printed and returned."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.code = main(["--table", TABLE, *arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def tasks(self) -> list[str]:
        """Ids of the tasks in the table, from top to bottom."""
        lines = self.out.splitlines()[1:]
        return [line.split()[2] for line in lines if line.strip()]


def test_tasks_are_listed_with_the_newest_last_when_nothing_is_asked(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Answer(capsys)

    assert answer.code == 0
    assert answer.tasks == ["aaaaaaaa", "aaaaaaaa", "bbbbbbbb", "dddddddd"]
    assert "web:41 task aaaaaaaaaa is STOPPED" in answer.out
    assert f"the whole table {TABLE}" in answer.err
    assert set(log.calls) == {"Scan"}


@pytest.mark.parametrize(
    ("arguments", "tasks", "calls"),
    [
        (["--task", f"{ARN}:task/shop/bbbbbbbbbb"], ["bbbbbbbb"], {"Query"}),
        (["--task", "cccccccccc", "--cluster", "shop"], ["cccccccc"], {"Query", "GetCaller"}),
        (["--task", "cccccccccc", "--cluster", f"{ARN}:cluster/shop"], ["cccccccc"], {"Query"}),
        (
            ["--task-definition", f"{ARN}:task-definition/web:41", "--failed"],
            ["aaaaaaaa"],
            {"Query"},
        ),
        (["--task-definition", "web:41", "--service", "x"], ["dddddddd"], {"Query", "GetCaller"}),
        (["--failed", "--cluster", "shop"], ["aaaaaaaa"], {"Query", "GetCaller"}),
        (["--failed", "--cluster", f"{ARN}:cluster/shop"], ["aaaaaaaa"], {"Query"}),
        (["--failed", "--cluster", "other"], [], {"Query", "GetCaller"}),
        (["--failed"], ["aaaaaaaa"], {"Scan"}),
        (["--cluster", "other"], ["dddddddd"], {"Scan"}),
        (["--service", "web", "--since", "4m"], ["bbbbbbbb"], {"Scan"}),
        (
            ["--service", "web", "--since", "3d"],
            ["cccccccc", "aaaaaaaa", "aaaaaaaa", "bbbbbbbb"],
            {"Scan"},
        ),
    ],
)
def test_as_little_is_read_as_possible_when_a_question_has_a_key(
    log: Log,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    tasks: list[str],
    calls: set[str],
) -> None:
    answer = Answer(capsys, *arguments)

    assert answer.tasks == tasks
    assert {name.removesuffix("Identity") for name in log.calls} >= calls - {"GetCaller"}
    assert ("Scan" in log.calls) == ("whole table" in answer.err) == ("Scan" in calls)


def test_event_is_one_line_when_there_is_no_terminal(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "word " * 59 + "end"
    log.put(item("e", at=NOW, summary=long))

    assert long in Answer(capsys).out


@pytest.mark.usefixtures("log")
def test_events_are_whole_when_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer(capsys, "--json", "--task", f"{ARN}:task/shop/aaaaaaaaaa")

    records = json.loads(answer.out)
    assert [record["lastStatus"] for record in records] == ["PENDING", "STOPPED"]
    assert records[1]["event"]["id"] == "i"
    assert records[1]["exitCodes"] == {"app": 137}


@pytest.mark.usefixtures("log")
def test_json_is_an_empty_array_when_nothing_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(Answer(capsys, "--json", "--service", "none").out) == []


@pytest.mark.usefixtures("log")
def test_failed_task_is_marked_when_a_chart_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = Answer(capsys, "--chart", "--cluster", "shop")

    first, second, *_ = answer.out.splitlines()
    assert first.startswith("web:41 aaaaaaaa")
    assert first.endswith("exit 137")
    assert FAILED in first
    assert FAILED not in second
    assert second.rstrip().endswith("running")


@pytest.mark.usefixtures("log")
def test_whole_life_is_drawn_when_only_its_failure_is_in_the_index(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = Answer(capsys, "--chart", "--failed", "--cluster", "shop")

    bar = answer.out.splitlines()[0]
    assert "░" in bar
    assert "█" in bar


@pytest.mark.usefixtures("log")
def test_nothing_is_coloured_when_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ([], ["--chart"], ["--json"]):
        assert "\x1b" not in Answer(capsys, *form).out


@pytest.mark.parametrize("plain", [True, False])
def test_failure_is_red_on_a_terminal_unless_colour_is_not_wanted(
    capsys: pytest.CaptureFixture[str],
    plain: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    console = Console(force_terminal=True, no_color=plain, width=80, color_system="standard")

    print_table(console, [failure("a")])

    assert ("\x1b[1;31m" in capsys.readouterr().out) is not plain


def test_no_escape_reaches_the_terminal_when_a_stop_reason_holds_one(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    log.put(item("e", at=NOW, summary="stopped: \x1b]0;pwned\x07[red]x[/red]"))

    answer = Answer(capsys)

    assert "\x1b" not in answer.out
    assert "[red]x[/red]" in answer.out


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "--since: must be like 90m, 6h or 2d"),
        (["--task", "0a16c2d1"], "--task: needs --cluster"),
        (["--task-definition", "web"], "--task-definition: must be family:revision"),
    ],
)
def test_field_is_named_when_an_argument_is_wrong(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    answer = Answer(capsys, *arguments)

    assert answer.code == 2
    assert answer.out == ""
    assert said in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.usefixtures("log")
def test_table_is_named_when_it_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--table", "gone", "--task", f"{ARN}:task/shop/a"])

    assert code == 2
    assert capsys.readouterr().err == "events: table gone does not exist\n"


@pytest.mark.usefixtures("log")
def test_table_comes_from_the_stack_when_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with stack_answers({"EventTableName": TABLE}):
        code = main(["--task", f"{ARN}:task/shop/bbbbbbbbbb"])

    assert code == 0
    assert "task bbbbbbbbbb is RUNNING" in capsys.readouterr().out


@pytest.mark.usefixtures("log")
def test_stack_is_named_when_it_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with stack_answers(None):
        code = main(["--stack", "gone"])

    error = capsys.readouterr().err
    assert code == 2
    assert "gone does not exist" in error
    assert error.count("\n") == 1


def test_permission_is_named_when_it_is_missing(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: Any) -> None:
        denied: Any = {"Code": "AccessDeniedException", "Message": "not authorized: dynamodb:Query"}
        raise ClientError({"Error": denied}, "Query")

    log.client.meta.events.register("before-call.dynamodb.Query", refuse)

    answer = Answer(capsys, "--failed", "--cluster", "shop")

    assert answer.code == 2
    assert answer.err == (
        "events: Query failed: AccessDeniedException: not authorized: dynamodb:Query\n"
    )


def test_variable_is_named_when_there_is_no_region(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    client.cache_clear()

    code = main(["--table", TABLE])

    assert code == 2
    assert capsys.readouterr().err == (
        "events: AWS_DEFAULT_REGION: must be set, or the region of your profile\n"
    )


def test_arguments_are_refused_when_two_forms_are_asked_for() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--json", "--chart"])

    assert ended.value.code == 2
