"""What a person reads about a recycle, and that SNS and a mail take it whatever it holds."""

import shlex
from typing import Any, cast, get_args, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecs_ops.recycle import Report
from ecs_ops.recycle_report import (
    RestoreReport,
    attributes_of,
    body_of,
    restore_body_of,
    restore_subject_of,
    subject_of,
)

TASKS = "arn:aws:ecs:eu-west-1:111122223333:task/shop/"
EXECUTION = (
    "arn:aws:lambda:eu-west-1:111122223333:function:ecs-ops-recycle-service:7"
    "/durable-execution/web/0a16"
)
SNS_LIMIT = 262_144
OUTCOMES = get_args(get_type_hints(Report)["outcome"])


def arns(*numbers: int) -> list[str]:
    return [f"{TASKS}{number:032x}" for number in numbers]


def left(why: str, *numbers: int) -> list[dict[str, str]]:
    return [{"task_arn": arn, "why": why} for arn in arns(*numbers)]


def report(**fields: Any) -> Report:
    """Return the report of a recycle of twenty tasks in which all went well."""
    return cast(
        "Report",
        {
            "outcome": "succeeded",
            "problem": None,
            "cluster_name": "shop",
            "service_name": "web",
            "planned": [],
            "recycled": arns(*range(20)),
            "skipped": [],
            "failed": [],
            "capacity": {"before": 20, "during": 20, "after": 20},
            "desired_count": {"before": 20, "after": 20},
            "next_execution": None,
        }
        | fields,
    )


def restore(**fields: Any) -> RestoreReport:
    """Return what is told of a recycle that an operator stopped."""
    well: dict[str, Any] = {
        "cluster_name": "shop",
        "service_name": "web",
        "status": "STOPPED",
        "error": "",
        "put_back": True,
        "desired_count": 20,
    }
    return RestoreReport(**well | fields)


# What ECS would never write: halves of surrogates, controls, nothing at all.
anything = st.text(st.characters(exclude_categories=()), max_size=1_000)
texts = anything | st.sampled_from(
    ["", " ", "Grüße", "a\r\nBcc: b@c", "\ud800", "x" * 2_000, "😀" * 2_000]
)
tasks = st.lists(texts, max_size=4)
notes = st.lists(st.fixed_dictionaries({"task_arn": texts, "why": texts}), max_size=4)
counts = st.none() | st.integers()
weird_reports = st.builds(
    lambda times, **fields: report(
        **{
            name: value * times if isinstance(value, list) else value
            for name, value in fields.items()
        }
    ),
    st.integers(1, 40),
    outcome=st.sampled_from(OUTCOMES),
    problem=st.none() | texts,
    cluster_name=texts,
    service_name=texts,
    planned=tasks,
    recycled=tasks,
    skipped=notes,
    failed=notes,
    capacity=st.fixed_dictionaries({"before": st.integers(), "during": counts, "after": counts}),
    desired_count=st.fixed_dictionaries({"before": st.integers(), "after": counts}),
    next_execution=st.none() | texts,
)
weird_restores = st.builds(
    RestoreReport,
    cluster_name=texts,
    service_name=texts,
    status=st.sampled_from(["FAILED", "STOPPED", "TIMED_OUT"]) | texts,
    error=texts,
    put_back=st.booleans(),
    desired_count=counts,
    problem=texts,
)


def assert_sns_takes(subject: str, body: str, attributes: dict[str, str]) -> None:
    assert 0 < len(subject) < 100
    assert subject.isascii()
    assert subject.isprintable()
    attribute_size = sum(len(f"{name}String{value}".encode()) for name, value in attributes.items())
    assert len(body.encode()) + attribute_size < SNS_LIMIT
    assert all(line.isprintable() for line in body.split("\n"))
    assert all(value.strip() and len(value) <= 256 for value in attributes.values())


@given(weird_reports, texts, texts)
@example(
    report(
        problem="😀" * 2_000,
        failed=[{"task_arn": "😀" * 2_000, "why": f"{n}{'😀' * 2_000}"} for n in range(90)],
    ),
    "😀" * 400,
    "😀" * 400,
)
def test_sns_takes_a_report_whatever_it_holds(told: Report, prefix: str, execution: str) -> None:
    assert_sns_takes(
        subject_of(told, prefix),
        body_of(told, execution),
        attributes_of(told["cluster_name"], told["service_name"], told["outcome"]),
    )


@given(weird_restores, texts, texts)
def test_sns_takes_a_restore_whatever_it_holds(
    told: RestoreReport, prefix: str, execution: str
) -> None:
    assert_sns_takes(
        restore_subject_of(told, prefix),
        restore_body_of(told, execution),
        attributes_of(told.cluster_name, told.service_name, told.status),
    )


names = st.text(st.sampled_from("abc-_09"), min_size=1, max_size=255)


@given(names, names, st.integers(0, 5_000), st.text(max_size=80))
def test_subject_keeps_its_numbers_when_names_are_long(
    cluster: str, service: str, recycled: int, prefix: str
) -> None:
    told = report(
        outcome="failed",
        cluster_name=cluster,
        service_name=service,
        recycled=["x"] * recycled,
        skipped=left("", 0) * (5_000 - recycled),
    )

    assert subject_of(told, prefix).endswith(f" ended early: {recycled} of 5000 tasks replaced")


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 60)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 60)),
)
def test_every_task_is_listed_or_counted(failed: dict[str, int], skipped: dict[str, int]) -> None:
    number = iter(range(1_000))
    kinds = {
        kind: [
            note
            for why, count in groups.items()
            for note in left(why, *(next(number) for _ in range(count)))
        ]
        for kind, groups in (("failed", failed), ("skipped", skipped))
    }

    body = body_of(report(**kinds), EXECUTION)

    total = next(number)
    listed = min(total, 50)
    assert body.count(f"\n- {TASKS}") == listed
    assert ("more that are not listed" in body) == (total > listed)
    assert total == listed or f"… and {total - listed} more" in body
    # Those that failed come first, and each reason has the number of all its tasks.
    assert body.count(f"\n- {TASKS}") >= min(50, sum(failed.values()))
    room = 50
    for kind, groups in (("failed", failed), ("skipped", skipped)):
        for why, count in groups.items():
            if count:
                assert (f"\n{count} {kind}: {why}\n" in body) == (room > 0)
            room -= min(room, count)


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({}, "Recycled web in shop: 20 of 20 tasks"),
        (
            {"outcome": "failed", "recycled": arns(1, 2, 3), "skipped": left("", *range(17))},
            "Recycle of web in shop ended early: 3 of 20 tasks replaced",
        ),
        (
            {"outcome": "planned", "recycled": [], "planned": arns(1, 2), "skipped": left("", 3)},
            "Plan for web in shop: 2 of 3 tasks would be replaced",
        ),
        (
            {"cluster_name": "arn:aws:ecs:eu-west-1:111122223333:cluster/shop"},
            "Recycled web in shop: 20 of 20 tasks",
        ),
        ({"service_name": "Grüße\nBcc: a@b"}, "Recycled Gr??e Bcc: a@b in shop: 20 of 20 tasks"),
    ],
)
def test_subject_says_how_it_ended(fields: dict[str, Any], subject: str) -> None:
    assert subject_of(report(**fields)) == subject


@pytest.mark.parametrize(
    ("prefix", "begins"),
    [
        ("[production]", "[production] Recycled web"),
        ("[a]\r\nBcc: x@y", "[a] Bcc: x@y Recycled web"),
        (" \n", "Recycled web"),
    ],
)
def test_subject_begins_with_the_prefix_on_one_line(prefix: str, begins: str) -> None:
    assert subject_of(report(), prefix).startswith(begins)
    assert restore_subject_of(restore(), prefix).startswith(
        begins.replace("Recycled", "Recycle of")
    )


def test_a_person_can_act_when_a_recycle_ended_early() -> None:
    told = report(
        outcome="failed",
        problem="its replacement was not in service within 600 s",
        recycled=arns(1, 2, 3),
        skipped=left("it is under task protection", 7, 8) + left("recycling ended", 9),
        failed=left("its replacement was not in service within 600 s", 4),
        capacity={"before": 7, "during": 6, "after": 7},
        desired_count={"before": 7, "after": 8},
    )

    assert body_of(told, EXECUTION).splitlines() == [
        "Recycling web in shop ended early.",
        "Problem: its replacement was not in service within 600 s",
        "",
        "Tasks: 3 recycled, 3 skipped, 1 failed, 0 not begun.",
        "In service: 7 before, 6 at the lowest, 7 after.",
        "Desired count: 7 before, 8 after: not put back, or somebody else changed it.",
        "",
        "1 failed: its replacement was not in service within 600 s",
        f"- {TASKS}{4:032x}",
        "",
        "2 skipped: it is under task protection",
        f"- {TASKS}{7:032x}",
        f"- {TASKS}{8:032x}",
        "",
        "1 skipped: recycling ended",
        f"- {TASKS}{9:032x}",
        "",
        f"Execution: {EXECUTION}",
        f"    aws lambda get-durable-execution --durable-execution-arn {EXECUTION}",
        "Its result names every task.",
    ]


def test_message_is_short_when_all_went_well() -> None:
    assert body_of(report(), EXECUTION).splitlines()[:6] == [
        "Recycling web in shop is done.",
        "",
        "Tasks: 20 recycled, 0 skipped, 0 failed, 0 not begun.",
        "In service: 20 before, 20 at the lowest, 20 after.",
        "Desired count: 20 before, 20 after: as it was.",
        "",
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"capacity": {"before": 3, "during": 2, "after": None}}, "2 at the lowest, unknown after"),
        (
            {"desired_count": {"before": 3, "after": None}},
            "Desired count: 3 before, unknown after: ECS gave no answer; look whether",
        ),
        ({"outcome": "planned"}, "was planned only, and nothing was changed."),
        ({"service_name": "Grüße"}, "Recycling Grüße in shop"),
    ],
)
def test_body_says_what_is_known(fields: dict[str, Any], said: str) -> None:
    assert said in body_of(report(**fields), EXECUTION)


def test_command_is_one_word_when_an_arn_is_odd() -> None:
    odd = EXECUTION.replace(":7/", ":$LATEST/") + "; rm -rf /"

    (command,) = [line for line in body_of(report(), odd).splitlines() if "aws lambda" in line]

    assert shlex.split(command)[-2:] == ["--durable-execution-arn", odd]


@pytest.mark.parametrize(
    ("fields", "subject", "said"),
    [
        ({}, "Recycle of web in shop was stopped: put back", "The service: put back; what"),
        (
            {"status": "TIMED_OUT", "desired_count": None},
            "Recycle of web in shop timed out: put back",
            "Desired count: unknown.",
        ),
        (
            {"status": "FAILED", "problem": "UpdateService failed: AccessDenied", "error": "Oops"},
            "Recycle of web in shop failed: NOT put back",
            "not put back: UpdateService failed: AccessDenied",
        ),
        (
            {"put_back": False},
            "Recycle of web in shop was stopped: nothing to put back",
            "there was nothing to put back.",
        ),
    ],
)
def test_restore_says_how_the_service_was_left(
    fields: dict[str, Any], subject: str, said: str
) -> None:
    told = restore(**fields)

    assert restore_subject_of(told) == subject
    assert said in restore_body_of(told, EXECUTION)


def test_a_person_can_act_when_a_recycle_was_stopped() -> None:
    told = restore(error="stopped\nby Anna")

    assert restore_body_of(told, EXECUTION).splitlines() == [
        "Recycling web in shop was stopped.",
        "Why: stopped by Anna",
        "",
        "The service: put back; what somebody else changed meanwhile was left as it is.",
        "Desired count: 20.",
        "",
        f"Execution: {EXECUTION}",
        f"    aws lambda get-durable-execution --durable-execution-arn {EXECUTION}",
        "Its history names the tasks that were stopped.",
    ]


def test_subscribers_can_filter_by_names_when_the_request_held_arns() -> None:
    assert attributes_of("arn:aws:ecs:eu-west-1:1:cluster/shop", "web", "TIMED_OUT") == {
        "cluster": "shop",
        "service": "web",
        "outcome": "timed_out",
    }
