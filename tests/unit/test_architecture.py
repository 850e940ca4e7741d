"""The house rules that a tool can check: who may import whom, and where things lie."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "layers" / "common" / "ecs_ops"
# What `python -m` runs is like a handler: it puts rules and adapters together.
COMMANDS = [PACKAGE / "events.py"]
RULES = sorted(set(PACKAGE.glob("*.py")) - set(COMMANDS))
ADAPTERS = sorted((PACKAGE / "aws").glob("*.py"))
HANDLERS = sorted((REPOSITORY / "functions").glob("*/handler.py"))
# What calls AWS, or is made for one who does.
OUTSIDE = {
    "aws_durable_execution_sdk_python",
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "crhelper",
    "ecs_ops.aws",
}
TOP_LEVEL = {
    *{"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md"},
    *{"pyproject.toml", "samconfig.toml"},
    *{"docs", "events", "functions", "layers", "template.yaml", "tests", "uv.lock"},
}


def _imports(module: Path) -> set[str]:
    """Names imported at run time, at any depth; `if TYPE_CHECKING` blocks are left out."""
    found: set[str] = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            found.update(alias.name for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            found.add(node.module or "")

    Visitor().visit(ast.parse(module.read_text()))
    return found


@pytest.mark.parametrize("module", RULES, ids=lambda module: module.stem)
def test_rules_import_nothing_that_knows_aws(module: Path) -> None:
    guilty = {
        name
        for name in _imports(module)
        for outside in OUTSIDE
        if name == outside or name.startswith(f"{outside}.")
    }

    assert not guilty


@pytest.mark.parametrize(
    "module",
    [*RULES, *COMMANDS, *HANDLERS],
    ids=lambda module: f"{module.parent.name}-{module.stem}",
)
def test_only_adapters_catch_the_errors_of_boto(module: Path) -> None:
    assert "botocore.exceptions" not in _imports(module)


@pytest.mark.parametrize(
    "module", [*RULES, *ADAPTERS], ids=lambda module: f"{module.parent.name}-{module.stem}"
)
def test_environment_is_read_by_handlers_alone(module: Path) -> None:
    assert "environ" not in module.read_text().replace("environment", "")


def test_each_function_is_one_file_when_listed() -> None:
    folders = sorted((REPOSITORY / "functions").iterdir())
    names = {folder.name: {path.name for path in folder.glob("*.*")} for folder in folders}

    assert names == {
        # With what it serves as it is.
        "launch_task": {"handler.py", "console.html", "openapi.json"},
        "log_events": {"handler.py"},
        "recycle_service": {"handler.py"},
        "run_task": {"handler.py"},
    }


def test_top_level_holds_what_the_house_says_when_listed() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}

    assert {name for name in top if not name.startswith(".")} == TOP_LEVEL


def test_ci_runs_the_test_command_that_the_readme_gives() -> None:
    command = "make test"

    assert f"```sh\n{command}\n```" in (REPOSITORY / "README.md").read_text()
    assert f"\n{command}\n" in (REPOSITORY / ".ci" / "run").read_text()
