"""A release has one version, that of pyproject.toml, and can be published."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from cfnlint.decode import cfn_yaml

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
APPLICATION = cfn_yaml.load(str(REPOSITORY / "template.yaml"))["Metadata"][
    "AWS::ServerlessRepo::Application"
]
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text()


def test_version_is_that_of_the_project_wherever_it_is_repeated() -> None:
    openapi = json.loads((REPOSITORY / "functions" / "launch_task" / "openapi.json").read_text())
    lock = tomllib.loads((REPOSITORY / "uv.lock").read_text())
    (locked,) = [one for one in lock["package"] if one["name"] == PROJECT["name"]]

    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert {
        "template": APPLICATION["SemanticVersion"],
        "openapi": openapi["info"]["version"],
        "lock": locked["version"],
    } == dict.fromkeys(("template", "openapi", "lock"), PROJECT["version"])


def test_changelog_is_of_this_version_or_the_version_is_still_to_come() -> None:
    newest = re.findall(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)[0]

    assert newest in {"Unreleased", PROJECT["version"]}


def test_application_is_described_within_the_bounds_of_the_repository() -> None:
    # https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-template-publishing-applications-metadata-properties.html
    assert re.fullmatch(r"[a-zA-Z0-9-]{1,140}", APPLICATION["Name"])
    assert APPLICATION["Name"] == PROJECT["name"]
    assert 0 < len(APPLICATION["Description"]) <= 256
    assert APPLICATION["Description"] == PROJECT["description"]
    assert re.fullmatch(r"[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?", APPLICATION["Author"])
    assert len(APPLICATION["Author"]) <= 127
    assert len(APPLICATION["Labels"]) <= 10
    assert all(re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", one) for one in APPLICATION["Labels"])


def test_application_comes_with_its_licence_and_readme() -> None:
    assert APPLICATION["SpdxLicenseId"] == PROJECT["license"]
    assert (REPOSITORY / APPLICATION["LicenseUrl"]).read_text().startswith("MIT License")
    assert (REPOSITORY / APPLICATION["ReadmeUrl"]).read_text().startswith("# ecs-ops")
