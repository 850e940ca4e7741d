from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.errors import InvalidRequest
from ecs_ops.recycle import (
    Look,
    Plan,
    Progress,
    RecycleRequest,
    Service,
    Survey,
    Task,
    in_service,
    passed,
    survey,
)

ACTIVE = Service("ACTIVE", desired_count=3, deployments=1, scheduling_strategy="REPLICA")
REQUEST = RecycleRequest("shop", "web")


def task(arn: str, status: str = "RUNNING", health: str = "UNKNOWN", since: float = 0) -> Task:
    return Task(arn, status, health, since)


def surveyed(**changes: Any) -> Survey:
    found = survey(ACTIVE, [task("a"), task("b"), task("c")])
    return found | changes  # type: ignore[return-value]


def progress(**changes: Any) -> Progress:
    """Return a progress at its beginning: tasks a, b and c, and a goal of 4."""
    return Progress.begin(Plan.of(REQUEST, surveyed(**changes)))


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


def test_oldest_task_is_first_when_a_service_is_surveyed() -> None:
    found = survey(ACTIVE, [task("new", since=30), task("old", since=10), task("mid", since=20)])

    assert found["tasks"] == ["old", "mid", "new"]


@pytest.mark.parametrize(("maintain", "goal"), [(True, 4), (False, 3)])
def test_goal_is_one_more_when_the_state_is_to_be_maintained(
    maintain: bool,  # noqa: FBT001 - a parameter of the table above
    goal: int,
) -> None:
    plan = Plan.of(replace(REQUEST, maintain_service_state=maintain), surveyed())

    assert (plan.before, plan.goal) == (3, goal)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": "DRAINING"}, "DRAINING"),
        ({"status": "INACTIVE"}, "INACTIVE"),
        ({"scheduling_strategy": "DAEMON"}, "DAEMON"),
        ({"deployments": 2}, "deployment in progress"),
        ({"desired_count": 0}, "desired count of 0"),
    ],
)
def test_service_is_refused_when_it_cannot_be_recycled(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refusal:
        Plan.of(REQUEST, surveyed(**changes))

    assert refusal.value.field == "service_name"


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
    counts: bool,  # noqa: FBT001
) -> None:
    tasks = [task("a", health=health)]

    assert (in_service(tasks, reports_health=reports_health) == tasks) is counts


def test_unknown_is_not_healthy_when_another_task_reports_its_health() -> None:
    healthy = task("a", health="HEALTHY")

    assert in_service([healthy, task("b")]) == [healthy]


@pytest.mark.parametrize("status", ["PROVISIONING", "PENDING", "ACTIVATING", "DEACTIVATING"])
def test_task_is_not_in_service_when_it_does_not_run(status: str) -> None:
    assert in_service([task("a", status)]) == []


def test_look_passes_when_the_goal_is_in_service() -> None:
    look = progress().look([task(arn) for arn in "abcd"], None)

    assert look == {"passed": 1, "in_service": 4, "lowest": 4}


def test_look_fails_when_the_stopped_task_still_looks_alive() -> None:
    run = progress()
    tasks = [task(arn) for arn in "abcd"]
    run.tried(run.may_stop(replace(ACTIVE, desired_count=4), tasks, "a"), "a")

    assert run.look(tasks, None) == {"passed": 0, "in_service": 3, "lowest": 3}


def test_count_begins_again_when_a_look_in_between_fails() -> None:
    run = progress()
    four = [task(arn) for arn in "abcd"]
    last: Look | None = None
    counts = []
    for tasks in (four, four[:3], four, four):
        last = run.look(tasks, last)
        counts.append((last["passed"], passed(last)))

    assert counts == [(1, False), (0, False), (1, False), (2, True)]
    assert last is not None
    assert last["lowest"] == 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": "DRAINING"}, "DRAINING"),
        ({"deployments": 2}, "deployment"),
        ({"desired_count": 3}, "lowered from 4 to 3"),
    ],
)
def test_recycle_is_halted_when_somebody_changes_the_service(
    changes: dict[str, Any], why: str
) -> None:
    service = replace(ACTIVE, **{"desired_count": 4} | changes)

    stop = progress().may_stop(service, [task(arn) for arn in "abcd"], "a")

    assert stop["verdict"] == "halt"
    assert why in stop["why"]


def test_recycle_goes_on_when_somebody_raises_the_desired_count() -> None:
    service = replace(ACTIVE, desired_count=9)

    assert progress().may_stop(service, [task(arn) for arn in "abcd"], "a")["verdict"] == "stop"


def test_task_is_gone_when_it_is_not_listed_any_more() -> None:
    service = replace(ACTIVE, desired_count=4)

    assert progress().may_stop(service, [task(arn) for arn in "bcde"], "a")["verdict"] == "gone"


def test_every_task_is_named_when_recycling_ends_early() -> None:
    run = progress()
    run.replaced("a")
    run.at_hand = "b"
    run.give_up("no capacity")

    report = run.report(REQUEST, problem="no capacity", after=3, desired_count=3)

    assert report["outcome"] == "failed"
    assert report["recycled"] == ["a"]
    assert report["failed"] == [{"task_arn": "b", "why": "no capacity"}]
    assert report["skipped"] == [{"task_arn": "c", "why": "recycling ended before its turn"}]


arns = st.sampled_from("abcdefgh")
tasks_seen = st.dictionaries(
    arns,
    st.tuples(
        st.sampled_from(["PENDING", "RUNNING", "DEACTIVATING"]),
        st.sampled_from(["HEALTHY", "UNHEALTHY", "UNKNOWN"]),
    ),
).map(lambda found: [task(arn, *state) for arn, state in found.items()])


def strong(tasks: list[Task], stopped: set[str], *, reports_health: bool) -> set[str]:
    """Return what is in service, by the words of the rule and not by the code under test."""
    reported = reports_health or any(one.health != "UNKNOWN" for one in tasks)
    return {
        one.arn
        for one in tasks
        if one.status == "RUNNING"
        and one.arn not in stopped
        and one.health == ("HEALTHY" if reported else "UNKNOWN")
    }


@given(tasks_seen, tasks_seen, st.sets(arns), st.booleans(), st.integers(1, 6))
def test_no_task_is_stopped_when_too_few_are_in_service(
    tasks: list[Task],
    later: list[Task],
    stopped: set[str],
    reports_health: bool,  # noqa: FBT001 - given by hypothesis
    goal: int,
) -> None:
    plan = Plan(("a",), goal - 1, goal, surveyed(reports_health=reports_health))
    run = Progress(plan, lowest=goal, stopped=set(stopped))
    before = strong(tasks, stopped, reports_health=reports_health)

    stop = run.may_stop(replace(ACTIVE, desired_count=goal), tasks, "a")
    run.tried(stop, "a")
    look = run.look(later, None)

    assert stop["in_service"] == len(before)
    if stop["verdict"] == "stop":
        assert len(before) >= goal
        after = strong(later, stopped | {"a"}, reports_health=reports_health)
        assert (look["passed"] == 1) == (len(after) >= goal)
        # The wait is over only when somebody new is there, or was not needed.
        assert not look["passed"] or after - before or len(before - {"a"}) >= goal


@given(st.lists(tasks_seen, min_size=1), st.integers(1, 4))
def test_wait_ends_only_when_the_last_two_looks_pass(looks: list[list[Task]], goal: int) -> None:
    run = Progress(Plan((), goal, goal, surveyed()), lowest=goal)
    last: Look | None = None
    alone: list[bool] = []
    for tasks in looks:
        alone.append(run.look(tasks, None)["passed"] == 1)
        last = run.look(tasks, last)
        assert passed(last) == (alone[-2:] == [True, True])
