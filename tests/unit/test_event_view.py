import contextlib
import gzip
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ecs_ops import event_view
from ecs_ops.errors import InvalidRequest
from ecs_ops.event_view import (
    Question,
    Record,
    axis,
    bar,
    lifetimes,
    matches,
    moment_of,
    newest,
    scale,
    task_state,
)

if TYPE_CHECKING:
    from ecs_ops.verdict import TaskState

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY_AGO = NOW - timedelta(days=1)
ARN = "arn:aws:ecs:us-west-2:111122223333"
TASK = f"{ARN}:task/shop/f9c2a8d1e0b34c5d9a7e6f5043210abc"
WEB = f"{ARN}:task-definition/web:41"
STATES = (
    "PROVISIONING",
    "PENDING",
    "ACTIVATING",
    "RUNNING",
    "DEACTIVATING",
    "STOPPING",
    "DEPROVISIONING",
    "STOPPED",
)


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record(
    status: str = "RUNNING", *, at: float = 0, version: int = 1, task: str = TASK, **more: Any
) -> dict[str, Any]:
    """Return a record of the task `at` seconds after noon, as an index has it, and `more`."""
    moment = NOW + timedelta(seconds=at)
    key = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "resourceArn": task,
        "eventKey": f"{key}#{version:010d}#id",
        "ttl": int(NOW.timestamp()) + 60,
        "summary": f"{status} in words",
        "clusterArn": f"{ARN}:cluster/shop",
        "taskDefinitionArn": WEB,
        "serviceName": "web",
        "lastStatus": status,
        **more,
    }


def asked(**filters: Any) -> Question:
    return Question(since=DAY_AGO, **filters)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# ---------------------------------------------------------------- --since
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("6h", NOW - timedelta(hours=6)),
        ("2d", NOW - timedelta(days=2)),
        ("0m", NOW),
        ("2026-01-31T06:00:00Z", NOW - timedelta(hours=6)),
        ("2026-01-31T06:00:00+02:00", NOW - timedelta(hours=8)),
        ("2026-01-31T06:00", NOW - timedelta(hours=6)),
        ("2026-01-31", NOW - timedelta(hours=12)),
    ],
)
def test_moment_is_read_when_since_is_a_time_or_an_age(text: str, moment: datetime) -> None:
    assert moment_of(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "90", "m", "-1h", "1.5h", "2w", "2 d", "1h30m", "yesterday", "٣h", "999999d"),
        *("25:00", "2026-02-30", "2026-01-31T12:00:01Z"),
        *("0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"),
    ],
)
def test_since_is_refused_by_name_when_it_is_no_time_of_the_past(text: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        moment_of(text, NOW)

    assert refusal.value.field == "--since"


@given(st.integers(0, 99_999), st.sampled_from("mhd"))
def test_age_is_counted_back_when_since_is_any_of_them(count: int, unit: str) -> None:
    seconds = {"m": 60, "h": 3600, "d": 86400}[unit]

    assert (NOW - moment_of(f"{count}{unit}", NOW)).total_seconds() == count * seconds


@given(st.datetimes(max_value=datetime(2026, 1, 31), timezones=st.timezones()))  # noqa: DTZ001
def test_moment_reads_back_when_since_is_any_iso_time(moment: datetime) -> None:
    assume(moment.year > 1)

    # Not the times themselves: Python holds those that a clock change skips for unequal.
    assert moment_of(moment.isoformat(), NOW).timestamp() == moment.timestamp()


@given(st.text())
def test_nothing_but_a_refusal_is_raised_when_since_is_any_text(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert moment_of(text, NOW) <= NOW


@given(st.datetimes(), st.datetimes())
def test_keys_are_in_order_when_their_times_are(one: datetime, other: datetime) -> None:
    first, second = (
        event_view.first_key(moment.replace(tzinfo=UTC, microsecond=0)) for moment in (one, other)
    )

    assert (first <= second) == (one.replace(microsecond=0) <= other.replace(microsecond=0))


# ---------------------------------------------------------------- filters
@pytest.mark.parametrize(
    "question",
    [
        asked(),
        asked(task=TASK),
        asked(task_definition=WEB),
        asked(cluster="shop"),
        asked(cluster=f"{ARN}:cluster/shop"),
        asked(service="web"),
        asked(service=f"{ARN}:service/shop/web"),
        asked(cluster="shop", service="web", task=TASK),
    ],
)
def test_record_matches_when_it_is_what_was_asked_for(question: Question) -> None:
    assert matches(record(), question, NOW)


@pytest.mark.parametrize(
    "question",
    [
        asked(task=TASK[:-1]),
        asked(task_definition=f"{ARN}:task-definition/web:4"),
        asked(cluster="sho"),
        asked(cluster="arn:aws:ecs:eu-west-1:111122223333:cluster/shop"),
        asked(service="we"),
        asked(failed=True),
        asked(cluster="shop", service="api"),
        Question(since=at(1)),
    ],
)
def test_record_does_not_match_when_any_filter_names_another(question: Question) -> None:
    assert not matches(record(), question, NOW)


def test_only_failures_match_when_they_are_asked_for() -> None:
    assert matches(record("STOPPED", outcome="failed"), asked(failed=True), NOW)


def test_record_does_not_match_when_it_has_expired() -> None:
    assert not matches(record(ttl=int(NOW.timestamp())), asked(), NOW)


def test_record_does_not_match_when_it_is_a_claim_of_an_alert() -> None:
    assert not matches(record(task=f"alert#{TASK}"), asked(), NOW)


def test_record_matches_no_name_when_it_is_about_nothing_in_particular() -> None:
    bare = {name: record()[name] for name in ("resourceArn", "eventKey", "ttl", "summary")}

    assert matches(bare, asked(), NOW)
    assert not matches(bare, asked(cluster="shop"), NOW)
    assert not matches(bare, asked(service="web"), NOW)


# ---------------------------------------------------------------- rows
def test_tasks_are_kept_together_and_the_newest_is_last_when_grouped() -> None:
    other = TASK[:-1] + "d"
    records = [
        record("STOPPED", at=9, version=3),
        record("RUNNING", at=5, task=other),
        record("RUNNING", at=1, version=2),
        record("PENDING", at=1, version=1),
    ]

    rows = [
        [(one["resourceArn"], one["lastStatus"]) for one in group]
        for group in event_view.by_resource(records)
    ]

    assert rows == [
        [(other, "RUNNING")],
        [(TASK, "PENDING"), (TASK, "RUNNING"), (TASK, "STOPPED")],
    ]


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        (TASK, "f9c2a8d1"),
        (f"{ARN}:task/f9c2a8d1e0b34c5d9a7e6f5043210abc", "f9c2a8d1"),
        (f"{ARN}:service/shop/web", "service web"),
        (f"{ARN}:container-instance/shop/b54a2a04", "container-instance b54a2a04"),
        ("aws.ecs/111122223333/us-west-2", "aws.ecs us-west-2"),
        ("nonsense", "nonsense"),
    ],
)
def test_name_is_short_when_the_arn_is_long(arn: str, name: str) -> None:
    assert event_view.short_name(arn) == name


def test_terminal_is_not_commanded_when_a_stop_reason_holds_escapes() -> None:
    assert event_view.printable("a\x1b[2Jb\rc\u009bd…") == "a·[2Jb·c·d…"


def test_whole_event_is_unpacked_when_it_was_read() -> None:
    packed = gzip.compress(json.dumps({"id": "i"}).encode())

    assert event_view.unpacked(record(event=packed))["event"] == {"id": "i"}
    assert "event" not in event_view.unpacked(record())


# ---------------------------------------------------------------- lives
def test_life_has_all_moments_when_every_event_was_seen() -> None:
    (life,) = lifetimes(
        record(status, at=10 * number, version=number) for number, status in enumerate(STATES)
    )

    assert (life.name, life.failed) == ("web:41", False)
    assert [life.created, life.started, life.stopping, life.stopped] == [
        at(0),
        at(30),
        at(40),
        at(70),
    ]


def test_life_is_whole_when_only_its_end_was_seen() -> None:
    (life,) = lifetimes(
        [
            record(
                "STOPPED",
                at=70,
                outcome="failed",
                exitCodes={"app": 137, "proxy": 0},
                createdAt=iso(at(0)),
                startedAt=iso(at(5)),
                stoppedAt=iso(at(69.5)),
            )
        ]
    )

    assert [life.created, life.started, life.stopping, life.stopped] == [
        at(0),
        at(5),
        None,
        at(69.5),
    ]
    assert (life.failed, life.note) == (True, "exit 137, 0")


def test_life_is_one_moment_when_an_index_has_only_its_end() -> None:
    (life,) = lifetimes([record("STOPPED", at=70, stopCode="TaskFailedToStart")])

    assert life.created == life.stopped == at(70)
    assert life.started is None
    assert life.note == "TaskFailedToStart"


def test_life_goes_on_when_no_end_was_seen() -> None:
    (life,) = lifetimes([record("RUNNING", at=3)])

    assert life.stopped is None
    assert life.note == "running"


def test_later_version_is_the_latest_when_the_clock_says_the_same() -> None:
    (life,) = lifetimes([record("RUNNING", version=10), record("PENDING", version=9)])

    assert life.note == "running"


def test_no_life_is_made_when_the_event_is_not_about_a_task() -> None:
    assert lifetimes([record(task=f"{ARN}:service/shop/web")]) == []


seconds = st.integers(-86_400, 86_400)
task_events = st.lists(
    st.builds(
        record,
        st.sampled_from([*STATES, "DELETED", ""]),
        at=seconds,
        version=st.integers(0, 20),
        task=st.sampled_from([TASK, TASK[:-1] + "d"]),
    ).flatmap(
        lambda made: st.fixed_dictionaries(
            {name: st.just(value) for name, value in made.items()},
            optional={
                name: seconds.map(lambda one: iso(at(one))) | st.sampled_from(["", "soon"])
                for name in ("createdAt", "startedAt", "stoppedAt")
            }
            | {"outcome": st.just("failed"), "exitCodes": st.just({"app": 1})},
        )
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda made: (made["resourceArn"], made["eventKey"]),
)


@given(task_events, st.randoms())
def test_lives_are_the_same_when_events_come_in_any_order(
    events: list[Record], random: Any
) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)

    assert lifetimes(shuffled) == lifetimes(events)


@given(task_events)
def test_no_moment_is_before_the_one_it_follows_when_clocks_disagree(events: list[Record]) -> None:
    for life in lifetimes(events):
        moments = [
            moment
            for moment in (life.created, life.started, life.stopping, life.stopped)
            if moment is not None
        ]
        assert moments == sorted(moments)


@given(task_events)
def test_life_ends_only_when_some_event_says_so(events: list[Record]) -> None:
    for life in lifetimes(events):
        own = [event for event in events if event["resourceArn"] == life.arn]
        ends = any(
            event["lastStatus"] == "STOPPED" or event.get("stoppedAt") not in {None, "", "soon"}
            for event in own
        )
        assert (life.stopped is not None) == ends


# ---------------------------------------------------------------- pictures
def test_bar_shows_each_part_of_a_life_in_its_place() -> None:
    events = [
        record("PENDING", at=0),
        record("RUNNING", at=10),
        record("DEACTIVATING", at=30),
        record("STOPPED", at=40),
    ]
    (life,) = lifetimes(events)
    (failed,) = lifetimes([*events[:3], events[3] | {"outcome": "failed"}])
    (running,) = lifetimes(events[:2])

    def drawn(one: event_view.Lifetime) -> str:
        return bar(one, begin=at(-10), end=at(90), width=10)

    assert drawn(life) == " ░██▒┤    "
    assert drawn(failed) == " ░██▒✘    "
    assert drawn(running) == " ░████████"


@given(task_events, seconds, st.integers(1, 200))
def test_every_task_has_a_bar_of_that_width_when_drawn(
    events: list[Record], since: int, width: int
) -> None:
    lives = lifetimes(events)
    begin, end = axis(lives, at(since), NOW)

    for life in lives:
        drawn = bar(life, begin=begin, end=end, width=width)

        assert len(drawn) == width
        assert drawn.strip()
        assert " " not in drawn.strip()
        assert (event_view.FAILED in drawn) == (life.failed and life.stopped is not None)
        assert (event_view.STOPPED in drawn) == (not life.failed and life.stopped is not None)
        if life.stopped is None:
            assert drawn[-1] != " "


def test_scale_names_round_times_when_the_axis_is_an_hour() -> None:
    line = scale(begin=at(-3600 + 120), end=at(120), width=60)

    assert line.split() == ["11:10", "11:20", "11:30", "11:40", "11:50"]
    assert line.index("11:10") == 8


@given(st.integers(1, 400 * 86_400), st.integers(1, 200))
def test_scale_fits_and_keeps_its_marks_apart_when_the_axis_is_any(span: int, width: int) -> None:
    line = scale(begin=at(-span), end=NOW, width=width)

    assert len(line) <= width
    for one, other in itertools.pairwise(line.replace("-", "").replace(":", "").split()):
        assert len(one) in {4, 6} and len(other) in {4, 6}  # noqa: PT018 - one thought


# ---------------------------------------------------------------- states of tasks
def test_state_is_that_of_the_task_when_it_has_stopped() -> None:
    stopped = record(
        "STOPPED",
        exitCodes={"app": 3, "proxy": 0},
        startedBy="ecs-ops-launch-task/default/alice",
        stopCode="EssentialContainerExited",
        stoppedReason="Essential container in task exited",
        createdAt="2026-01-31T11:59:00Z",
        startedAt="2026-01-31T13:59:30.1234+02:00",
        stoppedAt="2026-01-31T12:00:00.5Z",
    )

    expected: TaskState = {
        "taskArn": TASK,
        "clusterArn": f"{ARN}:cluster/shop",
        "taskDefinitionArn": WEB,
        "startedBy": "ecs-ops-launch-task/default/alice",
        "lastStatus": "STOPPED",
        "containers": [{"name": "app", "exitCode": 3}, {"name": "proxy", "exitCode": 0}],
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "createdAt": "2026-01-31T11:59:00.000Z",
        "startedAt": "2026-01-31T11:59:30.123Z",
        "stoppedAt": "2026-01-31T12:00:00.500Z",
    }
    assert task_state(stopped) == expected


def test_state_lacks_what_is_not_known_when_a_task_was_just_created() -> None:
    created: TaskState = {
        "taskArn": TASK,
        "clusterArn": f"{ARN}:cluster/shop",
        "taskDefinitionArn": WEB,
        "lastStatus": "PROVISIONING",
        "containers": [],
    }
    bare: TaskState = {"taskArn": TASK, "clusterArn": "", "lastStatus": "", "containers": []}

    assert task_state(record("PROVISIONING", createdAt="soon")) == created
    assert task_state({"resourceArn": TASK}) == bare


@given(st.permutations(range(1, 7)), st.data())
def test_newest_is_the_highest_version_when_records_come_in_any_order(
    versions: list[int], data: st.DataObject
) -> None:
    # `version` is an attribute, and the key has the time first.
    records = [
        {**record(at=data.draw(st.integers(0, 3)), version=version), "version": version}
        for version in versions
    ]

    assert newest(records)["version"] == 6


def test_newest_is_the_latest_when_records_have_no_version() -> None:
    records = [record("STOPPED", at=2), record("RUNNING", at=1)]

    assert newest(records)["lastStatus"] == "STOPPED"
