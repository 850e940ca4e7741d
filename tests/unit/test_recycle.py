"""The rules of a recycle."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.errors import InvalidRequest
from ecs_ops.recycle import (
    LARGEST_SURVEY,
    Bounds,
    Changes,
    Look,
    Progress,
    RecycleRequest,
    Service,
    Sighting,
    Strength,
    Survey,
    Task,
    TaskSurvey,
    check,
    in_service,
    is_over,
    plan,
    spread,
    strengthened,
    survey,
    unpack,
)

ACTIVE = Service("arn:service", "ACTIVE", desired_count=3, deployment="d1", deployments=1)
REQUEST = RecycleRequest("shop", "web")
STEP_LIMIT = 256 * 1024
"""Bytes of what a step stores."""


def task(name: str, since: float = 0, **changes: Any) -> Task:
    known = Task(f"arn:task/{name}", "RUNNING", "UNKNOWN", since, "d1", "zone-1")
    return replace(known, **changes)


def sighting(*names: str, draining: int = 0) -> Sighting:
    return Sighting(tuple(task(name) for name in names), draining)


def surveyed(*tasks: Task, **changes: Any) -> Survey:
    return survey(
        replace(ACTIVE, **changes.pop("service", {})),
        Sighting(tasks or (task("a"), task("b"), task("c"))),
        **{
            "bounds": None,
            "protected": (),
            "ringing": (),
            "deregistration_delay": 0,
            "at": 1000.0,
            **changes,
        },
    )


def progress(**changes: Any) -> Progress:
    """Return a progress at its beginning: tasks a, b and c, and a goal of 4."""
    return Progress(*plan(replace(REQUEST, **changes), surveyed()))


def look(recycling: Progress, seen: Sighting, last: Look | None = None, now: float = 100) -> Look:
    return recycling.look(seen, "", last, since=100, now=now)


def test_defaults_are_taken_when_only_the_names_are_given() -> None:
    request = RecycleRequest.parse({"cluster_name": "shop", "service_name": "web"})

    assert request == RecycleRequest("shop", "web", maintain_service_state=True, wait_time=30)


def test_values_are_taken_when_they_are_given() -> None:
    event = {
        "cluster_name": "shop",
        "service_name": "web",
        "maintain_service_state": False,
        "wait_time": 0,
    }

    assert RecycleRequest.parse(event) == RecycleRequest("shop", "web", False, 0)  # noqa: FBT003


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cluster_name", None),
        ("cluster_name", ""),
        ("cluster_name", " "),
        ("service_name", 7),
        ("maintain_service_state", "true"),
        ("maintain_service_state", 1),
        ("maintain_service_state", None),
        ("wait_time", -1),
        ("wait_time", 86_401),
        ("wait_time", True),
        ("wait_time", "30"),
        ("wait_time", 1.5),
        ("wait_time", None),
        ("wait_tme", 30),
    ],
)
def test_input_is_refused_by_field_when_a_value_is_wrong(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        RecycleRequest.parse({"cluster_name": "shop", "service_name": "web", field: value})

    assert refusal.value.field == field


@pytest.mark.parametrize("missing", ["cluster_name", "service_name"])
def test_input_is_refused_by_field_when_a_name_is_missing(missing: str) -> None:
    event = {"cluster_name": "shop", "service_name": "web"}
    del event[missing]

    with pytest.raises(InvalidRequest) as refusal:
        RecycleRequest.parse(event)

    assert refusal.value.field == missing


def test_allowed_keys_are_listed_when_a_key_is_unknown() -> None:
    with pytest.raises(InvalidRequest, match=r"wait_tme.*wait_time"):
        RecycleRequest.parse({"wait_tme": 30})


@pytest.mark.parametrize("event", [None, [], "shop", 7])
def test_input_is_refused_when_it_is_no_object(event: object) -> None:
    with pytest.raises(InvalidRequest):
        RecycleRequest.parse(event)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dry_run", "yes"),
        ("batch_size", 0),
        ("batch_size", 101),
        ("min_age", -1),
        ("replacement_timeout", 29),
        ("alarm_names", "errors"),
        ("alarm_names", [""]),
        ("role_arn", 7),
        ("external_id", "id"),
        ("notify", 1),
    ],
)
def test_further_input_is_refused_by_field_when_a_value_is_wrong(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        RecycleRequest.parse({"cluster_name": "shop", "service_name": "web", field: value})

    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": "DRAINING"}, "DRAINING"),
        ({"status": "INACTIVE"}, "INACTIVE"),
        ({"scheduling_strategy": "DAEMON"}, "DAEMON"),
        ({"deployment_controller": "EXTERNAL"}, "EXTERNAL"),
        ({"deployments": 2}, "deployment in progress"),
        ({"desired_count": 0}, "desired count of 0"),
    ],
)
def test_service_is_refused_when_it_cannot_be_recycled(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refusal:
        check(REQUEST, surveyed(service=changes))

    assert refusal.value.field == "service_name"


def test_service_is_refused_when_an_alarm_rings_already() -> None:
    with pytest.raises(InvalidRequest, match="errors") as refusal:
        check(REQUEST, surveyed(ringing=["errors"]))

    assert refusal.value.field == "alarm_names"


def test_tasks_are_planned_oldest_first_and_some_left_alone() -> None:
    found = surveyed(
        task("new", since=990),
        task("old", since=10),
        task("safe", since=5),
        task("mid", since=20),
        protected=["arn:task/safe"],
    )

    planned, done = plan(replace(REQUEST, min_age=60), found)

    assert planned["tasks"] == ["old", "mid"]
    assert done["skipped"] == [
        {"id": "safe", "why": "it is under task protection"},
        {"id": "new", "why": "it is younger than 60 s"},
    ]


def test_survey_and_look_fit_into_what_a_step_stores_when_there_are_thousands_of_tasks() -> None:
    chance = random.Random(1)
    tasks = tuple(
        task(f"{chance.getrandbits(128):032x}", since=since, zone=chance.choice("abc"))
        for since in sorted(chance.sample(range(10**6, 10**7), 6_000))
    )
    recycling = Progress(*plan(REQUEST, surveyed()))

    found, seen = surveyed(*tasks), look(recycling, Sighting(tasks))

    assert len(found["tasks"]) <= LARGEST_SURVEY
    assert [one["id"] for one in unpack(found["tasks"])] == [one.arn[9:] for one in tasks]
    assert len(unpack(seen["new"])) == 6_000
    assert len(json.dumps(found)) < STEP_LIMIT
    assert len(json.dumps(seen)) < STEP_LIMIT


@pytest.mark.parametrize(("maintain", "goal"), [(True, 5), (False, 3)])
def test_goal_is_a_batch_more_when_the_state_is_to_be_maintained(
    maintain: bool,  # noqa: FBT001 - a parameter of the table above
    goal: int,
) -> None:
    assert progress(maintain_service_state=maintain, batch_size=2).goal == goal


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from("abc")),
        max_size=12,
    )
)
def test_turns_are_shared_between_zones_when_tasks_are_spread(found: list[tuple[int, str]]) -> None:
    tasks: list[TaskSurvey] = [
        {"id": f"{number:02}", "zone": zone, "since": since, "protected": False}
        for number, (since, zone) in enumerate(found)
    ]

    order = spread(tasks)

    assert sorted(task["id"] for task in order) == [task["id"] for task in tasks]
    for number, one in enumerate(order):
        left = {task["zone"] for task in order[number:]}
        turns = {zone: sum(task["zone"] == zone for task in order[:number]) for zone in left}
        assert turns[one["zone"]] == min(turns.values())
        assert all(one["since"] <= t["since"] for t in order[number:] if t["zone"] == one["zone"])


@given(
    asked=st.integers(1, 20),
    surge=st.integers(0, 5),
    lowest=st.integers(0, 20),
    more=st.integers(0, 10),
)
def test_bounds_hold_the_goal_and_move_no_further_when_there_is_a_surge(
    asked: int, surge: int, lowest: int, more: int
) -> None:
    before: Strength = {
        "desired_count": asked,
        "bounds": {"lowest": lowest, "highest": lowest + more},
    }

    made = strengthened(before, asked, surge)

    assert made["desired_count"] == asked + surge
    assert made["bounds"]
    if not surge:
        assert made["bounds"] == before["bounds"]
    else:
        assert made["bounds"]["lowest"] in {lowest, asked + surge}
        assert made["bounds"]["highest"] in {lowest + more, asked + surge}
        assert asked + surge <= made["bounds"]["lowest"] <= made["bounds"]["highest"]
    assert strengthened({**before, "bounds": None}, asked, surge)["bounds"] is None


@pytest.mark.parametrize(
    ("now", "count", "bounds"),
    [
        # As the earlier recycle left it; somebody set the count; or the maximum.
        ((4, 4, 4), 3, (1, 3)),
        ((7, 4, 7), 7, (1, 7)),
        ((4, 4, 9), 3, (1, 9)),
    ],
)
def test_what_an_earlier_recycle_left_is_not_taken_for_a_wish(
    now: tuple[int, int, int], count: int, bounds: tuple[int, int]
) -> None:
    left: Changes = {
        "before": {"desired_count": 3, "bounds": {"lowest": 1, "highest": 3}},
        "made": {"desired_count": 4, "bounds": {"lowest": 4, "highest": 4}},
        "made_earlier": [],
    }
    found = surveyed(
        service={"desired_count": now[0]}, bounds={"lowest": now[1], "highest": now[2]}
    )

    planned, _ = plan(REQUEST, found, left)

    assert planned["asked"] == count
    assert planned["changes"]["before"] == {
        "desired_count": count,
        "bounds": {"lowest": bounds[0], "highest": bounds[1]},
    }


@pytest.mark.parametrize(
    ("health", "reports_health", "counts"),
    [
        ("UNKNOWN", False, True),
        ("UNKNOWN", True, False),
        ("HEALTHY", True, True),
        ("HEALTHY", False, True),
        ("UNHEALTHY", False, False),
        ("UNHEALTHY", True, False),
    ],
)
def test_task_is_in_service_when_its_health_checks_pass(
    health: str,
    reports_health: bool,  # noqa: FBT001 - a parameter of the table above
    counts: bool,  # noqa: FBT001 - the same
) -> None:
    found = in_service([task("a", health=health)], reports_health=reports_health)

    assert bool(found) is counts


@pytest.mark.parametrize(
    "changes", [{"status": "PENDING"}, {"status": "DEACTIVATING"}, {"reachable": False}]
)
def test_task_is_not_in_service_when_it_does_not_work(changes: dict[str, Any]) -> None:
    assert not in_service([task("a", **changes)])


def test_task_is_not_in_service_when_it_was_stopped_whatever_ecs_says() -> None:
    assert not in_service([task("a")], stopped=["a"])


def test_wait_is_over_when_two_looks_in_a_row_are_good() -> None:
    recycling = progress()
    good = look(recycling, sighting("a", "b", "c", "n"))
    bad = look(recycling, sighting("a", "b", "c"), good)
    again = look(recycling, sighting("a", "b", "c", "n"), bad)

    assert [good["passed"], bad["passed"], again["passed"]] == [1, 0, 1]
    assert not is_over(again)
    assert is_over(look(recycling, sighting("a", "b", "c", "n"), again))
    assert bad["lowest"] == again["lowest"] == 3


def in_hand() -> Progress:
    """Return a progress that has seen the surge n, and stopped a."""
    recycling = progress()
    recycling.saw(look(recycling, sighting("a", "b", "c", "n")))
    recycling.begin()
    stop = recycling.may_stop(
        replace(ACTIVE, desired_count=4), sighting("a", "b", "c", "n"), protected=(), alarm=""
    )
    assert (stop["verdict"], stop["stopped"]) == ("stop", ["a"])
    recycling.tried(stop)
    return recycling


@pytest.mark.parametrize(
    ("names", "passed"),
    [
        # Still listed; gone; replaced; replaced, and the surge lost; replaced by what was known.
        ("abcn", 0),
        ("bcn", 0),
        ("bcnm", 1),
        ("bcm", 0),
        ("bcmk", 1),
    ],
)
def test_look_passes_when_a_new_task_is_there_for_each_stopped_one(names: str, passed: int) -> None:
    assert look(in_hand(), sighting(*names))["passed"] == passed


def test_look_does_not_pass_when_the_new_task_is_of_another_deployment() -> None:
    recycling = in_hand()
    other = Sighting((*sighting("b", "c", "n").tasks, task("m", deployment="d2")))

    seen = look(recycling, other)

    assert (seen["passed"], seen["trouble"]) == (0, "a deployment has begun")
    assert is_over(seen)


def test_look_passes_when_targets_have_drained_or_had_their_time() -> None:
    recycling = in_hand()
    recycling.plan["deregistration_delay"] = 60
    draining = sighting("b", "c", "n", "m", draining=1)

    assert look(recycling, draining, now=159)["passed"] == 0
    assert look(recycling, draining, now=160)["passed"] == 1


def test_wait_is_over_when_an_alarm_rings() -> None:
    recycling = progress()

    seen = recycling.look(sighting("a"), "in ALARM: errors", None, since=0, now=0)

    assert seen["trouble"] == "in ALARM: errors"
    assert is_over(seen)


@pytest.mark.parametrize(
    ("service", "names", "verdict"),
    [
        ({}, "abcn", "stop"),
        ({}, "abc", "weak"),
        ({"desired_count": 5}, "abcn", "grown"),
        ({"desired_count": 3}, "abcn", "halt"),
        ({"deployments": 2}, "abcn", "halt"),
        ({"deployment": "d2"}, "abcn", "halt"),
        ({"status": "DRAINING"}, "abcn", "halt"),
    ],
)
def test_verdict_is_to_stop_when_the_plan_fits_the_service(
    service: dict[str, Any], names: str, verdict: str
) -> None:
    recycling = progress()
    recycling.begin()

    stop = recycling.may_stop(
        replace(ACTIVE, **{"desired_count": 4, **service}),
        sighting(*names),
        protected=(),
        alarm="",
    )

    assert stop["verdict"] == verdict
    assert stop["stopped"] == (["a"] if verdict == "stop" else [])
    assert bool(stop["why"]) is (verdict in {"weak", "halt"})


def test_each_task_at_hand_is_judged_by_itself_when_a_batch_is_stopped() -> None:
    recycling = progress(batch_size=3)
    recycling.begin()

    stop = recycling.may_stop(
        replace(ACTIVE, desired_count=6),
        sighting("b", "c", "n", "m", "o", "p"),
        protected=["arn:task/b"],
        alarm="",
    )
    recycling.tried(stop)

    assert stop["stopped"] == recycling.at_hand == ["c"]
    assert stop["left"] == [
        {"id": "a", "why": "it was gone already"},
        {"id": "b", "why": "it is under task protection"},
    ]


def test_what_was_stopped_before_counts_as_stopped_when_the_step_was_cut_off() -> None:
    recycling = progress()
    recycling.begin()

    stop = recycling.may_stop(
        replace(ACTIVE, desired_count=4),
        sighting("b", "c", "n"),
        protected=(),
        alarm="",
        already=["a"],
    )

    assert (stop["verdict"], stop["stopped"], stop["left"]) == ("weak", ["a"], [])


def test_more_is_kept_and_restored_when_somebody_asks_for_more() -> None:
    recycling = progress()

    recycling.follow({"desired_count": 7, "bounds": None})

    assert recycling.goal == 8
    assert recycling.plan["changes"]["before"]["desired_count"] == 7
    assert recycling.plan["changes"]["made"]["desired_count"] == 8


def test_bounds_made_before_are_known_once_when_somebody_asks_for_more_twice() -> None:
    recycling = progress()
    bounds, made = Bounds(lowest=1, highest=9), Bounds(lowest=8, highest=9)

    for count in (7, 8):
        recycling.follow({"desired_count": count, "bounds": bounds}, made)

    assert recycling.plan["changes"] == {
        "before": {"desired_count": 8, "bounds": bounds},
        "made": {"desired_count": 9, "bounds": {"lowest": 9, "highest": 9}},
        "made_earlier": [made],
    }


def test_every_task_has_a_place_in_the_report_when_recycling_is_given_up() -> None:
    recycling = in_hand()

    recycling.give_up("no replacement")

    report = recycling.report(REQUEST, "failed", problem="no replacement")
    assert report["failed"] == [{"task_arn": "arn:task/a", "why": "no replacement"}]
    assert [task["task_arn"] for task in report["skipped"]] == ["arn:task/b", "arn:task/c"]
    assert report["planned"] == report["recycled"] == []


def test_tasks_are_reported_as_failed_when_nobody_knows_whether_they_were_stopped() -> None:
    recycling = progress(batch_size=2)
    recycling.begin()

    recycling.lost("no answer")

    assert recycling.done["failed"] == [
        {"id": "a", "why": "no answer"},
        {"id": "b", "why": "no answer"},
    ]
    assert recycling.queue == ["c"]
