"""docs/security.md names, for each threat, tests that exist, and of the template what is there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from tests.unit.test_template import PARAMETERS

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text()
_THREATS = PAGE.partition("## Threats")[2].partition("\n## ")[0]
ROWS = [line for line in _THREATS.splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_each_threat_names_tests_that_exist(row: str) -> None:
    who, credential, could, stopped, shown = (cell.strip() for cell in row.strip("|").split("|"))
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", shown)

    assert all((who, credential, could, stopped, named))
    for file, test in named:
        tree = ast.parse((TESTS / file).read_text())
        assert test.startswith("test_")
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_policy_of_the_key_is_json() -> None:
    (policy,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)

    assert all(statement["Effect"] == "Allow" for statement in json.loads(policy)["Statement"])


def test_parameters_are_those_of_the_template() -> None:
    families = r"Kms|Vpc|Permissions|Event|Launcher|Recycle|Task|Alert|Smtp|Enable"
    named = re.findall(rf"`((?:{families})[A-Z]\w+)(?:=\w+)?`", PAGE)

    assert named
    assert set(named) <= {*PARAMETERS, "EventTableName", "VpcConfig"}
