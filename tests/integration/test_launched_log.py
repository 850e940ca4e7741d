"""Runs as the event log remembers them: queries against a table made as the template makes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.stub import Stubber
from moto import mock_aws

from ecs_ops.aws.clients import client
from ecs_ops.aws.launched_log import LaunchedLog
from ecs_ops.errors import NotFound, Throttled
from ecs_ops.event_record import launch_key
from tests.fake_launches import FakeLog, launched
from tests.integration.test_event_reader import TABLE, create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ecs_ops.verdict import TaskState

LAUNCHER = "ecs-ops-launch-task"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ARN = "arn:aws:ecs:us-west-2:123456789012"
DEFINITION = f"{ARN}:task-definition/migrate:7"
SERIALIZER = TypeSerializer()
STATES = (
    *("PROVISIONING", "PENDING", "ACTIVATING", "RUNNING"),
    *("DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"),
)


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def arn_of(number: int) -> str:
    return f"{ARN}:task/shop/{number:032x}"


def records_of(
    number: int, *, launcher: str = LAUNCHER, created: datetime | None = None, **more: Any
) -> list[dict[str, Any]]:
    """Return the records of one run from first to last; run 1 is a second younger than run 0."""
    created = created or NOW - timedelta(hours=1) + timedelta(seconds=number)
    records = []
    for version, status in enumerate(STATES, 1):
        # Two changes in each second.
        happened = (created + timedelta(seconds=version // 2)).isoformat(timespec="seconds")
        record: dict[str, Any] = {
            "resourceArn": arn_of(number),
            "taskArn": arn_of(number),
            "eventKey": f"{happened.replace('+00:00', 'Z')}#{version:010d}#id",
            "version": version,
            "ttl": int(NOW.timestamp()) + 86_400,
            "clusterArn": f"{ARN}:cluster/shop",
            "taskDefinitionArn": DEFINITION,
            "startedBy": f"{launcher}/default/alice",
            "lastStatus": status,
            "createdAt": iso(created),
            "event": b"packed",
            **more,
        }
        if status == "STOPPED":
            record |= {"exitCodes": {"app": 3}, "stopCode": "EssentialContainerExited"}
        records.append(record | {"launcher": launcher, "launchKey": launch_key(record)})
    return records


def put(dynamodb: Any, records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        item = {name: SERIALIZER.serialize(value) for name, value in record.items()}
        dynamodb.put_item(TableName=TABLE, Item=item)


def misdated(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a change under a time before all others: it sorts as the first."""
    return record | {"eventKey": f"2026-01-30T00:00:00Z#{record['version']:010d}#id"}


def numbers(tasks: Iterable[TaskState]) -> list[int]:
    return [int(task["taskArn"].rpartition("/")[2], 16) for task in tasks]


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    client.cache_clear()
    with mock_aws():
        dynamodb = client("dynamodb")
        create_table(dynamodb)
        yield dynamodb
    client.cache_clear()


@pytest.fixture
def log(dynamodb: Any) -> LaunchedLog:
    return LaunchedLog(dynamodb, TABLE)


# ---------------------------------------------------------------- one task
def test_last_state_is_whole_when_the_task_has_stopped(dynamodb: Any, log: LaunchedLog) -> None:
    put(dynamodb, records_of(1) + records_of(2))

    assert log.last_of(arn_of(1), NOW) == {
        "taskArn": arn_of(1),
        "clusterArn": f"{ARN}:cluster/shop",
        "taskDefinitionArn": DEFINITION,
        "startedBy": "ecs-ops-launch-task/default/alice",
        "lastStatus": "STOPPED",
        "containers": [{"name": "app", "exitCode": 3}],
        "stopCode": "EssentialContainerExited",
        "createdAt": "2026-01-31T11:00:01.000Z",
    }


def test_last_state_has_the_highest_version_when_times_say_otherwise(
    dynamodb: Any, log: LaunchedLog
) -> None:
    *_, last = records_of(1)
    put(dynamodb, [*records_of(1)[:-1], misdated(last)])

    found = log.last_of(arn_of(1), NOW)

    assert found is not None
    assert found["lastStatus"] == "STOPPED"


def test_there_is_no_state_when_the_log_knows_nothing_or_nothing_any_more(
    dynamodb: Any, log: LaunchedLog
) -> None:
    put(dynamodb, records_of(1, ttl=int(NOW.timestamp())))

    assert log.last_of(arn_of(1), NOW) is None
    assert log.last_of(arn_of(2), NOW) is None


def test_last_state_is_found_when_it_is_not_on_the_first_page(
    dynamodb: Any, log: LaunchedLog
) -> None:
    # A page has 1 MB, and the last state is on the last of them.
    *changes, last = records_of(1, event=b"x" * 300_000)
    put(dynamodb, [*changes, misdated(last)])

    found = log.last_of(arn_of(1), NOW)

    assert found is not None
    assert found["lastStatus"] == "STOPPED"


# ---------------------------------------------------------------- lists
def test_runs_are_told_newest_first_and_once_when_their_records_are_interleaved(
    dynamodb: Any, log: LaunchedLog
) -> None:
    runs = [records_of(number) for number in range(5)]
    put(dynamodb, (record for changes in zip(*runs, strict=True) for record in changes))

    found = log.before(LAUNCHER, "", 10, NOW)

    assert numbers(found) == [4, 3, 2, 1, 0]
    assert {task["lastStatus"] for task in found} == {"STOPPED"}
    assert found[0] == log.last_of(arn_of(4), NOW)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_every_run_is_told_once_when_lists_follow_each_other(
    dynamodb: Any, log: LaunchedLog, limit: int
) -> None:
    put(dynamodb, (record for number in range(20) for record in records_of(number)))

    told: list[TaskState] = []
    while page := log.before(LAUNCHER, launch_key(told[-1]) if told else "", limit, NOW):
        assert len(page) <= limit
        told += page

    assert numbers(told) == [*reversed(range(20))]
    assert {task["lastStatus"] for task in told} == {"STOPPED"}


def test_runs_are_told_apart_when_they_were_created_at_once(
    dynamodb: Any, log: LaunchedLog
) -> None:
    put(dynamodb, (record for n in range(3) for record in records_of(n, created=NOW)))

    (newest,) = log.before(LAUNCHER, "", 1, NOW)
    rest = log.before(LAUNCHER, launch_key(newest), 5, NOW)

    assert numbers([newest, *rest]) == [2, 1, 0]


def test_run_is_told_once_and_as_it_is_when_its_records_are_on_several_pages(
    dynamodb: Any, log: LaunchedLog
) -> None:
    # Far more changes than a page has room for, and the last of them where none looks for it.
    first = records_of(1)[0]
    changes = [
        first | {"version": version, "eventKey": f"{first['eventKey'][:20]}#{version:010d}#id"}
        for version in range(100)
    ]
    *_, last = records_of(1, version=500)
    put(dynamodb, [misdated(last), *changes, *records_of(0), *records_of(2)])

    assert numbers(log.before(LAUNCHER, "", 3, NOW)) == [2, 1, 0]
    one, other = log.before(LAUNCHER, "", 2, NOW)
    assert numbers([one, other]) == [2, 1]
    assert other["lastStatus"] == "STOPPED"


def test_only_runs_of_the_launcher_that_have_not_expired_are_told(
    dynamodb: Any, log: LaunchedLog
) -> None:
    expired = int(NOW.timestamp())
    put(dynamodb, records_of(1) + records_of(2, ttl=expired) + records_of(3, launcher="other-one"))
    put(dynamodb, [record | {"ttl": expired} for record in records_of(4)[:-1]])
    put(dynamodb, records_of(4)[-1:])

    found = log.before(LAUNCHER, "", 10, NOW)

    assert numbers(found) == [4, 1]
    assert found[0]["lastStatus"] == "STOPPED"


def test_runs_behind_those_that_have_expired_are_told(dynamodb: Any, log: LaunchedLog) -> None:
    expired = int(NOW.timestamp())
    put(dynamodb, (one for n in range(1, 15) for one in records_of(n, ttl=expired)))
    put(dynamodb, records_of(0))

    assert numbers(log.before(LAUNCHER, "", 1, NOW)) == [0]


def test_list_is_empty_when_there_are_no_runs(log: LaunchedLog) -> None:
    assert log.before(LAUNCHER, "", 10, NOW) == []


# ---------------------------------------------------------------- bounds and failures
def page_of(number: int, *, more: bool) -> dict[str, Any]:
    """Return the answer to a query: the first change of a run, and whether there is more."""
    items = [{n: SERIALIZER.serialize(value) for n, value in records_of(number)[0].items()}]
    return {"Items": items, **({"LastEvaluatedKey": {"resourceArn": {"S": "x"}}} if more else {})}


def test_list_ends_with_a_run_that_was_read_whole_when_there_are_too_many_pages(
    dynamodb: Any, log: LaunchedLog
) -> None:
    with Stubber(dynamodb) as stub:
        for page in range(20):
            stub.add_response("query", page_of(99 if page < 19 else 98, more=True))

        assert numbers(log.before(LAUNCHER, "", 5, NOW)) == [99]


def test_state_is_the_last_that_was_read_when_there_are_too_many_pages(
    dynamodb: Any, log: LaunchedLog
) -> None:
    with Stubber(dynamodb) as stub:
        for _ in range(20):
            stub.add_response("query", page_of(99, more=True))

        assert log.last_of(arn_of(99), NOW) is not None


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ProvisionedThroughputExceededException", Throttled),
        ("ResourceNotFoundException", NotFound),
    ],
)
def test_error_is_one_of_ours_when_the_log_cannot_be_read(
    dynamodb: Any, log: LaunchedLog, code: str, error: type[Exception]
) -> None:
    for way in (
        lambda: log.last_of(arn_of(1), NOW),
        lambda: log.before(LAUNCHER, "", 1, NOW),
    ):
        with Stubber(dynamodb) as stub:
            stub.add_client_error("query", code)
            with pytest.raises(error):
                way()


# ---------------------------------------------------------------- what the fake does too
def record_of(task: TaskState) -> dict[str, Any]:
    record = {**task, "resourceArn": task["taskArn"], "version": 1, "ttl": 9_999_999_999}
    codes = {one["name"]: one["exitCode"] for one in task["containers"] if "exitCode" in one}
    del record["containers"]
    return {
        **record,
        "eventKey": f"2026-01-01T00:00:00Z#0000000001#{task['taskArn']}",
        "exitCodes": codes,
        "launcher": task["startedBy"].partition("/")[0],
        "launchKey": launch_key(task),
    }


@pytest.fixture(params=["real", "fake"])
def remembering(
    request: pytest.FixtureRequest, dynamodb: Any
) -> Callable[..., LaunchedLog | FakeLog]:
    """Return a log that remembers some tasks."""

    def remember(*tasks: TaskState) -> LaunchedLog | FakeLog:
        if request.param == "fake":
            return FakeLog(*tasks)
        put(dynamodb, map(record_of, tasks))
        return LaunchedLog(dynamodb, TABLE)

    return remember


def test_fake_and_real_log_tell_the_same(
    remembering: Callable[..., LaunchedLog | FakeLog],
) -> None:
    runs = [launched(number, "STOPPED", exit_code=number % 3) for number in range(7)]
    log = remembering(*runs, launched(9, launcher="other-launch-task"))

    assert log.last_of(runs[4]["taskArn"], NOW) == runs[4]
    assert log.last_of(f"{runs[4]['taskArn']}0", NOW) is None
    assert log.before(LAUNCHER, "", 3, NOW) == [runs[6], runs[5], runs[4]]
    assert log.before(LAUNCHER, launch_key(runs[2]), 3, NOW) == [runs[1], runs[0]]
    assert log.before(LAUNCHER, launch_key(runs[0]), 3, NOW) == []
    assert log.before("nobody-launch-task", "", 3, NOW) == []
