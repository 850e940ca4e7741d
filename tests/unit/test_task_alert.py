"""Which failures become one message, and what it says."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecs_ops.event_record import EventRecord
from ecs_ops.task_alert import alert_of, failures, hour_before

ACCOUNT = "arn:aws:ecs:eu-west-1:111122223333"
WEB = f"{ACCOUNT}:task-definition/web:41"
SNS_LIMIT = 262_144


def task(number: int = 1, **fields: Any) -> EventRecord:
    """Return a record of a failed task; a field that is None is left out."""
    time = fields.get("time", "2026-01-01T02:11:09Z")
    arn = fields.get("taskArn", f"{ACCOUNT}:task/shop/{number:032x}")
    record = {
        "resourceArn": arn,
        "eventKey": f"{time}#{fields.get('version', 6):010d}#{number}",
        "ttl": 1_768_000_000,
        "detailType": "ECS Task State Change",
        "time": time,
        "summary": f"web:41 task {number:08x}… stopped: container app exited 137",
        "event": b"",
        "clusterArn": f"{ACCOUNT}:cluster/shop",
        "taskArn": arn,
        "taskDefinitionArn": WEB,
        "family": "web",
        "serviceName": "front",
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "exitCodes": {"app": 137, "log-router": 0},
        "launchType": "FARGATE",
        "availabilityZone": "eu-west-1a",
        "startedAt": "2026-01-01T01:00:00.103Z",
        "stoppedAt": "2026-01-01T02:11:08.220Z",
        "version": 6,
        "outcome": "failed",
    } | fields
    return cast("EventRecord", {name: text for name, text in record.items() if text is not None})


# What ECS would never write, and a forger might: halves of surrogates, controls, nothing at all.
anything = st.text(st.characters(exclude_categories=()), max_size=3_000)
texts = anything | st.sampled_from(["", " ", "Grüße", "a\nb", "\ud800", "x" * 2_000, "😀" * 2_000])
weird_tasks = st.fixed_dictionaries(
    {"taskArn": texts, "summary": texts},
    optional={
        name: st.none() | texts
        for name in (
            *("clusterArn", "taskDefinitionArn", "family", "serviceName", "stopCode"),
            *("stoppedReason", "launchType", "availabilityZone", "capacityProviderName"),
            *("startedAt", "stoppedAt"),
        )
    }
    | {"exitCodes": st.dictionaries(texts, st.integers(), max_size=12)},
).map(lambda fields: task(1, **fields))


plain_tasks = st.builds(
    lambda number, **fields: task(
        number, taskDefinitionArn=[WEB, f"{WEB}2", None][number % 3], **fields
    ),
    st.integers(1, 6),
    version=st.integers(1, 9),
    outcome=st.sampled_from(["failed", None]),
)


@given(st.lists(plain_tasks, max_size=12), st.randoms(use_true_random=False))
def test_every_failed_task_is_there_once_with_its_latest_record(
    records: list[EventRecord], random: Any
) -> None:
    latest: dict[str, int] = {}
    for record in records:
        if record.get("outcome") == "failed":
            arn = record["taskArn"]
            latest[arn] = max(latest.get(arn, 0), record["version"])

    groups = failures(records)

    told = [record for group in groups for record in group]
    assert {record["taskArn"]: record["version"] for record in told} == latest
    assert len(told) == len(latest)
    for group in groups:
        assert len({record.get("taskDefinitionArn") for record in group}) == 1
    definitions = [group[0].get("taskDefinitionArn") for group in groups]
    assert len(definitions) == len(set(definitions))
    # The order of arrival says nothing.
    shuffled = records[:]
    random.shuffle(shuffled)
    versions = [[record["version"] for record in group] for group in failures(shuffled)]
    assert versions == [[record["version"] for record in group] for group in groups]


def test_nothing_is_told_when_what_failed_is_no_task() -> None:
    deployment = task(taskArn=None, resourceArn=f"{ACCOUNT}:service/shop/front")

    assert failures([deployment, task(outcome=None)]) == []


@given(st.lists(weird_tasks, min_size=1, max_size=4), st.integers(1, 40))
@example([task(summary="😀" * 2_000, stoppedReason="😀" * 2_000, stopCode="😀" * 2_000)], 40)
def test_sns_takes_the_message_whatever_the_events_hold(
    tasks: list[EventRecord], times: int
) -> None:
    alert = alert_of(tasks * times, last_hour=len(tasks))

    assert 0 < len(alert.subject) < 100
    assert alert.subject.isascii()
    assert alert.subject.isprintable()
    assert alert.subject[0].isalpha()
    size = len(alert.body.encode()) + sum(
        len(f"{name}{value['DataType']}{value['StringValue']}".encode())
        for name, value in alert.attributes.items()
    )
    assert size < SNS_LIMIT
    assert all(value["StringValue"].strip() for value in alert.attributes.values())


@given(st.lists(st.sampled_from(["", "shop", "staff"]), min_size=1, max_size=6))
def test_an_attribute_is_a_list_only_when_it_has_several_values(names: list[str]) -> None:
    tasks = [task(number, serviceName=name or None) for number, name in enumerate(names)]

    attribute = alert_of(tasks).attributes.get("service")

    distinct = list(dict.fromkeys(filter(None, names)))
    if not distinct:
        assert attribute is None
    elif len(distinct) == 1:
        assert attribute == {"DataType": "String", "StringValue": distinct[0]}
    else:
        assert attribute
        assert attribute["DataType"] == "String.Array"
        assert json.loads(attribute["StringValue"]) == distinct


def test_attributes_are_names_when_events_hold_arns() -> None:
    attributes = alert_of([task()]).attributes

    assert {name: value["StringValue"] for name, value in attributes.items()} == {
        "account": "111122223333",
        "cluster": "shop",
        "service": "front",
        "family": "web",
        "stopCode": "EssentialContainerExited",
    }


def test_a_person_can_act_when_one_task_failed() -> None:
    alert = alert_of([task(0xA, capacityProviderName="x")], last_hour=4)

    page = (
        "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/shop/tasks/"
        "0000000000000000000000000000000a"
    )
    assert alert.subject == (
        "ECS: web:41 failed in shop: app exited 137 (SIGKILL: killed, often out of memory)"
    )
    assert alert.body.splitlines() == [
        "web:41 task 0000000a… stopped: container app exited 137",
        (
            "Where: cluster shop, service front, account 111122223333, eu-west-1a, "
            "launch type FARGATE, capacity provider x"
        ),
        "When: stopped 2026-01-01T02:11:08.220Z, started 2026-01-01T01:00:00.103Z",
        (
            "Why: EssentialContainerExited: a container that the task cannot do without ended: "
            "Essential container in task exited"
        ),
        "Exit codes: app exited 137 (SIGKILL: killed, often out of memory), log-router exited 0",
        f"Task: {page}/configuration?region=eu-west-1",
        f"Logs: {page}/logs?region=eu-west-1",
        "",
        "4 tasks of web:41 failed in the hour up to 2026-01-01T02:11:09Z.",
        "ECS shows a stopped task for about an hour; the event table keeps it.",
    ]


def test_message_counts_and_lists_when_many_tasks_failed() -> None:
    alert = alert_of([task(number) for number in range(57)], last_hour=300, at_least=True)

    assert alert.subject.startswith("ECS: 57 tasks of web:41 failed in shop: app exited 137 (SIG")
    assert alert.body.startswith("57 tasks of web:41 failed.\n\nweb:41 task 00000000…")
    assert alert.body.count("Logs: ") == 50
    assert "… and 7 more" in alert.body
    assert "At least 300 tasks of web:41 failed in the hour up to" in alert.body


def test_list_ends_early_when_the_message_would_grow_too_large() -> None:
    alert = alert_of(
        [task(number, stoppedReason="😀" * 2_000, summary="😀" * 2_000) for number in range(50)]
    )

    listed = alert.body.count("Logs: ")
    assert 10 < listed < 50
    assert f"… and {50 - listed} more" in alert.body


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "1 task of web:41 failed in the hour"), (2, "2 tasks of web:41 failed in the hour")],
)
def test_last_hour_is_told_when_it_is_known(count: int, said: str) -> None:
    assert said in alert_of([task()], last_hour=count).body
    assert "hour up to" not in alert_of([task()]).body


def test_clusters_are_counted_when_there_are_several() -> None:
    other = task(2, clusterArn=f"{ACCOUNT}:cluster/staff")

    assert "tasks of web:41 failed in 2 clusters:" in alert_of([task(), other]).subject


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        # ECS ended the proxy with a signal because the program had failed.
        ({"exitCodes": {"proxy": 143, "app": 3}}, "app exited 3"),
        (
            {"exitCodes": {"proxy": 143}},
            "proxy exited 143 (SIGTERM: the program was asked to stop)",
        ),
        ({"stopCode": "TaskFailedToStart", "exitCodes": None}, "it never ran"),
        (
            {"stopCode": "SpotInterruption", "exitCodes": {"app": 143}},
            "its Spot capacity was taken",
        ),
        ({"stopCode": "TerminationNotice"}, "its host is being terminated"),
        ({"stopCode": "InfrastructureHealth"}, "its host failed"),
        ({"stopCode": "ServiceSchedulerInitiated"}, "it failed its health checks"),
        ({"stopCode": "NewInTheYear2030"}, "NewInTheYear2030"),
        ({"stopCode": None}, "no reason given"),
    ],
)
def test_subject_says_why_when_a_task_failed(fields: dict[str, Any], cause: str) -> None:
    assert cause in alert_of([task(**fields)]).subject


@pytest.mark.parametrize(
    ("fields", "page"),
    [
        (
            {"taskArn": "arn:aws-cn:ecs:cn-north-1:111122223333:task/shop/0a16"},
            "https://cn-north-1.console.amazonaws.cn/ecs/v2/clusters/shop/tasks/0a16/",
        ),
        (
            {"taskArn": "arn:aws-us-gov:ecs:us-gov-west-1:111122223333:task/shop/0a16"},
            "https://us-gov-west-1.console.amazonaws-us-gov.com/ecs/v2/clusters/shop/tasks/0a16/",
        ),
        # The format until 2018.
        (
            {"taskArn": f"{ACCOUNT}:task/0a16"},
            "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/shop/tasks/0a16/",
        ),
    ],
)
def test_links_lead_to_the_right_console_when_partitions_differ(
    fields: dict[str, Any], page: str
) -> None:
    body = alert_of([task(**fields)]).body

    assert f"Task: {page}configuration?region=" in body
    assert f"Logs: {page}logs?region=" in body


@pytest.mark.parametrize(
    "fields",
    [
        {"taskArn": "arn:aws-iso:ecs:us-iso-east-1:111122223333:task/shop/0a16"},
        {"taskArn": f"{ACCOUNT}:task/0a16", "clusterArn": None},
        {"taskArn": f"{ACCOUNT}:task/shop/0a16/../../evil"},
        {"taskArn": "no ARN at all"},
    ],
)
def test_no_link_is_made_up_when_the_console_is_not_known(fields: dict[str, Any]) -> None:
    assert "https://" not in alert_of([task(**fields)]).body


@given(st.lists(st.datetimes().map(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}"), min_size=1))
@example(["0001-01-01T00:00:00Z"])
def test_last_hour_ends_with_the_newest_failure(times: Sequence[str]) -> None:
    tasks = [task(number, time=time.rjust(20, "0")) for number, time in enumerate(times)]

    since, until = hour_before(tasks)

    assert until == max(record["eventKey"] for record in tasks)
    assert len(since) == len("2026-01-01T01:11:09Z")


def test_last_hour_begins_an_hour_before_the_newest_failure() -> None:
    old, new = task(1, time="2026-01-01T00:00:00Z"), task(2, time="2026-01-02T00:30:00Z")

    assert hour_before([new, old]) == ("2026-01-01T23:30:00Z", new["eventKey"])
