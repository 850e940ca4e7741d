import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.errors import InvalidRequest
from ecs_ops.event_record import EventRecord, is_failure, read_event, record_of

EVENTS = Path(__file__).parents[2] / "events" / "log_events"
DAY = 86_400
NOW = 1_767_225_600  # 2026-01-01T00:00:00Z, some minutes before the sample events
TASK = "arn:aws:ecs:us-west-2:111122223333:task/shop/f9c2a8d1e0b34c5d9a7e6f5043210abc"
CLUSTER = "arn:aws:ecs:us-west-2:111122223333:cluster/shop"
SERVICE = "arn:aws:ecs:us-west-2:111122223333:service/shop/web"


def sample(case: str) -> dict[str, Any]:
    """Return the event inside the one message of `events/log_events/<case>.json`."""
    message = json.loads((EVENTS / f"{case}.json").read_text())["Records"][0]
    event: dict[str, Any] = json.loads(message["body"])
    return event


def record(event: object, *, retention_days: int = 14, now: int = NOW) -> EventRecord:
    return record_of(read_event(json.dumps(event)), retention_days=retention_days, now=now)


def stored(kept: EventRecord) -> Any:
    return json.loads(gzip.decompress(kept["event"]))


def stopped(stop_code: str | None, *exit_codes: int | None) -> dict[str, Any]:
    """Return the detail of a stopped task with one container for each exit code."""
    containers = [
        {"name": f"c{number}"} | ({} if code is None else {"exitCode": code})
        for number, code in enumerate(exit_codes)
    ]
    return {"lastStatus": "STOPPED", "stopCode": stop_code, "containers": containers}


def test_all_attributes_are_kept_when_a_task_failed() -> None:
    kept = record(sample("task_stopped_failed"))

    assert {name: value for name, value in kept.items() if name != "event"} == {
        "resourceArn": TASK,
        "eventKey": "2026-01-01T00:12:41Z#0000000006#8d3b1f6e-41a2-4c0d-9f3e-5a6b7c8d9e0f",
        "ttl": NOW + 12 * 60 + 41 + 14 * DAY,
        "detailType": "ECS Task State Change",
        "time": "2026-01-01T00:12:41Z",
        "clusterArn": CLUSTER,
        "taskArn": TASK,
        "taskDefinitionArn": "arn:aws:ecs:us-west-2:111122223333:task-definition/migrate:7",
        "family": "migrate",
        "group": "family:migrate",
        "startedBy": "arn-aws-cloudformation-stack",
        "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED",
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "exitCodes": {"app": 3, "log-router": 0},
        "launchType": "FARGATE",
        "availabilityZone": "us-west-2c",
        "capacityProviderName": "FARGATE",
        "createdAt": "2026-01-01T00:00:04.402Z",
        "startedAt": "2026-01-01T00:12:01.103Z",
        "stoppedAt": "2026-01-01T00:12:41.220Z",
        "version": 6,
        "outcome": "failed",
        "failedClusterArn": CLUSTER,
        "summary": "Task migrate:7 failed: Essential container in task exited"
        " (app exited with 3, log-router exited with 0)",
    }


def test_no_outcome_is_kept_when_a_task_runs() -> None:
    kept = record(sample("task_running"))

    assert kept["serviceName"] == "web"
    assert kept["summary"] == "Task web:12 of service web is RUNNING"
    assert not {"outcome", "failedClusterArn", "exitCodes", "stopCode"} & kept.keys()


def test_failure_is_kept_when_the_task_never_started() -> None:
    kept = record(sample("task_failed_to_start"))

    assert kept["outcome"] == "failed"
    assert "exitCodes" not in kept
    assert "CannotPullContainerError" in kept["summary"]


def test_service_and_cluster_are_found_when_a_deployment_names_them_only_in_its_resource() -> None:
    kept = record(sample("deployment_failed"))

    assert kept["resourceArn"] == SERVICE
    assert kept["serviceName"] == "web"
    assert kept["clusterArn"] == CLUSTER
    assert (
        kept["eventKey"] == "2026-01-01T00:30:14Z#0000000000#ddca6449-b258-46c0-8653-e0e3aa1b2c3d"
    )
    assert kept["summary"].startswith("Service web: SERVICE_DEPLOYMENT_FAILED: ECS deployment")


def test_no_cluster_is_made_up_when_the_service_arn_has_the_old_format() -> None:
    event = sample("deployment_failed")
    event["resources"] = ["arn:aws:ecs:us-west-2:111122223333:service/web"]

    kept = record(event)

    assert kept["serviceName"] == "web"
    assert "clusterArn" not in kept


def test_reason_is_summed_up_when_a_service_cannot_place_a_task() -> None:
    kept = record(sample("service_action"))

    assert kept["resourceArn"] == SERVICE
    assert kept["summary"] == "Service web: SERVICE_TASK_PLACEMENT_FAILURE: RESOURCE:FARGATE"


def test_instance_is_the_resource_when_its_state_changes() -> None:
    kept = record(sample("container_instance"))

    assert kept["resourceArn"].endswith("container-instance/shop/b54a2a04046f43319d743f6d7f6ca315")
    assert kept["version"] == 14801
    assert kept["summary"] == "Container instance i-0f3a8506b1c2d3e4f is ACTIVE, agent disconnected"


def test_task_is_the_resource_when_it_also_names_its_instance() -> None:
    event = sample("task_running")
    event["detail"]["containerInstanceArn"] = "arn:aws:ecs:::container-instance/shop/b54a"
    event["resources"] = list(reversed([*event["resources"], "arn:aws:ecs:::container-instance/x"]))

    assert record(event)["resourceArn"] == event["detail"]["taskArn"]


def test_event_is_kept_when_its_detail_type_is_unknown() -> None:
    event = sample("service_action") | {"detail-type": "ECS Novelty", "detail": {"a": [1, None]}}

    kept = record(event)

    assert kept["detailType"] == "ECS Novelty"
    assert kept["summary"] == "ECS Novelty: web"
    assert stored(kept) == event


def test_event_is_kept_under_its_account_when_it_is_about_no_resource() -> None:
    event = sample("service_action") | {
        "detail-type": "AWS API Call via CloudTrail",
        "resources": [],
        "detail": {"eventName": "ListClusters"},
    }

    assert record(event)["resourceArn"] == "aws.ecs/111122223333/us-west-2"


def test_environment_values_are_absent_when_a_task_overrides_them() -> None:
    kept = record(sample("task_stopped_failed"))

    assert "not-a-real-secret" not in repr(kept)
    assert "not-a-real-secret" not in json.dumps(stored(kept))
    override = stored(kept)["detail"]["overrides"]["containerOverrides"][0]
    assert override["environment"] == [
        {"name": "DATABASE_PASSWORD", "value": "***"},
        {"name": "RELEASE", "value": "***"},
    ]
    assert override["command"] == ["migrate", "--all"]


@pytest.mark.parametrize(
    "environment",
    [
        [{"name": "A", "value": "s3cret"}],
        [{"name": "A", "value": {"nested": "s3cret"}, "more": "s3cret"}],
        ["A=s3cret"],
        {"A": "s3cret"},
        "A=s3cret",
    ],
)
def test_environment_values_are_absent_when_they_come_in_any_shape(environment: object) -> None:
    event = sample("service_action")
    event["detail"]["requestParameters"] = {"overrides": [{"environment": environment}]}

    assert "s3cret" not in json.dumps(stored(record(event)))


@pytest.mark.parametrize(
    ("detail", "failed"),
    [
        (stopped("TaskFailedToStart"), True),
        (stopped("TaskFailedToStart", None), True),
        (stopped("EssentialContainerExited", 0), False),
        (stopped("EssentialContainerExited", 0, 3), True),
        (stopped("EssentialContainerExited", None), False),
        (stopped("SpotInterruption", 0), True),
        (stopped("TerminationNotice", 0), True),
        (stopped("InfrastructureHealth", 0), True),
        (stopped("UserInitiated", 143), False),
        (stopped("ServiceSchedulerInitiated", 137), False),
        (stopped(None, 1), False),
        (stopped("EssentialContainerExited", 1) | {"lastStatus": "DEPROVISIONING"}, False),
    ],
)
def test_task_counts_as_failed_when_its_stop_code_says_so(
    detail: dict[str, Any],
    failed: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    assert is_failure(detail) is failed


def test_ttl_is_the_end_of_the_next_day_when_the_event_is_past_its_retention() -> None:
    event = sample("task_running")
    late = NOW + 30 * DAY

    assert record(event, now=late + 60)["ttl"] == late + 2 * DAY
    assert record(event, now=late + DAY - 1)["ttl"] == late + 2 * DAY


def test_summary_is_one_short_line_when_the_reason_is_long() -> None:
    event = sample("task_failed_to_start")
    event["detail"]["stoppedReason"] = "first\nsecond\t" + "x" * 5000

    summary = record(event)["summary"]

    assert summary.startswith("Task web:12 of service web failed: first second xxx")
    assert len(summary) == 300


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("this is no JSON", "body"),
        ("[" * 100_000, "body"),
        ("1" * 5_000, "body"),
        ("[]", "body"),
        ("{}", "detail"),
        (json.dumps({"detail": {}}), "id"),
        (json.dumps({"detail": {}, "id": 7}), "id"),
        (json.dumps({"detail": {}, "id": "i"}), "time"),
        (json.dumps({"detail": {}, "id": "i", "time": "soon"}), "time"),
        (json.dumps({"detail": {}, "id": "i", "time": "2026-01-01T00:00:00"}), "time"),
        (json.dumps({"detail": {}, "id": "i", "time": "2026-01-01T00:00:00Z"}), "detail-type"),
    ],
)
def test_event_is_refused_by_field_when_it_is_none(text: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_event(text)

    assert refusal.value.field == field


def test_no_time_of_writing_is_stored_when_an_event_is_compressed() -> None:
    # RFC 1952: bytes 4 to 7 are the modification time.
    assert record(sample("task_running"))["event"][4:8] == bytes(4)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=10,
)
field_names = st.sampled_from(
    [
        "version",
        "lastStatus",
        "desiredStatus",
        "stopCode",
        "stoppedReason",
        "containers",
        "group",
        "clusterArn",
        "taskArn",
        "taskDefinitionArn",
        "eventName",
        "reason",
    ]
)
events = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1),
        "time": st.datetimes(
            min_value=datetime(1971, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
            max_value=datetime(2200, 1, 1),  # noqa: DTZ001
            timezones=st.just(UTC),
        ).map(datetime.isoformat),
        "detail-type": st.sampled_from(
            [
                "ECS Task State Change",
                "ECS Service Action",
                "ECS Deployment State Change",
                "ECS Container Instance State Change",
                "ECS Novelty",
            ]
        ),
        "resources": st.lists(st.text(), max_size=2),
        "detail": st.dictionaries(field_names, json_values, max_size=6),
    }
)


@given(events)
def test_any_event_gives_a_complete_record_when_its_detail_is_arbitrary(
    event: dict[str, Any],
) -> None:
    kept = record(event)

    assert kept["resourceArn"]
    assert "\n" not in kept["summary"]
    assert "" not in kept.values()
    assert json.dumps(stored(kept), sort_keys=True) == json.dumps(event, sort_keys=True)


@given(events, events)
def test_keys_differ_when_events_differ_in_id(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = record(one), record(other)

    same_key = (first["resourceArn"], first["eventKey"]) == (
        second["resourceArn"],
        second["eventKey"],
    )
    assert not same_key or one["id"] == other["id"]


@given(
    st.integers(0, 9_999_999_999),
    st.text(min_size=1),
    st.integers(0, 9_999_999_999),
    st.text(min_size=1),
)
def test_keys_are_equal_only_when_version_and_id_are(
    version: int, event_id: str, other_version: int, other_id: str
) -> None:
    event = sample("task_running")
    keys = []
    for some_version, some_id in ((version, event_id), (other_version, other_id)):
        event["detail"]["version"], event["id"] = some_version, some_id
        keys.append(record(event)["eventKey"])

    assert (keys[0] == keys[1]) == ((version, event_id) == (other_version, other_id))


@given(st.integers(0, 9_999_999_999), st.integers(0, 9_999_999_999))
def test_later_versions_sort_after_earlier_ones_when_the_time_is_the_same(
    one: int, other: int
) -> None:
    event = sample("task_running")
    event["detail"]["version"] = one
    first = record(event)["eventKey"]
    event["detail"]["version"] = other
    second = record(event)["eventKey"]

    assert (first < second) == (one < other)


@given(events, st.randoms(), st.integers(0, 14 * DAY))
def test_same_event_gives_the_same_bytes_when_it_is_delivered_again(
    event: dict[str, Any], random: Any, later: int
) -> None:
    shuffled = list(event.items())
    random.shuffle(shuffled)
    happened = int(datetime.fromisoformat(event["time"]).timestamp())

    assert record(event, now=happened) == record(dict(shuffled), now=happened + later - 1)
