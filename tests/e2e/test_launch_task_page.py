"""The command lines of docs/launch-task.md do what the page says, run exactly as written."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.account import REPOSITORY, TOOLS
from tests.sandbox.stack import launcher_token

if TYPE_CHECKING:
    from tests.sandbox.account import Account

PAGE = (REPOSITORY / "docs" / "launch-task.md").read_text()
# Those for the other two ways in need another launcher.
BLOCKS = [
    block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "AWS_ACCESS" not in block
]
START, LAUNCH, FOLLOW, STOP, TOKEN, ROTATE, _HMAC, FIND = BLOCKS
END = "\necho ========\n"


@pytest.fixture(scope="module")
def answers(account: Account, outputs: dict[str, str]) -> list[str]:
    """Run the page's lines in one shell; return what each block printed."""
    env = {
        **os.environ,
        **account.env,
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
        "ECS_OPS_LAUNCHER_TOKEN": launcher_token(account, outputs),
    }
    script = "set -euo pipefail\n" + END.join([START, LAUNCH, FOLLOW, STOP, TOKEN, FIND, ROTATE])
    done = subprocess.run(
        ["bash", "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout.split("========")


def documents(printed: str) -> list[dict[str, Any]]:
    """Return the JSON documents that were printed one after the other."""
    decoder, found, text = json.JSONDecoder(), [], printed.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].strip()
    return found


def test_task_is_launched_as_on_the_page(answers: list[str]) -> None:
    (default,) = documents(answers[0])
    (ordered,) = documents(answers[1])

    assert (default["profile"], default["caller"]) == ("default", "default")
    assert ordered["profile"] == "web"


def test_run_is_followed_and_stopped_as_on_the_page(answers: list[str]) -> None:
    run, log, failed = documents(answers[2])
    (stopped,) = documents(answers[3])

    assert run["id"] == stopped["id"]
    assert set(log) == {"events", "next", "complete"}
    assert set(failed) == {"runs", "next"}


def test_tokens_are_read_and_added_as_on_the_page(
    account: Account, outputs: dict[str, str], answers: list[str]
) -> None:
    (tokens,) = documents(answers[4])
    secrets = account.client("secretsmanager")
    now = secrets.get_secret_value(SecretId=outputs["LauncherSecretArn"])["SecretString"]

    assert tokens["default"] == json.loads(now)["default"]
    assert len(json.loads(now)["ci"]) == 48
