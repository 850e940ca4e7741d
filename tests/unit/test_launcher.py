"""Runs are followed and stopped by those who may, wherever they are remembered."""

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.errors import AwsFailure, InvalidRequest, Transient
from ecs_ops.launch_api import NotThere, Request
from ecs_ops.launch_profile import BrokenProfile, Profile
from ecs_ops.launcher import Launcher
from ecs_ops.verdict import TaskState
from tests.fake_launches import ECS_ARN, FUNCTION_ARN, LAUNCHER, FakeLog, KnownTasks, launched

NOW = 1_798_000_000.0
PROFILES: dict[str, dict[str, Any]] = {
    "nightly": {"cluster": "shop", "taskDefinition": "nightly", "subnets": ["s"]},
    "broken": {"cluster": 7},
    "bobs": {"cluster": "shop", "taskDefinition": "nightly", "subnets": ["s"], "callers": ["bob"]},
}


class Text:
    def __init__(self, profiles: Any = PROFILES) -> None:
        self._text = json.dumps(profiles)

    def read(self, *, at_most_seconds_old: float) -> str:
        del at_most_seconds_old
        return self._text


@dataclass
class Page:
    events: list[tuple[str, str]]
    next: str
    at_end: bool


@dataclass
class Output:
    """The lines of one stream, a token being the number of lines that were read."""

    streams: dict[str, list[str]] = field(default_factory=dict)

    def page(self, group: str, stream: str, region: str, after: str, limit: int) -> Page:
        del region
        start = int(after or 0)
        lines = self.streams.get(f"{group}:{stream}", [])[start : start + limit]
        return Page(
            [("2026-01-01T00:00:00.000Z", line) for line in lines],
            str(start + len(lines)),
            not lines and bool(after),
        )


def launcher(
    tasks: KnownTasks, log: FakeLog | None = None, output: Output | None = None
) -> Launcher:
    default = Profile(
        name="default", cluster="shop", task_definition="nightly", subnets=("subnet-1",)
    )
    return Launcher(
        name=LAUNCHER,
        function_arn=FUNCTION_ARN,
        default=default,
        profiles_text=Text(),
        tasks=tasks,
        log=lambda: log or FakeLog(),
        output=lambda: output or Output(),
        clock=lambda: NOW,
    )


def request(query: str = "") -> Request:
    return Request(
        method="GET",
        path="/runs",
        query=query,
        headers={},
        content="",
        is_base64=False,
        iam_arn="",
        id="1",
    )


def run_id(task: TaskState) -> str:
    return task["taskArn"].rsplit("/", 1)[-1]


def show(of: Launcher, task: TaskState, caller: str = "alice") -> dict[str, Any]:
    run: dict[str, Any] = json.loads(of.show(request(), caller, run_id(task)).body)
    return run


def page(of: Launcher, query: str = "", caller: str = "alice") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(of.list_runs(request(query), caller).body)
    return content


def ids(content: dict[str, Any]) -> list[int]:
    return [int(run["id"], 16) for run in content["runs"]]


def stopped_by(stop_code: str, exit_code: int | None) -> TaskState:
    return {**launched(1, "STOPPED", exit_code=exit_code), "stopCode": stop_code}


class TestShow:
    def test_run_is_shown_as_it_is(self) -> None:
        assert show(launcher(KnownTasks(launched(1))), launched(1)) == {
            "id": f"{1:032x}",
            "taskArn": f"{ECS_ARN}:task/shop/{1:032x}",
            "profile": "default",
            "caller": "alice",
            "cluster": f"{ECS_ARN}:cluster/shop",
            "taskDefinition": f"{ECS_ARN}:task-definition/nightly:3",
            "status": "RUNNING",
            "lastStatus": "RUNNING",
            "exitCode": None,
            "exitCodeMeaning": None,
            "reason": None,
            "createdAt": "2026-01-01T00:00:01.000Z",
            "startedAt": None,
            "stoppedAt": None,
        }

    @pytest.mark.parametrize(
        ("task", "status", "code", "meaning"),
        [
            (launched(1, "PROVISIONING"), "PENDING", None, None),
            (launched(1, "ACTIVATING"), "PENDING", None, None),
            (launched(1, "DEPROVISIONING"), "STOPPING", None, None),
            (launched(1, "STOPPED", exit_code=0), "SUCCEEDED", 0, None),
            (launched(1, "STOPPED", exit_code=3), "FAILED", 3, None),
            (launched(1, "STOPPED", exit_code=127), "FAILED", 127, "the command was not found"),
            (launched(1, "STOPPED"), "FAILED", None, None),
            (
                stopped_by("UserInitiated", 137),
                "STOPPED",
                137,
                "SIGKILL: killed, often out of memory",
            ),
            (stopped_by("SpotInterruption", 0), "FAILED", 0, None),
            (stopped_by("TaskFailedToStart", None), "FAILED", None, None),
        ],
    )
    def test_status_says_how_it_stands(
        self, task: TaskState, status: str, code: int | None, meaning: str | None
    ) -> None:
        run = show(launcher(KnownTasks(task)), task)

        assert (run["status"], run["exitCode"], run["exitCodeMeaning"]) == (status, code, meaning)
        assert (run["reason"] is None) is (task["lastStatus"] != "STOPPED")

    def test_essential_container_decides_when_another_fails(self) -> None:
        task = launched(1, "STOPPED", exit_code=0)
        task["containers"].append({"name": "proxy", "exitCode": 1})

        assert show(launcher(KnownTasks(task)), task)["status"] == "SUCCEEDED"

    def test_essential_container_decides_when_the_one_of_the_profile_is_not_there(self) -> None:
        task = launched(1, "STOPPED", exit_code=0)
        of = launcher(KnownTasks(task))
        renamed = dataclasses.replace(of.default, container="renamed")

        assert show(dataclasses.replace(of, default=renamed), task)["status"] == "SUCCEEDED"

    def test_definition_is_read_once_when_it_is_a_revision(self) -> None:
        class Counting(KnownTasks):
            reads = 0

            def containers(self, task_definition: str) -> Any:
                self.reads += 1
                return super().containers(task_definition)

        tasks = Counting(*(launched(n, "STOPPED", exit_code=0) for n in range(20)))

        assert len(page(launcher(tasks))["runs"]) == 20
        assert tasks.reads == 1

    def test_nobody_is_asked_for_a_definition_when_the_task_names_none(self) -> None:
        class Strict(KnownTasks):
            def containers(self, task_definition: str) -> Any:
                if not task_definition:
                    raise AwsFailure("DescribeTaskDefinition", "InvalidParameterException", "")
                return super().containers(task_definition)

        task = launched(1, "STOPPED", exit_code=3)
        del task["taskDefinitionArn"]

        assert show(launcher(Strict(task)), task)["exitCode"] == 3

    def test_log_knows_when_ecs_has_forgotten(self) -> None:
        task = launched(1, "STOPPED", exit_code=3)

        assert show(launcher(KnownTasks(), FakeLog(task)), task)["exitCode"] == 3

    def test_ecs_is_believed_when_both_know(self) -> None:
        task = launched(1, "STOPPED", exit_code=3)

        assert show(launcher(KnownTasks(task), FakeLog(launched(1))), task)["status"] == "FAILED"

    @pytest.mark.parametrize(
        "task",
        [
            launched(1, launcher="other-launch-task"),
            launched(1, launcher="ecs-ops-launch-task-2"),
            {**launched(1), "startedBy": LAUNCHER},
            {**launched(1), "startedBy": f"{LAUNCHER}/default/"},
            {**launched(1), "startedBy": f"{LAUNCHER}//alice"},
            {**launched(1), "startedBy": "ecs-svc/1234"},
            launched(1, profile="bobs"),
            launched(1, profile="gone"),
        ],
    )
    def test_run_is_not_there_when_it_is_not_the_callers_to_see(self, task: TaskState) -> None:
        tasks = KnownTasks(task)
        of = launcher(tasks, FakeLog(task), Output({"/shop:ecs/job/1": ["hello"]}))

        for action in (of.show, of.stop, of.read_log):
            with pytest.raises(NotThere):
                action(request(), "alice", run_id(task))
        assert page(of)["runs"] == []
        assert tasks.stops == []

    def test_operator_is_to_blame_when_its_profile_is_broken(self) -> None:
        of = launcher(KnownTasks(launched(1, profile="broken")))

        for action in (of.show, of.stop, of.read_log):
            with pytest.raises(BrokenProfile):
                action(request(), "alice", run_id(launched(1)))

    def test_run_is_there_for_those_whom_its_profile_is_for(self) -> None:
        task = launched(1, profile="bobs")

        assert show(launcher(KnownTasks(task)), task, "bob")["profile"] == "bobs"

    @pytest.mark.parametrize(
        "wrong", ["", "x", "..", "0" * 31, "0" * 33, "-" * 36, "0" * 32 + "\n", "A" * 32]
    )
    def test_run_is_not_there_when_its_id_is_none(self, wrong: str) -> None:
        with pytest.raises(NotThere):
            launcher(KnownTasks(launched(0))).show(request(), "alice", wrong)


class Listing(KnownTasks):
    """Counts how often it is asked for a list."""

    lists = 0

    def of_family(self, cluster: str, family: str, limit: int) -> list[TaskState]:
        self.lists += 1
        return super().of_family(cluster, family, limit)


class TestListForManyViewers:
    """A list of ECS serves for some seconds: pages that are watched ask again and again."""

    def test_ecs_is_asked_again_when_its_list_is_some_seconds_old(self) -> None:
        tasks, now = Listing(launched(1)), [NOW]
        of = dataclasses.replace(launcher(tasks), clock=lambda: now[0])

        for _ in range(3):
            assert ids(page(of, caller="alice")) == ids(page(of, caller="bob")) == [1]
        assert tasks.lists == 1
        tasks.know(launched(2))
        now[0] += 6
        assert ids(page(of)) == [2, 1]
        assert tasks.lists == 2

    def test_what_was_started_and_stopped_here_shows_at_once(self) -> None:
        tasks = Listing(launched(1))
        of = launcher(tasks)
        page(of)

        of.launch(dataclasses.replace(request(), content="{}"), "alice")
        tasks.know(launched(2))
        assert ids(page(of)) == [2, 1]
        of.stop(request(), "alice", run_id(launched(1)))
        assert [run["lastStatus"] for run in page(of)["runs"]] == ["RUNNING", "STOPPED"]

    def test_refusal_is_not_kept(self) -> None:
        class Refusing(Listing):
            def of_family(self, cluster: str, family: str, limit: int) -> list[TaskState]:
                found = super().of_family(cluster, family, limit)
                if self.lists == 1:
                    raise REFUSED
                return found

        of = launcher(Refusing(launched(1)))

        with pytest.raises(AwsFailure):
            page(of)
        assert ids(page(of)) == [1]


REFUSED = AwsFailure("DescribeTasks", "AccessDeniedException", "not authorized")
ELSEWHERE: dict[str, Any] = {
    "elsewhere": {**PROFILES["nightly"], "cluster": "forbidden"},
    "nightly": {**PROFILES["nightly"], "cluster": "other-shop"},
}


class Forbidding(KnownTasks):
    """Of one cluster nothing is told; the runs are in one that is asked later."""

    def describe(self, cluster: str, task_arn: str) -> TaskState | None:
        if cluster == "forbidden":
            raise REFUSED
        return super().describe(cluster, task_arn.replace("/other-shop/", "/shop/"))

    def of_family(self, cluster: str, family: str, limit: int) -> list[TaskState]:
        if cluster == "forbidden":
            raise REFUSED
        return super().of_family(cluster, family, limit)


def refused_first(*tasks: TaskState) -> Launcher:
    of = launcher(Forbidding(*tasks))
    forbidden = dataclasses.replace(of.default, cluster="forbidden")
    return dataclasses.replace(of, default=forbidden, profiles_text=Text(ELSEWHERE))


class TestRefusedCluster:
    """AWS lets the launcher see nothing in the cluster of one profile."""

    def test_runs_of_the_others_are_listed(self) -> None:
        of = refused_first(launched(1, profile="nightly"))

        assert ids(page(of)) == [1]

    def test_list_is_refused_when_there_is_nothing_else_to_list(self) -> None:
        of = refused_first(launched(1, profile="nightly"))

        with pytest.raises(AwsFailure):
            page(of, "profile=elsewhere")

    def test_run_is_found_in_the_next_one(self) -> None:
        task = launched(1, profile="nightly")

        assert show(refused_first(task), task)["profile"] == "nightly"

    def test_refusal_is_told_when_the_run_is_nowhere_else(self) -> None:
        with pytest.raises(AwsFailure):
            show(refused_first(), launched(1))


class TestStop:
    def test_ecs_is_asked_when_a_run_is_stopped(self) -> None:
        tasks = KnownTasks(launched(1))

        reply = launcher(tasks).stop(request(), "alice", run_id(launched(1)))

        assert reply.status == 202
        assert tasks.stops == [launched(1)["taskArn"]]
        assert "alice" in tasks.reasons[0]

    def test_nothing_is_stopped_when_ecs_does_not_know_it_any_more(self) -> None:
        tasks = KnownTasks()

        reply = launcher(tasks, FakeLog(launched(1))).stop(request(), "alice", run_id(launched(1)))

        assert reply.status == 200
        assert tasks.stops == []

    def test_nobody_is_told_that_it_is_over_when_ecs_does_not_show_it_yet(self) -> None:
        new = launched(1)
        new["createdAt"] = datetime.fromtimestamp(NOW - 2, UTC).isoformat()

        with pytest.raises(Transient):
            launcher(KnownTasks(), FakeLog(new)).stop(request(), "alice", run_id(new))

    def test_stop_is_accepted_again_when_it_is_stopping(self) -> None:
        stopping: TaskState = {**launched(1), "desiredStatus": "STOPPED"}
        tasks = KnownTasks(stopping)

        reply = launcher(tasks).stop(request(), "alice", run_id(stopping))

        assert (reply.status, json.loads(reply.body)["status"]) == (202, "STOPPING")
        assert tasks.stops == []

    def test_stop_is_accepted_when_another_was_faster(self) -> None:
        # StopTask takes off the tag by which the launcher may stop the task.
        refused = AwsFailure("StopTask", "AccessDeniedException", "not authorized")
        tasks = KnownTasks(launched(1))
        tasks.trouble = [refused, refused]
        tasks.life = [launched(1), {**launched(1), "desiredStatus": "STOPPED"}]

        reply = launcher(tasks).stop(request(), "alice", run_id(launched(1)))

        assert (reply.status, json.loads(reply.body)["status"]) == (202, "STOPPING")
        tasks.life = [launched(1)]
        with pytest.raises(AwsFailure):
            launcher(tasks).stop(request(), "alice", run_id(launched(1)))

    @pytest.mark.parametrize("forgotten", [True, False])
    def test_nothing_is_stopped_when_it_is_over(self, forgotten: bool) -> None:  # noqa: FBT001
        over = launched(1, "STOPPED", exit_code=0)
        tasks = KnownTasks(*(() if forgotten else (over,)))

        reply = launcher(tasks, FakeLog(over)).stop(request(), "alice", run_id(over))

        assert (reply.status, json.loads(reply.body)["status"]) == (200, "SUCCEEDED")
        assert tasks.stops == []


class TestLog:
    def lines(self, of: Launcher, query: str = "") -> dict[str, Any]:
        reply = of.read_log(request(query), "alice", run_id(launched(1)))
        content: dict[str, Any] = json.loads(reply.body)
        return content

    def test_log_is_read_page_by_page(self) -> None:
        output = Output({f"/shop:ecs/job/{1:032x}": ["one", "two", "three"]})
        of = launcher(KnownTasks(launched(1, "STOPPED", exit_code=0)), output=output)

        first = self.lines(of, "limit=2")
        second = self.lines(of, f"limit=2&after={first['next']}")
        third = self.lines(of, f"limit=2&after={second['next']}")

        read = [event["message"] for part in (first, second, third) for event in part["events"]]
        assert read == ["one", "two", "three"]
        assert [part["complete"] for part in (first, second, third)] == [False, False, True]

    @pytest.mark.parametrize("character", ["\x1b", '"', "\\", "é", "\U0001f600", "x"])
    def test_every_reply_is_within_lambdas_limit_when_lines_are_long_in_json(
        self, character: str
    ) -> None:
        # More than the 1 MB that CloudWatch gives at once: how it counts is not our business.
        written = [f"{number}{character * 200_000}" for number in range(12)]
        output = Output({f"/shop:ecs/job/{1:032x}": written})
        of = launcher(KnownTasks(launched(1)), output=output)

        read: list[str] = []
        while len(read) < len(written):
            reply = of.read_log(request(f"after={len(read)}"), "alice", run_id(launched(1)))
            assert len(json.dumps({"body": reply.body})) < 6_200_000
            events = json.loads(reply.body)["events"]
            assert events
            read += [event["message"] for event in events]

        assert read == written

    def test_message_is_cut_when_it_alone_is_too_long(self) -> None:
        output = Output({f"/shop:ecs/job/{1:032x}": ["\x00" * 1_048_576]})
        of = launcher(KnownTasks(launched(1)), output=output)

        reply = of.read_log(request(), "alice", run_id(launched(1)))

        assert len(json.dumps({"body": reply.body})) < 6_200_000
        assert json.loads(reply.body)["next"] == "1"

    def test_log_is_not_complete_while_the_run_goes_on(self) -> None:
        of = launcher(KnownTasks(launched(1)))

        assert self.lines(of, "after=0") == {"events": [], "next": "0", "complete": False}

    def test_log_is_not_complete_in_the_moment_after_the_end(self) -> None:
        over = launched(1, "STOPPED", exit_code=0)
        over["stoppedAt"] = datetime.fromtimestamp(NOW - 2, UTC).isoformat()

        assert self.lines(launcher(KnownTasks(over)), "after=0")["complete"] is False


WRONG = [
    ("status=DONE", "status"),
    ("status=", "status"),
    ("limit=", "limit"),
    ("profile=", "profile"),
    ("limit=0", "limit"),
    ("limit=101", "limit"),
    ("limit=x", "limit"),
    ("limit=%D9%A1", "limit"),
    ("after=x", "after"),
    ("profile=gone", "profile"),
    ("profile=bobs", "profile"),
    ("staus=FAILED", "staus"),
    ("limit=1&limit=2", "limit"),
]


class TestList:
    @pytest.mark.parametrize(("query", "field"), WRONG)
    def test_parameter_is_refused_by_name_when_it_is_wrong(self, query: str, field: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            page(launcher(KnownTasks()), query)

        assert refused.value.field == field

    def test_others_are_listed_when_the_cluster_of_one_profile_is_gone(self) -> None:
        gone = {**PROFILES["nightly"], "cluster": "gone"}
        of = launcher(KnownTasks(launched(1)))

        assert ids(page(dataclasses.replace(of, profiles_text=Text({"gone": gone})))) == [1]

    def test_runs_of_a_namesake_in_another_account_are_not_listed(self) -> None:
        other = launched(2)
        other["taskArn"] = other["taskArn"].replace("111122223333", "999922223333")

        assert ids(page(launcher(KnownTasks(), FakeLog(launched(1), other)))) == [1]

    def test_runs_are_filtered_by_profile_and_status(self) -> None:
        of = launcher(
            KnownTasks(launched(1), launched(2, profile="nightly"), launched(3, "STOPPING")),
            FakeLog(launched(4, "STOPPED", exit_code=1), launched(5, "STOPPED", exit_code=0)),
        )

        assert ids(page(of)) == [5, 4, 3, 2, 1]
        assert ids(page(of, "profile=nightly")) == [2]
        assert ids(page(of, "status=failed")) == [4]
        assert ids(page(of, "status=STOPPING&profile=default")) == [3]

    def test_later_pages_are_as_they_were_when_runs_are_launched_meanwhile(self) -> None:
        tasks = KnownTasks(launched(2), launched(4))
        of = dataclasses.replace(
            launcher(tasks, FakeLog(launched(1), launched(3))),
            clock=iter(range(0, 900, 9)).__next__,
        )

        first = page(of, "limit=2")
        tasks.know(launched(5))
        assert ids(first) == [4, 3]
        assert ids(page(of, f"limit=2&after={first['next']}")) == [2, 1]
        assert ids(page(of, "limit=2")) == [5, 4]

    def test_list_goes_on_when_a_page_holds_nothing_that_was_asked_for(self) -> None:
        old = [launched(n, "STOPPED", exit_code=0) for n in range(2, 40)]
        of = launcher(KnownTasks(), FakeLog(launched(1, "STOPPED", exit_code=1), *old))

        found: list[int] = []
        after: str | None = ""
        pages = 0
        while after is not None:
            content = page(of, f"status=FAILED&limit=3&after={after}")
            found, after, pages = found + ids(content), content["next"], pages + 1

        assert found == [1]
        assert 1 < pages < 10

    @given(
        st.lists(
            st.tuples(st.integers(0, 5), st.sampled_from(["live", "past", "both"])), max_size=20
        ),
        st.integers(1, 7),
    )
    def test_every_run_is_listed_once_newest_first_whoever_remembers_it(
        self, places: list[tuple[int, str]], limit: int
    ) -> None:
        tasks = [(launched(n, second=second), where) for n, (second, where) in enumerate(places)]
        of = launcher(
            KnownTasks(*(task for task, where in tasks if where != "past")),
            FakeLog(*(task for task, where in tasks if where != "live")),
        )

        found: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            content = page(of, f"limit={limit}&after={after}")
            assert len(content["runs"]) <= limit
            found, after = found + content["runs"], content["next"]

        order = [(run["createdAt"], run["id"]) for run in found]
        assert order == sorted(order, reverse=True)
        assert len(found) == len({run["id"] for run in found}) == len(tasks)


def test_caller_sees_the_profiles_that_are_for_them() -> None:
    def names(caller: str) -> list[str]:
        reply = launcher(KnownTasks()).list_profiles(request(), caller)
        content = json.loads(reply.body)
        assert content["caller"] == caller
        return [profile["name"] for profile in content["profiles"]]

    assert names("alice") == ["default", "nightly"]
    assert names("bob") == ["default", "nightly", "bobs"]
