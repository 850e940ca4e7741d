import gzip
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.errors import InvalidRequest
from ecs_ops.event_record import (
    EventRecord,
    containers_disagree,
    is_failure,
    is_past_retention,
    launch_key,
    read_event,
    record_of,
)

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


def task_id(kept: EventRecord) -> str:
    """Return as much of a task's id as a summary shows."""
    return kept["resourceArn"].rpartition("/")[2][:8]


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
        "summary": "migrate:7 task f9c2a8d1… stopped: container app exited 3, log-router exited 0",
    }


def test_no_outcome_is_kept_when_a_task_runs() -> None:
    kept = record(sample("task_running"))

    assert kept["serviceName"] == "web"
    assert kept["summary"] == f"web:12 task {task_id(kept)}… is RUNNING"
    assert not {"outcome", "failedClusterArn", "exitCodes", "stopCode"} & kept.keys()


def test_failure_is_kept_when_the_task_never_started() -> None:
    kept = record(sample("task_failed_to_start"))

    assert kept["outcome"] == "failed"
    assert "exitCodes" not in kept
    assert kept["summary"].startswith(
        f"web:12 task {task_id(kept)}… failed to start: CannotPullContainerError"
    )


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


UNHEALTHY = "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:…)"


@pytest.mark.parametrize(
    ("reason", "failed"),
    [
        (UNHEALTHY, True),
        ("Task failed container health checks", True),
        ("Scaling activity initiated by (deployment ecs-svc/1234567890123456789)", False),
        (None, False),
    ],
)
def test_task_failed_when_its_service_stopped_it_for_its_health(
    reason: str | None,
    failed: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    detail = stopped("ServiceSchedulerInitiated", 143) | {"stoppedReason": reason}

    assert is_failure(detail) is failed


def ended(**exits: int | None) -> dict[str, Any]:
    """Return the detail of a task that ended by itself, with these containers and exit codes."""
    detail = stopped("EssentialContainerExited", *exits.values())
    for container, name in zip(detail["containers"], exits, strict=True):
        container["name"] = name
    return detail


@pytest.mark.parametrize(
    ("detail", "essential", "failed"),
    [
        # The job is done, and ECS ended its sidecar.
        (ended(job=0, sidecar=143), None, False),
        (ended(job=0, sidecar=137), {"job", "sidecar"}, False),
        (ended(job=0, sidecar=1), {"job"}, False),
        # The job was killed, and its sidecar took SIGTERM well.
        (ended(job=137, sidecar=0), {"job"}, True),
        (ended(job=3, sidecar=0), None, True),
        (ended(job=3, sidecar=143), {"job", "sidecar"}, True),
        (ended(job=137, sidecar=143), None, True),
        # A container that another one was to wait for never ran.
        (ended(migrate=0, app=None), None, False),
        (ended(app=None), None, False),
    ],
)
def test_essential_containers_decide_when_a_task_has_several(
    detail: dict[str, Any],
    essential: set[str] | None,
    failed: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    assert is_failure(detail, essential) is failed


@pytest.mark.parametrize(("seconds", "failed"), [(1, True), (30, False)])
def test_killed_container_is_to_blame_when_ecs_had_no_time_to_kill_it(
    seconds: int,
    failed: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    # Somebody else killed it, for its memory perhaps, and then its sidecar took SIGTERM well.
    detail = ended(app=137, sidecar=0) | {
        "stoppingAt": "2026-11-21T03:12:00.5Z",
        "executionStoppedAt": f"2026-11-21T03:12:{seconds:02}.5Z",
    }

    assert is_failure(detail, {"app", "sidecar"}) is failed


@pytest.mark.parametrize("code", [137, 143, None])
def test_container_is_to_blame_when_ecs_says_why_it_ended(code: int | None) -> None:
    detail = ended(job=code, sidecar=0)
    assert not is_failure(detail)

    detail["containers"][0]["reason"] = "OutOfMemoryError: Container killed due to memory usage"

    assert is_failure(detail)


@pytest.mark.parametrize(
    ("detail", "disagree"),
    [
        (ended(job=0, sidecar=143), True),
        (ended(job=0, sidecar=None), True),
        (ended(job=0, sidecar=0), False),
        (ended(job=1, sidecar=143), False),
        (ended(job=1), False),
        (ended(job=0, sidecar=1) | {"stopCode": "UserInitiated"}, False),
        (ended(job=0, sidecar=1) | {"lastStatus": "DEPROVISIONING"}, False),
    ],
)
def test_definition_is_asked_for_when_one_container_ended_well_and_another_did_not(
    detail: dict[str, Any],
    disagree: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    assert containers_disagree(detail) is disagree


@given(
    st.lists(st.sampled_from([0, 1, 137, 143, None]), min_size=1, max_size=4),
    st.sets(st.sampled_from(["c0", "c1", "c2", "c3"])),
)
def test_essential_containers_matter_only_when_the_containers_disagree(
    codes: list[int | None], others: set[str]
) -> None:
    detail = stopped("EssentialContainerExited", *codes)
    # The one that ended the task is essential.
    known = {f"c{number}" for number, code in enumerate(codes) if code is not None}
    essential = (others & known) or known

    if not containers_disagree(detail):
        assert is_failure(detail, essential) is is_failure(detail)


@pytest.mark.parametrize(
    ("stop_code", "reason", "codes", "said"),
    [
        ("EssentialContainerExited", "Essential container in task exited", [137],
         "stopped: container c0 exited 137 (SIGKILL: killed, often out of memory)"),
        ("UserInitiated", "maintenance", [143],
         "stopped: maintenance; container c0 exited 143 (SIGTERM: the program was asked to stop)"),
        ("SpotInterruption", "Your Spot Task was interrupted.", [],
         "stopped: Your Spot Task was interrupted."),
        ("EssentialContainerExited", None, [None], "stopped: EssentialContainerExited"),
        (None, None, [], "stopped: no reason given"),
    ],
)  # fmt: skip
def test_summary_reads_like_a_sentence_when_a_task_stopped(
    stop_code: str | None, reason: str | None, codes: list[int | None], said: str
) -> None:
    event = sample("task_stopped_failed")
    event["detail"] |= stopped(stop_code, *codes) | {"stoppedReason": reason}

    assert record(event)["summary"] == f"migrate:7 task f9c2a8d1… {said}"


def test_summary_quotes_ecs_when_it_says_why_a_container_ended() -> None:
    event = sample("task_stopped_failed")
    event["detail"] |= ended(app=137, agent=None)
    for container, reason in zip(event["detail"]["containers"], ("oom", "no image"), strict=True):
        container["reason"] = reason

    assert record(event)["summary"].endswith(
        "stopped: container app exited 137 (oom), agent has no exit code (no image)"
    )


def noise(length: int) -> str:
    """Return text that does not compress to less than half of it."""
    return Random(length).randbytes(length // 2).hex()


def test_largest_parts_are_left_out_when_an_event_does_not_fit_into_an_item() -> None:
    event = sample("task_stopped_failed")
    event["detail"]["novelty"] = noise(900_000)
    event["detail"]["lesser"] = noise(100_000)
    event["extra"] = noise(800_000)

    kept = record(event)

    assert kept["omitted"] == ["detail.novelty", "extra"]
    whole = stored(kept)
    assert whole["detail"]["novelty"] == "left out: 900002 bytes"
    assert whole["detail"]["lesser"] == event["detail"]["lesser"]
    assert whole["detail"]["containers"] == event["detail"]["containers"]
    assert kept["exitCodes"] == {"app": 3, "log-router": 0}
    assert len(kept["event"]) < 400 * 1024


def test_attributes_stay_readable_when_a_reason_is_endless() -> None:
    event = sample("task_failed_to_start")
    event["detail"]["stoppedReason"] = "x" * 500_000

    kept = record(event)

    assert len(kept["stoppedReason"]) == 2_000
    assert stored(kept)["detail"]["stoppedReason"] == "x" * 500_000


def test_environment_values_are_kept_when_masking_is_off() -> None:
    event = sample("task_stopped_failed")

    read = read_event(json.dumps(event), mask_environment=False)

    assert read.envelope == event


@given(st.sampled_from(["environment", "environm\\u0065nt"]))
def test_environment_values_are_absent_when_their_name_is_escaped(name: str) -> None:
    text = json.dumps(sample("service_action"))
    text = text.replace('"detail":', f'"more": {{"{name}": ["A=s3cret"]}}, "detail":')
    assert "s3cret" in text

    assert "s3cret" not in repr(read_event(text))


@pytest.mark.parametrize(("age", "past"), [(0, False), (14 * DAY - 1, False), (14 * DAY, True)])
def test_event_is_past_its_retention_when_its_record_would_be_gone(
    age: int,
    past: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    event = read_event(json.dumps(sample("task_running")))
    now = int(event.time.timestamp()) + age

    assert is_past_retention(event, retention_days=14, now=now) is past


def test_ttl_is_the_end_of_the_next_day_when_the_event_is_past_its_retention() -> None:
    event = sample("task_running")
    late = NOW + 30 * DAY

    assert record(event, now=late + 60)["ttl"] == late + 2 * DAY
    assert record(event, now=late + DAY - 1)["ttl"] == late + 2 * DAY


def test_summary_is_one_short_line_when_the_reason_is_long() -> None:
    event = sample("task_failed_to_start")
    event["detail"]["stoppedReason"] = "first\nsecond\t" + "x" * 5000

    summary = record(event)["summary"]

    assert "… failed to start: first second xxx" in summary
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


LAUNCHED_BY = "ecs-ops-launch-task/default/alice"


def launched(created: str, task: str = TASK, **more: Any) -> dict[str, Any]:
    """Return the event of a task that launch_task started."""
    event = sample("task_running")
    event["detail"] |= {"startedBy": LAUNCHED_BY, "taskArn": task, "createdAt": created, **more}
    return event


def test_launcher_and_key_are_kept_when_launch_task_started_the_task() -> None:
    kept = record(launched("2026-01-01T00:00:04.402Z"))

    assert kept["launcher"] == "ecs-ops-launch-task"
    assert kept["launchKey"] == "2026-01-01T00:00:04.402Z#f9c2a8d1e0b34c5d9a7e6f5043210abc"
    assert launch_key({"taskArn": TASK, "createdAt": kept["createdAt"]}) == kept["launchKey"]


@pytest.mark.parametrize(
    "started_by",
    [
        *("ecs-svc/1234567890", "ecs-ops-launch-task", "run_task/shop/ecs-ops-launch-task/x"),
        *("ecs-ops-launch-tasks/default/alice", "", "ecs-ops-run-task/default/alice"),
    ],
)
def test_no_launcher_is_kept_when_another_started_the_task(started_by: str) -> None:
    kept = record(launched("2026-01-01T00:00:04Z", startedBy=started_by))

    assert not {"launcher", "launchKey"} & kept.keys()


@pytest.mark.parametrize("missing", ["createdAt", "startedBy"])
def test_no_launcher_is_kept_when_the_event_lacks_what_its_key_is_made_of(missing: str) -> None:
    event = launched("2026-01-01T00:00:04Z")
    del event["detail"][missing]

    assert not {"launcher", "launchKey"} & record(event).keys()


@pytest.mark.parametrize("created", ["soon", "0001-01-01T00:00:00+14:00", "9999-12-31T23:00-09:00"])
def test_no_launcher_is_kept_when_nobody_can_tell_when_the_task_was_created(created: str) -> None:
    assert not {"launcher", "launchKey"} & record(launched(created)).keys()


@pytest.mark.parametrize(
    "created",
    [
        *("2026-01-01T00:00:04.4Z", "2026-01-01T00:00:04.400Z", "2026-01-01T00:00:04.400999999Z"),
        *("2026-01-01T02:00:04.40+02:00", "2025-12-31T18:30:04.4-05:30", "2026-01-01T00:00:04.4"),
    ],
)
def test_launch_key_is_the_same_when_the_same_creation_is_written_otherwise(created: str) -> None:
    key = launch_key({"taskArn": TASK, "createdAt": created})

    assert key.startswith("2026-01-01T00:00:04.400Z#")


@given(st.data())
def test_launch_keys_sort_by_creation_when_times_are_written_in_any_way(
    data: st.DataObject,
) -> None:
    moments = st.datetimes(
        min_value=datetime(1971, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
        max_value=datetime(2200, 1, 1),  # noqa: DTZ001
        timezones=st.integers(-840, 840).map(lambda m: timezone(timedelta(minutes=m))),
    )
    timespecs = st.sampled_from(["seconds", "milliseconds", "microseconds"])
    one, other = (data.draw(moments).isoformat(timespec=data.draw(timespecs)) for _ in range(2))

    def milliseconds(text: str) -> int:
        since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
        return since // timedelta(milliseconds=1)

    first, second = (record(launched(text))["launchKey"] for text in (one, other))

    assert (first < second) == (milliseconds(one) < milliseconds(other))
    assert (first == second) == (milliseconds(one) == milliseconds(other))


@given(st.integers(0, 9_999_999_999), st.sampled_from(["PENDING", "RUNNING", "STOPPED"]))
def test_launch_key_stays_when_the_task_changes(version: int, status: str) -> None:
    changed = launched("2026-01-01T00:00:04.402Z", version=version, lastStatus=status)

    key = record(changed)["launchKey"]

    assert key == record(launched("2026-01-01T00:00:04.402Z"))["launchKey"]


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
        "startedBy",
        "createdAt",
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


@given(events, st.integers(0, 14 * DAY))
def test_same_event_gives_the_same_record_when_it_is_delivered_again(
    event: dict[str, Any], later: int
) -> None:
    happened = int(datetime.fromisoformat(event["time"]).timestamp())

    assert record(event, now=happened) == record(event, now=happened + later - 1)


def test_event_is_kept_as_it_came_when_there_is_nothing_to_mask() -> None:
    text = json.dumps(sample("task_running"), indent=2)

    kept = record_of(read_event(text), retention_days=14, now=NOW)

    assert gzip.decompress(kept["event"]).decode() == text


def test_event_is_kept_when_it_holds_half_of_a_surrogate_pair() -> None:
    event = sample("task_running")
    event["detail"]["novelty"] = "\ud800"
    text = json.dumps(event, ensure_ascii=False)

    kept = record_of(read_event(text), retention_days=14, now=NOW)

    assert stored(kept) == event
