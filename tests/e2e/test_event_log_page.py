"""The command lines of docs/event-log.md answer what the page says, run exactly as written."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.account import REPOSITORY, TOOLS
from tests.sandbox.stack import DEMO_CLUSTER
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.sandbox.account import Account

PAGE = (REPOSITORY / "docs" / "event-log.md").read_text()
SECTION = PAGE.partition("\n## Questions at night\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
# Blocks that set variables, and those that ask.
SETTINGS = [block for block in BLOCKS if not block.startswith("aws ")]
FAILED_TODAY, OF_TASK, OF_DEFINITION, RUNNING = (
    block for block in BLOCKS if block.startswith("aws ")
)


_FAR = "now=99999999999"


@dataclass(frozen=True, slots=True)
class Question:
    """A line of the page, and what is set before it besides the page's own settings."""

    line: str
    settings: str = ""


def _ask(account: Account, *questions: Question) -> list[list[str]]:
    """Run the page's settings and then each question, in one shell; return what each printed."""
    mark = "=" * 8
    script = ["set -euo pipefail", f"cd {REPOSITORY}", *SETTINGS]
    for question in questions:
        script += [f"({question.settings or 'true'}", f"{question.line})", f"echo {mark}"]
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **account.env, "PATH": path, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], env=env, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return [printed.strip("\n").splitlines() for printed in done.stdout.split(mark)[:-1]]


@pytest.fixture(scope="module")
def tasks(account: Account, outputs: dict[str, str]) -> dict[str, str]:
    """Run three tasks and return their ARNs, once the log knows how each of them is."""
    ecs = account.client("ecs")

    def run(definition: str, **environment: str) -> str:
        values = [{"name": name, "value": value} for name, value in environment.items()]
        answer = ecs.run_task(
            cluster=DEMO_CLUSTER,
            taskDefinition=definition,
            launchType="FARGATE",
            overrides={"containerOverrides": [{"name": "app", "environment": values}]},
        )
        return str(answer["tasks"][0]["taskArn"])

    def is_on_record(arn: str, status: str) -> bool:
        items: list[dict[str, Any]] = account.client("dynamodb").query(
            TableName=outputs["EventTableName"],
            KeyConditionExpression="resourceArn = :arn",
            ExpressionAttributeValues={":arn": {"S": arn}},
        )["Items"]
        return bool(items) and items[-1]["lastStatus"]["S"] == status

    def all_on_record(status: str, *arns: str) -> None:
        def look() -> bool:
            return all(is_on_record(arn, status) for arn in arns)

        eventually(look, f"the {status} records", within=60)

    failing = run("demo-migrate", EXIT_CODE="5")
    running, stopped = run("demo-web"), run("demo-web")
    all_on_record("RUNNING", running, stopped)
    ecs.stop_task(cluster=DEMO_CLUSTER, task=stopped)
    all_on_record("STOPPED", stopped, failing)
    return {"failing": failing, "running": running, "stopped": stopped}


def _about(lines: list[str], arn: str) -> list[str]:
    """Return the lines about a task: they hold its ARN, or the start of its id."""
    return [line for line in lines if arn.rpartition("/")[2][:8] in line]


@pytest.fixture(scope="module")
def answers(account: Account, tasks: dict[str, str]) -> dict[str, list[str]]:
    """Ask everything once: a call of the command line takes most of a second."""
    this_task = f'task="{tasks["failing"]}"'
    reader = "PYTHONPATH=layers/common .venv/bin/python -m ecs_ops.events"
    questions = {
        "failed today": Question(FAILED_TODAY),
        # The page takes the task that failed last; beside other tests that may be one of theirs.
        "this task": Question(OF_TASK, this_task),
        "some task": Question(OF_TASK),
        "definition": Question(OF_DEFINITION),
        "too late": Question(OF_DEFINITION, "since=2999-01-01T00:00:00Z"),
        "running": Question(RUNNING),
        "failed today, expired": Question(FAILED_TODAY, _FAR),
        "this task, expired": Question(OF_TASK, f"{this_task} {_FAR}"),
        "definition, expired": Question(OF_DEFINITION, _FAR),
        "running, expired": Question(RUNNING, _FAR),
        "reader": Question(f"{reader} --cluster demo --failed"),
        "chart": Question(f"{reader} --task {tasks['running']} --chart"),
    }
    return dict(zip(questions, _ask(account, *questions.values()), strict=True))


def test_only_failures_are_printed_when_asked_what_failed_today(
    answers: dict[str, list[str]], tasks: dict[str, str]
) -> None:
    lines = answers["failed today"]

    (line,) = _about(lines, tasks["failing"])
    time, summary, arn = line.split("\t")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    assert "demo-migrate:1" in summary
    assert "app exited 5" in summary
    assert arn == tasks["failing"]
    assert not _about(lines, tasks["running"]) + _about(lines, tasks["stopped"])


def test_whole_life_is_printed_in_order_when_asked_what_happened_to_the_task(
    answers: dict[str, list[str]], tasks: dict[str, str]
) -> None:
    lines = answers["this task"]

    assert len(lines) >= 3
    assert lines == sorted(lines, key=lambda line: line.split("\t")[0])
    assert "PROVISIONING" in lines[0]
    assert "app exited 5" in lines[-1]
    assert len(_about(lines, tasks["failing"])) == len(lines)


def test_some_failed_task_is_taken_when_none_is_given(answers: dict[str, list[str]]) -> None:
    assert "exited" in answers["some task"][-1]


def test_both_tasks_are_printed_when_asked_for_their_task_definition(
    answers: dict[str, list[str]], tasks: dict[str, str]
) -> None:
    lines = answers["definition"]

    assert _about(lines, tasks["running"])
    assert _about(lines, tasks["stopped"])
    assert not _about(lines, tasks["failing"])
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\tdemo-web:1 ", line) for line in lines)


def test_nothing_is_printed_when_the_time_is_after_the_last_event(
    answers: dict[str, list[str]],
) -> None:
    assert answers["too late"] == []


def test_only_the_running_task_is_printed_when_asked_what_is_running(
    answers: dict[str, list[str]], tasks: dict[str, str]
) -> None:
    (line,) = _about(answers["running"], tasks["running"])

    assert re.fullmatch(rf"\d{{4}}-\S+Z {re.escape(tasks['running'])}", line)
    assert not _about(answers["running"], tasks["stopped"])


@pytest.mark.parametrize("question", ["failed today", "this task", "definition", "running"])
def test_nothing_is_printed_when_every_item_has_expired(
    answers: dict[str, list[str]], question: str
) -> None:
    assert answers[f"{question}, expired"] == []


def test_reader_answers_when_it_is_asked_with_the_same_account(
    answers: dict[str, list[str]], tasks: dict[str, str]
) -> None:
    assert len(_about(answers["reader"], tasks["failing"])) == 1
    assert _about(answers["chart"], tasks["running"])[0].endswith("█  running")
