"""What docs/launch-task.md shows is so: its profiles can be read, its signature is let in."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from ecs_ops.launch_access import HmacAccess
from ecs_ops.launch_api import Request
from ecs_ops.launch_profile import Profile, read_profiles

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "launch-task.md").read_text()
OPENAPI = json.loads((REPOSITORY / "functions/launch_task/openapi.json").read_text())
KEYS = json.dumps(
    {"ci": "another-key-of-no-importance", "default": "a-key-made-by-the-stack-itself"}
)
# In place of the commands that the page's lines call.
COMMANDS = f"""\
set -euo pipefail
url=https://example.com/ secret=launcher
aws() {{ echo {KEYS!r}; }}
curl() {{ printf '%s\\n' "$@"; }}
"""


def section(title: str) -> str:
    return re.split(r"\n#{2,3} ", PAGE.partition(f"# {title}\n")[2])[0]


class Secret:
    def read(self, *, at_most_seconds_old: float) -> str:
        del at_most_seconds_old
        return KEYS


class Signatures:
    def claim(self, _signature: str, _until: int) -> bool:
        return True


def test_request_is_let_in_when_it_is_signed_as_the_page_signs() -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", section("HMAC"), re.DOTALL)
    done = subprocess.run(
        ["bash", "-c", COMMANDS + block], capture_output=True, text=True, check=True
    )
    words = done.stdout.splitlines()
    given = [words[place + 1] for place, word in enumerate(words) if word == "--header"]
    headers = dict(line.split(": ", 1) for line in given)

    sent = Request(
        method="POST",
        path="/",
        query="",
        headers={name.lower(): value for name, value in headers.items()},
        content=words[words.index("--data") + 1],
        is_base64=False,
        iam_arn="",
        id="1",
    )

    assert HmacAccess(Secret(), Signatures(), time.time).caller(sent) == "default"


def test_profiles_can_be_read() -> None:
    default = Profile(name="default", task_definition="job", subnets=("subnet-1",))
    shown = [
        json.loads(block)
        for title in ("Profiles", "GitHub webhooks")
        for block in re.findall(r"```json\n(.*?)```", section(title), re.DOTALL)
    ]

    profiles = read_profiles(default, json.dumps({k: v for one in shown for k, v in one.items()}))

    assert set(profiles.usable) == {"default", "nightly-report", "build"}


def test_every_status_is_explained() -> None:
    answers: set[str] = set()
    operations: list[dict[str, Any]] = [
        operation
        for path in OPENAPI["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    ]
    for operation in operations:
        answers |= operation["responses"].keys()
    explained = re.findall(r"^\| ([45]\d\d) \|", section("Errors"), re.MULTILINE)

    assert {status for status in answers if status >= "400"} <= set(explained)


def test_every_route_is_named() -> None:
    routes = {
        f"`{method.upper()} {path}`"
        for path, operations in OPENAPI["paths"].items()
        for method in operations
        if method != "parameters"
    }

    assert set(re.findall(r"`[A-Z]+ /[^`]*`", section("Routes"))) == routes
