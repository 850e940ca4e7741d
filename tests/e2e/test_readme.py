"""The command lines of README.md and of two pages of docs/ do what they say, run as written.

They are run one after the other, as by somebody who reads on. Those that cannot be are listed with
the reason. docs/event-log.md and docs/launch-task.md have tests of their own.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import botocore
import pytest

from tests.sandbox.account import REPOSITORY, TOOLS
from tests.sandbox.stack import DEMO_CLUSTER, launcher_token
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.account import Account

PAGES = ("README.md", "docs/custom-ecs-run-task.md", "docs/recycle-service.md")


def _blocks(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)


BLOCKS = [block for page in PAGES for block in _blocks(page)]
# What a block begins with, and why it is not run here.
NOT_RUN = {
    "make demo": "the demo's own run, with an account of its own",
    "make test": "these tests",
    "make sandbox": "the account that this runs in is started the same way",
    "make deploy": "asks questions, of an account of AWS",
    "sam deploy --parameter-overrides": "names roles of an account of AWS",
    "aws logs tail /ecs/shop": "is of version 2 of the command line; needs the name of a stream",
    "aws lambda list-durable-executions-by-function": "stops an execution that the reader picks",
}
END = "========"


@pytest.fixture(scope="module")
def printed(
    account: Account, outputs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Run the blocks; return what each printed. Then delete what they made."""
    env = {
        **os.environ,
        **account.env,
        "AWS_DATA_PATH": str(_impatient_waiters(tmp_path_factory.mktemp("models"))),
        "ECS_OPS_LAUNCHER_TOKEN": launcher_token(account, outputs),
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
    }
    run = [block for block in BLOCKS if not block.startswith(tuple(NOT_RUN))]
    # The last page recycles the README's service once more, and cannot while that is under way, or
    # while ECS replaces all of its tasks.
    again = [block for block in run if block in _blocks(PAGES[-1])]
    forced = [block for block in again if "--force-new-deployment" in block]
    found = _printed([block for block in run if block not in again], env)
    (recycle,) = re.findall(
        r'"DurableExecutionArn": "(.*recycle-service.*)"', "".join(found.values())
    )
    _wait_for_end(account, recycle)
    yield found | _printed([block for block in again if block not in forced] + forced, env)
    account.client("cloudformation").delete_stack(StackName="shop")
    account.client("ecs").delete_service(cluster=DEMO_CLUSTER, service="web", force=True)


def _printed(blocks: list[str], env: dict[str, str]) -> dict[str, str]:
    """Run blocks in one shell; return what each printed."""
    script = "\n".join(["set -euo pipefail", *(f"{block}\necho {END}" for block in blocks)])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stdout + done.stderr
    return dict(zip(blocks, done.stdout.split(f"{END}\n")[:-1], strict=True))


def _wait_for_end(account: Account, execution: str) -> None:
    functions = account.client("lambda")

    def ended() -> bool:
        found = functions.get_durable_execution(DurableExecutionArn=execution)
        return bool(found["Status"] != "RUNNING")

    eventually(ended, f"the end of {execution}", within=60)


def _impatient_waiters(folder: Path) -> Path:
    """Let `aws … wait` look each second: it waits half a minute between two looks."""
    data = Path(botocore.__file__).parent / "data"
    for service in ("cloudformation", "ecs"):
        (version,) = (path.name for path in (data / service).iterdir())
        (packed,) = (data / service / version).glob("waiters-2.json*")
        content = packed.read_bytes()
        waiters = json.loads(gzip.decompress(content) if packed.suffix == ".gz" else content)
        for waiter in waiters["waiters"].values():
            waiter["delay"] = 1
        target = folder / service / version
        target.mkdir(parents=True)
        (target / "waiters-2.json").write_text(json.dumps(waiters))
    return folder


def _of(printed: dict[str, str], *parts: str) -> str:
    """Return what the one block with these parts in it printed."""
    (found,) = [text for block, text in printed.items() if all(part in block for part in parts)]
    return found


@pytest.mark.parametrize("beginning", NOT_RUN)
def test_block_that_is_not_run_is_on_a_page(beginning: str) -> None:
    assert [block for block in BLOCKS if block.startswith(beginning)]


def test_migration_runs_in_a_stack(printed: dict[str, str]) -> None:
    _created, outputs = re.split(r"^(?=\[)", _of(printed, "create-stack"), flags=re.MULTILINE)
    found = json.loads(outputs)

    assert {one["OutputKey"]: one["OutputValue"] for one in found}["ExitCode"] == "0"


def test_task_is_launched_and_listed(printed: dict[str, str]) -> None:
    text = _of(printed, '"GREETING": "good morning"')
    run, end = json.JSONDecoder().raw_decode(text)

    assert run["profile"] == "default"
    assert run["id"] in text[end:]
    assert "https://" in text[end:]


def test_service_is_recycled(printed: dict[str, str]) -> None:
    text = _of(printed, "aws ecs create-service", "get-durable-execution")

    assert '"DurableExecutionArn": ' in text
    assert "FAILED" not in text


def test_events_are_read(printed: dict[str, str]) -> None:
    text = _of(printed, "make events")

    assert "demo-migrate" in text
    assert "█" in text


def test_nothing_failed_in_the_stack_that_is_asked(printed: dict[str, str]) -> None:
    assert json.loads(_of(printed, "describe-stack-events")) == []


def test_run_task_is_tried_without_cloudformation(printed: dict[str, str]) -> None:
    execution = json.loads(_of(printed, "events/run_task/test.json"))

    assert execution["Status"] in {"RUNNING", "SUCCEEDED", "FAILED"}
    assert "Events" in json.loads(
        printed['aws lambda get-durable-execution-history --durable-execution-arn "$execution"\n']
    )


def test_recycle_is_watched_and_stopped(printed: dict[str, str]) -> None:
    assert "ExecutionStarted" in _of(printed, "--query 'Events[].[EventType, Name]'")
    assert "StopTimestamp" in _of(printed, "stop-durable-execution")
