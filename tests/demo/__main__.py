"""The story that `make demo` tells. Every step is verified; the first that is wrong ends it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from tests.demo import pictures
from tests.demo.story import DemoFailed, Story, expect
from tests.e2e.executions import execute
from tests.e2e.http import call
from tests.e2e.stacks import MIGRATION, UserStack
from tests.sandbox import stack
from tests.sandbox.account import SandboxError, temporary_account
from tests.waiting import NeverHappened, eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.text import Text

    from tests.sandbox.account import Account

COUNT = 3
_MARGIN = 48  # Columns that labels and notes take beside a picture.


def tell(story: Story, folder: Path) -> None:
    """Tell the whole story in an account that lives in `folder`."""
    story.heading("ecs-ops at work, in an AWS account of its own on this machine")
    running = temporary_account(folder)
    with story.step("Start the account"):
        account = running.__enter__()
    try:
        with story.step("Build the bundle (sam build)"):
            stack.build()
        with story.step("Deploy it (sam deploy)"):
            stack.create_demo_cluster(account)
            outputs = stack.deploy(account)
        _migrate(story, account)
        _roll_back(story, account)
        _launch(story, account, outputs)
        _recycle(story, account, outputs)
        _look_back(story, account, outputs)
    finally:
        running.__exit__(None, None, None)
    story.end()


def _migrate(story: Story, account: Account) -> None:
    story.heading("1. run_task: a stack that runs a database migration")
    good = UserStack(account, "shop-v1")
    with story.step("Create a stack whose migration exits with 0"):
        status = good.create(MIGRATION.read_text())["StackStatus"]
        expect(status == "CREATE_COMPLETE", f"the stack is {status}, not CREATE_COMPLETE")
        expect(good.outputs()["ExitCode"] == "0", "the migration's exit code is not 0")
    story.say(f"{status}. The task {_short(good.outputs()['TaskArn'])} exited with 0.")


def _roll_back(story: Story, account: Account) -> None:
    bad = UserStack(account, "shop-v2")
    with story.step("Create a stack whose migration exits with 3"):
        status = bad.create(MIGRATION.read_text(), ExitCode="3")["StackStatus"]
        expect(status == "ROLLBACK_COMPLETE", f"the stack is {status}, not ROLLBACK_COMPLETE")
        reason = bad.reason("Migration")
        expect("exited with 3" in reason, f"the reason does not name exit code 3: {reason}")
    story.say(f"{status}. CloudFormation shows why:\n[italic]{escape(reason)}[/]")


def _launch(story: Story, account: Account, outputs: Mapping[str, str]) -> None:
    story.heading("2. launch_task: a task from an HTTPS request")
    body = {"GREETING": "good morning", "JOB_NAME": "report-41"}
    token = stack.launcher_token(account, outputs)
    with story.step("POST to the function URL, with a bearer token"):
        answer = call(
            account,
            "POST",
            outputs["LauncherUrl"],
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {token}"},
            sign=False,
        )
        expect(answer.status == 202, f"the answer is {answer.status}, not 202")
        run = json.loads(answer.data)
        output = _output_of(account, run["id"])
        expect(output == "good morning from task report-41", f"the process wrote {output!r}")
    story.say(
        f"POST {escape(json.dumps(body))}\n202 Accepted, Location: {answer.headers['location']}\n"
        f"The process wrote: [italic]{escape(output)}[/]"
    )


def _recycle(story: Story, account: Account, outputs: Mapping[str, str]) -> None:
    story.heading(f"3. recycle_service: {COUNT} tasks replaced one by one")
    ecs = account.client("ecs")
    with story.step(f"Create the service web with {COUNT} tasks"):
        ecs.create_service(
            cluster=stack.DEMO_CLUSTER,
            serviceName="web",
            taskDefinition="demo-web",
            desiredCount=COUNT,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": [stack.DEMO_SUBNET]}},
        )
        eventually(lambda: _is_steady(ecs, "web"), "the service is steady")
    watch = _Watch(account, "web")
    event = {"cluster_name": stack.DEMO_CLUSTER, "service_name": "web", "wait_time": 1}
    with story.step("Recycle it"), watch:
        execution = execute(account, outputs["RecycleFunctionName"], event)
        expect(execution["Status"] == "SUCCEEDED", f"the execution is {execution['Status']}")
        report = execution["Result"]
        expect(set(report["recycled"]) == watch.old, "not every task was recycled")
        eventually(lambda: _is_steady(ecs, "web"), "the service is steady again")
    expect(watch.lowest >= COUNT, f"only {watch.lowest} tasks were running at one time")
    story.say(watch.picture(story.width - _MARGIN))


def _look_back(story: Story, account: Account, outputs: Mapping[str, str]) -> None:
    story.heading("4. log_events: the record of all that")
    with story.step("Read the event table"):
        tasks = eventually(lambda: _recorded(account, outputs), "every task's end on record")
        failed = [task for task in tasks if task["outcome"] == "failed"]
        expect(len(failed) == 1, f"{len(failed)} tasks failed on record, not 1")
        expect(failed[0]["family"] == "demo-migrate", "the failed task is not the migration")
    story.say(_timeline(tasks, story.width - _MARGIN))


class _Watch:
    """Looks at a service's tasks, again and again, while something is done to it."""

    def __init__(self, account: Account, service: str) -> None:
        self._ecs = account.client("ecs")
        self._service = service
        self._looks: dict[str, list[tuple[float, str]]] = {}
        self._running: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._began = time.monotonic()
        self._look()
        self.old = set(self._looks)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._end = time.monotonic() - self._began

    @property
    def lowest(self) -> int:
        return min(count for _, count in self._running)

    def picture(self, width: int) -> Text:
        rows = []
        for number, (arn, looks) in enumerate(self._looks.items(), 1):
            age, style = ("old", "cyan") if arn in self.old else ("new", "green")
            spans = pictures.spans_of(looks, self._end)
            rows.append(pictures.Row(f"{number} {age} {_short(arn)}", spans, "", style))
        picture = pictures.draw(rows, width=width, end=self._end)
        digits = pictures.lowest(self._running, width=width, end=self._end)
        picture.append(f"{'running':<{max(len(row.label) for row in rows)}}  {digits}\n\n")
        picture.append(
            f"{self._end:.0f} s from left to right  {pictures.LEGEND}\n"
            f"Never fewer than {self.lowest} tasks running; asked for: {COUNT}."
        )
        return picture

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._look()

    def _look(self) -> None:
        cluster = stack.DEMO_CLUSTER
        listed = self._ecs.list_tasks(cluster=cluster, serviceName=self._service)["taskArns"]
        arns = [*self._looks, *(arn for arn in listed if arn not in self._looks)]
        tasks = self._ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"]
        now = time.monotonic() - self._began
        for task in tasks:
            self._looks.setdefault(task["taskArn"], []).append((now, task["lastStatus"]))
        self._running.append((now, sum(task["lastStatus"] == "RUNNING" for task in tasks)))


def _is_steady(ecs: Any, name: str) -> bool:
    service = ecs.describe_services(cluster=stack.DEMO_CLUSTER, services=[name])["services"][0]
    completed = service["deployments"][0]["rolloutState"] == "COMPLETED"
    return bool(completed and service["runningCount"] == service["desiredCount"] == COUNT)


def _output_of(account: Account, task_id: str) -> str:
    logs = account.client("logs")

    def first_line() -> str | None:
        try:
            answer = logs.get_log_events(
                logGroupName=stack.LOG_GROUP, logStreamName=f"demo/app/{task_id}"
            )
        except logs.exceptions.ResourceNotFoundException:
            return None
        return next((str(event["message"]) for event in answer["events"]), None)

    return eventually(first_line, "the task's output")


def _recorded(account: Account, outputs: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """Every task on record, oldest first; None while one that ended is not on record as such."""
    table = account.client("dynamodb").get_paginator("scan")
    latest: dict[str, dict[str, Any]] = {}
    for page in table.paginate(TableName=outputs["EventTableName"]):
        for item in page["Items"]:
            if "taskArn" not in item:
                continue
            task = {name: next(iter(value.values())) for name, value in item.items()}
            arn = task["taskArn"]
            if arn not in latest or latest[arn]["eventKey"] < task["eventKey"]:
                latest[arn] = task
    ended = {arn for arn, task in latest.items() if task["lastStatus"] == "STOPPED"}
    live = {arn for arn in latest if arn not in ended}
    if len(live) != COUNT:
        return None
    tasks = sorted(latest.values(), key=lambda task: str(task["createdAt"]))
    return [{"outcome": "", **task} for task in tasks]


def _timeline(tasks: list[dict[str, Any]], width: int) -> Text:
    zero = _seconds(tasks[0]["createdAt"])
    moments = [_seconds(task[name]) for task in tasks for name in _TIMES if name in task]
    end = max(moments) - zero + 1
    rows = []
    for task in tasks:
        created = _seconds(task["createdAt"]) - zero
        started = _seconds(task.get("startedAt", task["createdAt"])) - zero
        stopped = _seconds(task["stoppedAt"]) - zero if "stoppedAt" in task else end
        spans = [
            pictures.Span(created, started, pictures.STARTING),
            pictures.Span(started, stopped, pictures.RUNNING),
        ]
        codes = task.get("exitCodes") or {}
        exits = ", ".join(f"exited {code['N']}" for code in codes.values())
        note = exits or ("" if "stoppedAt" in task else "still running")
        style = "red" if task["outcome"] == "failed" else "green"
        rows.append(pictures.Row(f"{task['family']} {_short(task['taskArn'])}", spans, note, style))
    picture = pictures.draw(rows, width=width, end=end)
    failed = next(task for task in tasks if task["outcome"] == "failed")
    picture.append(f"\n{end:.0f} s from left to right  {pictures.LEGEND}\n")
    picture.append(f"On record as failed: {failed['summary']}")
    return picture


_TIMES = ("createdAt", "startedAt", "stoppedAt")


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _short(arn: str) -> str:
    return arn.rpartition("/")[2][:8]


def main() -> None:
    """Tell the story; exit with 1 and the reason when a step is not what it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo")
    parser.add_argument("--svg", help="also draw what was printed into this file")
    svg = parser.parse_args().svg
    story = Story(
        Console(record=True, force_terminal=True, width=110, highlight=False) if svg else None
    )
    with tempfile.TemporaryDirectory(prefix="ecs-ops-demo-") as folder:
        try:
            tell(story, Path(folder))
        except (DemoFailed, NeverHappened, SandboxError) as error:
            story.console.print(f"\n[bold red]The demo failed:[/] {escape(str(error))}")
            sys.exit(1)
    if svg:
        story.console.save_svg(svg, title="make demo")


if __name__ == "__main__":
    main()
