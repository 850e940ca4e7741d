"""How a stopped task is judged, and what a person is told."""

from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecs_ops.verdict import (
    Sighting,
    TaskState,
    exit_code_meaning,
    has_ended,
    has_vanished,
    is_over,
    judge,
    look,
    one_line,
    overdue,
    report,
    task_id,
    vanished,
)

ID = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
OUTSIDE = [
    "UserInitiated",
    "ServiceSchedulerInitiated",
    "SpotInterruption",
    "TerminationNotice",
    "InfrastructureHealth",
]


def stopped(*, exit_code: int | None = None, reason: str = "", **task: Any) -> TaskState:
    container: dict[str, Any] = {"name": "app"}
    if exit_code is not None:
        container["exitCode"] = exit_code
    if reason:
        container["reason"] = reason
    state = {
        "taskArn": f"arn:aws:ecs:eu-west-1:111122223333:task/shop/{ID}",
        "clusterArn": "arn:aws:ecs:eu-west-1:111122223333:cluster/shop",
        "lastStatus": "STOPPED",
        "containers": [{"name": "logs", "exitCode": 0}, container],
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
    }
    return cast("TaskState", state | task)


def test_task_succeeded_when_its_container_exited_with_0() -> None:
    verdict = judge(stopped(exit_code=0), ["app"])

    assert verdict.succeeded
    assert verdict.exit_code == 0
    assert verdict.sentence.startswith("Task succeeded: container app exited with 0.")


@given(st.integers(1, 255))
def test_task_failed_when_its_container_exited_with_anything_else(code: int) -> None:
    verdict = judge(stopped(exit_code=code), ["app"])

    assert not verdict.succeeded
    assert verdict.exit_code == code
    assert verdict.sentence.startswith(f"Task failed: container app exited with {code}")


@pytest.mark.parametrize(
    ("status", "code", "ended"),
    [
        ("STOPPED", None, True),
        ("DEPROVISIONING", 0, True),
        ("STOPPING", 3, True),
        ("DEACTIVATING", None, False),
        ("RUNNING", 0, False),
    ],
)
def test_task_has_ended_when_it_is_stopping_and_its_containers_have(
    *, status: str, code: int | None, ended: bool
) -> None:
    assert has_ended(stopped(exit_code=code, lastStatus=status), ["app", "logs"]) is ended


def test_task_succeeded_when_the_code_is_one_of_the_success_codes() -> None:
    assert judge(stopped(exit_code=3), ["app"], {0, 3}).succeeded
    assert not judge(stopped(exit_code=0), ["app"], {3}).succeeded


def test_task_failed_when_there_is_no_exit_code() -> None:
    verdict = judge(
        stopped(
            stopCode="TaskFailedToStart",
            stoppedReason="CannotPullContainerError: pull access denied",
        ),
        ["app"],
    )

    assert not verdict.succeeded
    assert verdict.exit_code is None
    assert verdict.sentence == (
        f"Task failed to start. CannotPullContainerError: pull access denied. Task {ID}."
    )


def test_task_failed_when_only_another_container_has_an_exit_code() -> None:
    verdict = judge(stopped(), ["app"])

    assert not verdict.succeeded
    assert "container app ended without an exit code" in verdict.sentence


def test_task_failed_when_the_container_is_not_in_it() -> None:
    assert not judge(stopped(exit_code=0), ["web"]).succeeded


@pytest.mark.parametrize("stop_code", OUTSIDE)
def test_task_failed_when_something_else_stopped_it(stop_code: str) -> None:
    # A program that handles SIGTERM well exits with 0 without having finished.
    verdict = judge(stopped(exit_code=0, stopCode=stop_code), ["app"])

    assert not verdict.succeeded
    assert verdict.sentence.startswith("Task was stopped before it finished: ")
    assert "exited with 0" in verdict.sentence


def test_exit_code_decides_when_there_is_no_stop_code() -> None:
    task = stopped(exit_code=0)
    del task["stopCode"]
    del task["stoppedReason"]

    assert judge(task, ["app"]).sentence == (
        f"Task succeeded: container app exited with 0. Task {ID}."
    )


def test_everything_is_told_in_order_when_memory_ran_out() -> None:
    verdict = judge(
        stopped(exit_code=137, reason="OutOfMemoryError: Container killed due to memory usage"),
        ["app"],
    )

    assert verdict.sentence == (
        "Task failed: container app exited with 137 (SIGKILL: killed, often out of memory). "
        "OutOfMemoryError: Container killed due to memory usage. "
        f"Essential container in task exited. Task {ID}."
    )


@given(st.text(max_size=2000), st.text(max_size=2000), st.none() | st.integers(0, 255))
@example("r" * 2000, "s" * 2000, 137)
def test_sentence_is_short_plain_and_names_the_task_whatever_ecs_says(
    reason: str, stopped_reason: str, code: int | None
) -> None:
    task = stopped(exit_code=code, reason=reason, stoppedReason=stopped_reason)

    sentence = judge(task, ["app"]).sentence

    assert len(sentence) <= 2000
    assert sentence.isascii()
    assert sentence.isprintable()
    assert sentence.startswith("Task ")
    assert sentence.endswith(f" Task {ID}.")


def task_of(codes: dict[str, int | None]) -> TaskState:
    containers: list[Any] = [
        {"name": name} if code is None else {"name": name, "exitCode": code}
        for name, code in codes.items()
    ]
    return stopped(containers=containers)


@given(
    st.dictionaries(
        st.sampled_from(["app", "proxy", "logs", "cron"]),
        st.none() | st.integers(0, 255),
        min_size=1,
    ),
    st.sets(st.integers(0, 255), min_size=1),
)
def test_task_succeeded_only_when_every_deciding_container_did(
    codes: dict[str, int | None], success_codes: set[int]
) -> None:
    verdict = judge(task_of(codes), list(codes), success_codes)

    assert verdict.succeeded is all(code in success_codes for code in codes.values())
    assert codes[verdict.container] == verdict.exit_code
    assert verdict.succeeded or verdict.exit_code not in success_codes


def test_task_succeeded_when_a_container_that_does_not_decide_failed() -> None:
    assert judge(task_of({"logs": 1, "app": 0}), ["app"]).succeeded


@pytest.mark.parametrize("code", [143, 137])
def test_container_that_failed_by_itself_is_blamed_when_ecs_ended_the_others(code: int) -> None:
    verdict = judge(task_of({"proxy": code, "app": 3}), ["proxy", "app"])

    assert verdict.sentence.startswith("Task failed: container app exited with 3.")


def test_log_comes_last_and_says_where_it_is_when_there_is_one() -> None:
    verdict = judge(stopped(exit_code=3), ["app"])

    told = report(verdict, group="/shop", stream=f"ecs/app/{ID}", lines=["one", "two\ttabs"])

    assert told == (
        f"{verdict.sentence} Log stream ecs/app/{ID} of /shop, last lines: one | two tabs"
    )


@pytest.mark.parametrize("stream", ["", "ecs/app/1"])
def test_verdict_is_told_alone_when_there_are_no_lines(stream: str) -> None:
    verdict = judge(stopped(exit_code=3), ["app"])

    told = report(verdict, group="/shop", stream=stream, lines=[])

    assert told == verdict.sentence + (" Log stream ecs/app/1 of /shop." if stream else "")


@given(st.lists(st.text(max_size=3000), max_size=30))
def test_verdict_and_the_last_line_are_kept_however_long_the_log(lines: list[str]) -> None:
    verdict = judge(stopped(exit_code=3, stoppedReason="s" * 2000), ["app"])

    told = report(verdict, group="/shop", stream="ecs/app/1", lines=[*lines, "the end"])

    assert told.startswith(verdict.sentence)
    assert told.endswith("the end")
    assert len(told) <= 4000


@pytest.mark.parametrize(
    ("code", "word"),
    [(126, "executed"), (127, "not found"), (137, "SIGKILL"), (139, "SIGSEGV"), (143, "SIGTERM")],
)
def test_meaning_is_told_when_the_code_has_one(code: int, word: str) -> None:
    assert word in exit_code_meaning(code)


def test_signal_is_named_when_a_signal_ended_the_program() -> None:
    assert exit_code_meaning(128 + 2) == "SIGINT"


@pytest.mark.parametrize("code", [0, 1, 2, 128, 255])
def test_no_meaning_is_made_up_when_the_code_is_the_programs_own(code: int) -> None:
    assert exit_code_meaning(code) == ""


RUNNING: Sighting = {"task": stopped(lastStatus="RUNNING"), "missed": 0}


def test_waiting_ends_when_the_task_has_stopped() -> None:
    assert not is_over(RUNNING)
    assert is_over(look(RUNNING, stopped()))


def test_one_missing_proves_nothing_when_the_task_is_found_again() -> None:
    missed = look(RUNNING, None)

    assert not is_over(missed)
    assert missed["task"] == RUNNING["task"]
    assert look(missed, RUNNING["task"]) == RUNNING


def test_task_has_vanished_when_it_stays_missing() -> None:
    sighting = RUNNING
    looks = 0
    while not is_over(sighting):
        sighting = look(sighting, None)
        looks += 1

    assert has_vanished(sighting)
    # At two to three seconds a look: long enough for ECS to know its own task.
    assert 5 <= looks <= 20
    assert "MISSING; last seen RUNNING" in vanished(sighting["task"]).sentence


def test_status_and_time_are_told_when_the_task_takes_too_long() -> None:
    verdict = overdue(RUNNING["task"], 3540)

    assert not verdict.succeeded
    assert verdict.exit_code is None
    assert "3540 seconds" in verdict.sentence
    assert "RUNNING) and was stopped." in verdict.sentence


def test_trouble_is_told_when_an_overdue_task_could_not_be_stopped() -> None:
    verdict = overdue(RUNNING["task"], 60, "StopTask failed: AccessDenied: no")

    assert "asked to stop, which failed: StopTask failed: AccessDenied: no." in verdict.sentence


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:ecs:eu-west-1:111122223333:task/shop/{ID}",
        f"arn:aws:ecs:eu-west-1:111122223333:task/{ID}",
    ],
)
def test_task_id_is_found_when_the_arn_is_of_either_format(arn: str) -> None:
    assert task_id(arn) == ID


@given(st.text(), st.integers(3, 300))
def test_one_line_is_short_and_plain_whatever_it_is_given(text: str, limit: int) -> None:
    line = one_line(text, limit)

    assert len(line) <= limit
    assert line.isascii()
    assert line.isprintable()
