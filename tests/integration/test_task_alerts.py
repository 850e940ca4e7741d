"""A person is told once per failed task: seen from a queue that is subscribed to the topic.

What goes wrong is put before the calls of one client; DynamoDB, SNS and SQS are moto's.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from ecs_ops.aws.alert_claims import LEASE
from ecs_ops.aws.metrics import Metrics
from ecs_ops.aws.task_alerts import TaskAlerts
from ecs_ops.event_record import EventRecord

ACCOUNT = "arn:aws:ecs:eu-west-1:111122223333"
TABLE = "ecs-ops-events"
NOW = 1_767_233_469  # 2026-01-01T02:11:09Z
VISIBILITY = 360
"""After so many seconds the queue hands a message out again."""

type Fault = Callable[[Callable[..., Any], dict[str, Any]], Any]


class Killed(BaseException):
    """The process ends: nothing that is in the code can catch this."""


class Faulty:
    """A client; the first calls of one operation meet the given faults, one each."""

    def __init__(self, client: Any, operation: str, *faults: Fault) -> None:
        self._client = client
        self._operation = operation
        self.faults = list(faults)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name != self._operation or not self.faults:
            return method
        fault = self.faults.pop(0)
        return lambda **arguments: fault(method, arguments)


def refused(code: str, status: int = 400) -> Fault:
    def fault(_method: Callable[..., Any], _arguments: dict[str, Any]) -> Any:
        error = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(cast("Any", error), "Operation")

    return fault


def killed_before(_method: Callable[..., Any], _arguments: dict[str, Any]) -> Any:
    raise Killed


def killed_after(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    method(**arguments)
    raise Killed


def answer_lost(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    method(**arguments)
    raise ReadTimeoutError(endpoint_url="https://aws")


def sent_twice(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What botocore does when the first answer is lost."""
    method(**arguments)
    return method(**arguments)


def unprocessed(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Take only the first request of a batch."""
    ((table, requests),) = arguments["RequestItems"].items()
    method(RequestItems={table: requests[:1]})
    return {"UnprocessedItems": {table: requests[1:]} if requests[1:] else {}}


def untouched(_method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return {"UnprocessedItems": arguments["RequestItems"]}


@cache
def client(service: str) -> Any:
    """Return a client: making one takes longer than most tests here."""
    return boto3.client(cast("Any", service), region_name="eu-west-1")


class World:
    """The table, the topic, and a queue that hears everything published there."""

    def __init__(self) -> None:
        self.dynamodb = client("dynamodb")
        self.sns = client("sns")
        self.sqs = client("sqs")
        key = [("taskDefinitionArn", "HASH"), ("eventKey", "RANGE")]
        self.dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"}
                for name in ("resourceArn", "eventKey", "taskDefinitionArn")
            ],
            KeySchema=[
                {"AttributeName": "resourceArn", "KeyType": "HASH"},
                {"AttributeName": "eventKey", "KeyType": "RANGE"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "taskDefinitionArn-eventKey-index",
                    "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in key],
                    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["outcome"]},
                }
            ],
        )
        self.topic: str = self.sns.create_topic(Name="alerts")["TopicArn"]
        self.inbox = self.subscriber("inbox")
        self.written: list[str] = []

    def subscriber(self, name: str, **policy: list[str]) -> str:
        """Return the URL of a queue that hears what the filter policy lets through."""
        url: str = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = {"FilterPolicy": json.dumps(policy)} if policy else {}
        self.sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:eu-west-1:123456789012:{name}",
            Attributes=attributes,
        )
        return url

    def messages(self, url: str = "") -> list[dict[str, Any]]:
        """Take all messages out of a queue."""
        taken: list[dict[str, Any]] = []
        while batch := self.sqs.receive_message(
            QueueUrl=url or self.inbox, MaxNumberOfMessages=10
        ).get("Messages"):
            taken += [json.loads(message["Body"]) for message in batch]
        return taken

    def measured(self, metric: str) -> list[int]:
        """Return the data points of a metric."""
        return [line[metric] for line in map(json.loads, self.written) if metric in line]

    def send(
        self,
        *records: EventRecord,
        later: float = 0,
        dynamodb: Any = None,
        sns: Any = None,
        topic: str = "",
        time_left: Callable[[], float] = lambda: 50.0,
    ) -> frozenset[str]:
        """Have one worker send alerts, `later` seconds after the first failure."""
        alerts = TaskAlerts(
            dynamodb or self.dynamodb,
            TABLE,
            lambda: sns or self.sns,
            topic or self.topic,
            sleep=lambda _seconds: None,
            put=Metrics("log-events", write=self.written.append).put,
        )
        return alerts.send(records, now=NOW + later, time_left=time_left)

    def store(self, *records: EventRecord) -> None:
        """Put what of these records matters to a reader of the index."""
        kept = ("resourceArn", "eventKey", "taskDefinitionArn", "outcome")
        for record in records:
            item = {name: {"S": text} for name, text in record.items() if name in kept}
            self.dynamodb.put_item(TableName=TABLE, Item=item)


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        yield World()


def failed(number: int = 1, definition: str = "web:41", **fields: Any) -> EventRecord:
    time = fields.get("time", "2026-01-01T02:11:09Z")
    arn = f"{ACCOUNT}:task/shop/{number:032x}"
    record = {
        "resourceArn": arn,
        "eventKey": f"{time}#{fields.get('version', 6):010d}#{number}",
        "ttl": NOW + 14 * 86_400,
        "detailType": "ECS Task State Change",
        "time": time,
        "summary": f"{definition} task {number:08x}… stopped: container app exited 3",
        "event": b"",
        "clusterArn": f"{ACCOUNT}:cluster/shop",
        "taskArn": arn,
        "taskDefinitionArn": f"{ACCOUNT}:task-definition/{definition}",
        "family": definition.partition(":")[0],
        "stopCode": "EssentialContainerExited",
        "exitCodes": {"app": 3},
        "version": 6,
        "outcome": "failed",
    }
    return cast("EventRecord", record | fields)


def arns(*records: EventRecord) -> set[str]:
    return {record["taskArn"] for record in records}


def test_a_person_is_told_when_a_task_failed(world: World) -> None:
    assert world.send(failed(1)) == frozenset()

    (message,) = world.messages()
    assert message["Subject"] == "ECS: web:41 failed in shop: app exited 3"
    assert "tasks/00000000000000000000000000000001/logs?region=eu-west-1" in message["Message"]
    assert "1 task of web:41 failed in the hour" in message["Message"]
    assert message["MessageAttributes"]["cluster"] == {"Type": "String", "Value": "shop"}


def test_nobody_is_told_when_no_task_failed(world: World) -> None:
    stopped = failed(1)
    del stopped["outcome"]

    assert world.send(stopped) == frozenset()
    assert world.messages() == []


def test_a_person_is_told_once_when_events_repeat(world: World) -> None:
    early, late = failed(1, version=6), failed(1, version=7)

    assert world.send(early, late, early) == frozenset()
    assert world.send(early) == frozenset()
    assert world.send(late, later=10 * VISIBILITY) == frozenset()

    assert len(world.messages()) == 1


def test_failures_are_counted_once_when_events_repeat(world: World) -> None:
    world.send(failed(1), failed(2), failed(1, version=7))
    world.send(failed(2))

    assert world.measured("TasksFailed") == [2]
    assert world.measured("AlertsSent") == [1]


def test_nothing_is_counted_when_nobody_was_told(world: World) -> None:
    world.send(failed(1), topic=f"{world.topic}-gone")

    assert world.written == []


def test_one_message_lists_all_when_tasks_of_one_definition_failed(world: World) -> None:
    web, job = [failed(number) for number in range(30)], failed(99, "job:7")

    assert world.send(*web, job) == frozenset()

    first, second = sorted(world.messages(), key=lambda message: str(message["Subject"]))
    assert first["Subject"].startswith("ECS: 30 tasks of web:41 failed")
    assert all(f"{number:032x}/logs" in first["Message"] for number in range(30))
    assert second["Subject"].startswith("ECS: job:7 failed")
    # The marks of all 31 took more than one batch.
    assert world.send(*web, job, later=VISIBILITY) == frozenset()
    assert world.messages() == []


def test_only_new_failures_are_told_when_a_batch_mixes_them(world: World) -> None:
    world.send(failed(1))
    world.messages()

    world.send(failed(1), failed(2))

    (message,) = world.messages()
    assert message["Subject"].startswith("ECS: web:41 failed")
    assert f"{1:032x}/logs" not in message["Message"]
    assert "2 tasks of web:41 failed in the hour" in message["Message"]


def test_second_worker_waits_when_two_race_for_a_task(world: World) -> None:
    seen: list[frozenset[str]] = []

    def meanwhile(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        seen.append(world.send(failed(1), failed(2)))
        return method(**arguments)

    assert world.send(failed(1), sns=Faulty(world.sns, "publish", meanwhile)) == frozenset()

    # The other told about its own task alone, and gave the first one's back to the queue.
    assert seen == [arns(failed(1))]
    assert len(world.messages()) == 2
    assert world.send(failed(1), later=VISIBILITY) == frozenset()
    assert world.messages() == []


def test_second_worker_waits_when_it_claims_a_moment_later(world: World) -> None:
    seen: list[frozenset[str]] = []

    def meanwhile(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        seen.append(world.send(failed(1), sns=Faulty(world.sns, "publish", refused("Throttled"))))
        return method(**arguments)

    # The other had it, failed, and released it: the claim is free again.
    assert world.send(failed(1), dynamodb=Faulty(world.dynamodb, "put_item", meanwhile)) == set()

    assert seen == [arns(failed(1))]
    assert len(world.messages()) == 1


def test_message_is_sent_later_when_the_worker_dies_before_it(world: World) -> None:
    with pytest.raises(Killed):
        world.send(failed(1), sns=Faulty(world.sns, "publish", killed_before))

    assert world.send(failed(1), later=LEASE) == arns(failed(1))
    assert world.messages() == []
    assert world.send(failed(1), later=VISIBILITY) == frozenset()
    assert len(world.messages()) == 1


def test_message_is_sent_again_but_never_lost_when_the_worker_dies_after_it(world: World) -> None:
    with pytest.raises(Killed):
        world.send(failed(1), sns=Faulty(world.sns, "publish", killed_after))

    assert world.send(failed(1), later=VISIBILITY) == frozenset()
    assert len(world.messages()) == 2
    assert world.send(failed(1), later=2 * VISIBILITY) == frozenset()
    assert world.messages() == []


def test_nothing_is_claimed_twice_when_the_answer_to_a_claim_was_lost(world: World) -> None:
    dynamodb = Faulty(world.dynamodb, "put_item", sent_twice)

    assert world.send(failed(1), dynamodb=dynamodb) == frozenset()
    assert len(world.messages()) == 1


@pytest.mark.parametrize(
    "fault", [refused("Throttled"), refused("AuthorizationError", 403), refused("NotFound", 404)]
)
def test_message_is_sent_by_the_next_try_when_sns_refuses(world: World, fault: Fault) -> None:
    sns = Faulty(world.sns, "publish", fault)

    assert world.send(failed(1), failed(2), failed(9, "job:7"), sns=sns) == arns(
        failed(1), failed(2)
    )

    # The other task definition was not harmed, and the claims are free at once.
    (message,) = world.messages()
    assert message["Subject"].startswith("ECS: job:7")
    assert world.send(failed(1), failed(2), failed(9, "job:7")) == frozenset()
    assert len(world.messages()) == 1


def test_every_try_comes_back_when_the_topic_is_gone(world: World) -> None:
    gone = f"{world.topic}-gone"

    for attempt in range(5):
        assert world.send(failed(1), topic=gone, later=attempt * VISIBILITY) == arns(failed(1))


def test_message_waits_for_the_lease_when_the_claim_cannot_be_released(world: World) -> None:
    sns = Faulty(world.sns, "publish", refused("Throttled"))
    dynamodb = Faulty(world.dynamodb, "batch_write_item", refused("AccessDeniedException"))

    assert world.send(failed(1), sns=sns, dynamodb=dynamodb) == arns(failed(1))

    assert world.send(failed(1), later=1) == arns(failed(1))
    assert world.send(failed(1), later=VISIBILITY) == frozenset()
    assert len(world.messages()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        refused("ThrottlingException"),
        refused("AccessDeniedException"),
        refused("ResourceNotFoundException"),
    ],
)
def test_other_tasks_are_told_when_one_claim_fails(world: World, fault: Fault) -> None:
    dynamodb = Faulty(world.dynamodb, "put_item", fault)

    assert world.send(failed(1), failed(2), dynamodb=dynamodb) == arns(failed(1))

    (message,) = world.messages()
    assert f"{2:032x}/logs" in message["Message"]
    assert world.send(failed(1)) == frozenset()


def test_claim_that_was_made_is_found_later_when_its_answer_was_lost(world: World) -> None:
    dynamodb = Faulty(world.dynamodb, "put_item", answer_lost)

    assert world.send(failed(1), dynamodb=dynamodb) == arns(failed(1))
    assert world.send(failed(1), later=VISIBILITY) == frozenset()
    assert len(world.messages()) == 1


@pytest.mark.parametrize(
    "faults",
    [
        [unprocessed],
        [untouched, untouched, unprocessed],
        [refused("ProvisionedThroughputExceededException"), unprocessed],
    ],
)
def test_all_are_marked_when_the_table_takes_the_marks_bit_by_bit(
    world: World, faults: list[Fault]
) -> None:
    tasks = [failed(number) for number in range(30)]
    dynamodb = Faulty(world.dynamodb, "batch_write_item", *faults)

    assert world.send(*tasks, dynamodb=dynamodb) == frozenset()
    assert world.send(*tasks, later=VISIBILITY) == frozenset()

    assert len(world.messages()) == 1


def test_a_repeated_event_is_told_again_when_the_mark_was_lost(world: World) -> None:
    """The price of not losing any: said in docs/event-log.md."""
    dynamodb = Faulty(world.dynamodb, "batch_write_item", refused("AccessDeniedException"))

    assert world.send(failed(1), dynamodb=dynamodb) == frozenset()
    assert len(world.messages()) == 1
    assert world.send(failed(1), later=1) == arns(failed(1))
    assert world.send(failed(1), later=VISIBILITY) == frozenset()
    assert len(world.messages()) == 1


@pytest.mark.parametrize("calls", range(4))
def test_tasks_come_back_when_time_runs_out(world: World, calls: int) -> None:
    """Time for so many of the four looks before a message is on its way: two claims come first."""
    looks = count()

    def time_left() -> float:
        return 1.0 if next(looks) < calls else 0.0

    tasks = [failed(1), failed(2)]

    unsettled = world.send(*tasks, time_left=time_left)

    assert unsettled == arns(*tasks)
    assert world.messages() == []
    assert world.send(*tasks, later=VISIBILITY) == frozenset()
    assert len(world.messages()) == 1


def test_last_hour_counts_tasks_when_the_log_holds_earlier_ones(world: World) -> None:
    early = failed(1, time="2026-01-01T01:11:08Z")  # one second too early
    inside = failed(2, time="2026-01-01T01:11:09Z")
    again = failed(2, time="2026-01-01T01:11:10Z", version=7)
    other = failed(3, "job:7")
    after = failed(4, time="2026-01-01T02:11:10Z")
    well = failed(5)
    del well["outcome"]
    world.store(early, inside, again, other, after, well)

    world.send(failed(9))

    (message,) = world.messages()
    assert (
        "\n2 tasks of web:41 failed in the hour up to 2026-01-01T02:11:09Z." in message["Message"]
    )


def test_last_hour_leaves_out_what_is_older_when_a_batch_holds_it(world: World) -> None:
    world.send(failed(1, time="2026-01-01T00:00:00Z"), failed(9))

    (message,) = world.messages()
    assert message["Subject"].startswith("ECS: 2 tasks of web:41 failed")
    assert "\n1 task of web:41 failed in the hour up to 2026-01-01T02:11:09Z." in message["Message"]


def test_last_hour_ends_with_what_is_told_when_newer_ones_are_told_already(world: World) -> None:
    newer = failed(9, time="2026-01-01T02:11:10Z")
    world.send(newer)
    world.messages()

    world.send(failed(1), newer)

    (message,) = world.messages()
    assert "\n1 task of web:41 failed in the hour up to 2026-01-01T02:11:09Z." in message["Message"]


def test_last_hour_is_a_lower_bound_when_the_index_has_more_pages(world: World) -> None:
    def first_page(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return method(**arguments, Limit=2)

    world.store(*(failed(number) for number in range(5)))

    world.send(failed(9), dynamodb=Faulty(world.dynamodb, "query", first_page))

    assert "At least 3 tasks of web:41 failed in the hour" in world.messages()[0]["Message"]


def test_message_goes_without_the_last_hour_when_the_index_cannot_be_read(world: World) -> None:
    dynamodb = Faulty(world.dynamodb, "query", refused("AccessDeniedException"))

    assert world.send(failed(1), dynamodb=dynamodb) == frozenset()

    assert "in the hour" not in world.messages()[0]["Message"]


def test_subscriber_hears_its_own_service_when_it_filters(world: World) -> None:
    front = world.subscriber("front", cluster=["shop"], service=["front"])
    back = world.subscriber("back", service=["back"])

    world.send(failed(1, serviceName="front"))
    assert (len(world.messages(front)), len(world.messages(back))) == (1, 0)

    # One message about tasks of two services reaches both subscribers.
    world.send(failed(2, serviceName="front"), failed(3, serviceName="back"))
    assert (len(world.messages(front)), len(world.messages(back))) == (1, 1)


def test_claim_stays_out_of_sight_when_events_are_read(world: World) -> None:
    world.send(failed(1))

    (claim,) = world.dynamodb.scan(TableName=TABLE)["Items"]
    assert claim == {
        "resourceArn": {"S": f"alert#{ACCOUNT}:task/shop/{1:032x}"},
        "eventKey": {"S": "alert"},
        "ttl": {"N": str(failed(1)["ttl"])},
        "sentAt": {"N": str(NOW)},
    }


# What may happen to a call of an operation.
MISHAPS: dict[str, tuple[str, Fault]] = {
    "claim throttled": ("put_item", refused("ThrottlingException")),
    "claim's answer lost": ("put_item", answer_lost),
    "killed before the claim": ("put_item", killed_before),
    "killed after the claim": ("put_item", killed_after),
    "count refused": ("query", refused("AccessDeniedException")),
    "message throttled": ("publish", refused("Throttled")),
    "killed before the message": ("publish", killed_before),
    "mark bit by bit": ("batch_write_item", unprocessed),
    "release refused": ("batch_write_item", untouched),
    "message's answer lost": ("publish", answer_lost),
    "killed after the message": ("publish", killed_after),
    "mark refused": ("batch_write_item", refused("AccessDeniedException")),
}
# Nobody knows then whether the message was sent, so it is sent again.
MAY_REPEAT = {"message's answer lost", "killed after the message", "mark refused"}

deliveries = st.lists(
    st.tuples(
        st.lists(st.integers(1, 5), min_size=1, max_size=4),  # which tasks, repeats included
        st.none() | st.sampled_from(sorted(MISHAPS)),
        st.integers(0, 3),  # after how many calls that go well
        st.sampled_from([0, 1, VISIBILITY]),  # seconds since the delivery before
    ),
    min_size=1,
    max_size=6,
)


# Each example has tasks of its own, so one world will do for all.
examples = count(1)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deliveries)
def test_everyone_is_told_about_and_only_once_whatever_goes_wrong(
    world: World, plan: list[tuple[list[int], str | None, int, int]]
) -> None:
    def well(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return method(**arguments)

    example = next(examples)
    clock = 0
    known: set[str] = set()
    waiting: dict[str, EventRecord] = {}
    for numbers, mishap, after, pause in plan:
        clock += pause
        records = [failed(10 * example + n, ["web:41", "job:7"][n % 2]) for n in numbers]
        known |= arns(*records)
        operation, fault = MISHAPS[mishap] if mishap else ("query", well)
        faults = [*[well] * after, fault]
        unsettled = frozenset(arns(*records))
        with suppress(Killed):
            unsettled = world.send(
                *records,
                later=clock,
                dynamodb=Faulty(world.dynamodb, operation, *faults),
                sns=Faulty(world.sns, operation, *faults),
            )
        for record in records:
            waiting.pop(record["taskArn"], None)
            if record["taskArn"] in unsettled:
                waiting[record["taskArn"]] = record
    # The queue hands out what is left until it is settled.
    for record in waiting.values():
        clock += VISIBILITY
        assert world.send(record, later=clock) == frozenset()

    text = "".join(message["Message"] for message in world.messages())
    told = [text.count(f"{arn.rpartition('/')[2]}/logs") for arn in known]
    assert all(told)
    if not MAY_REPEAT & {mishap for _, mishap, _, _ in plan}:
        assert set(told) == {1}
