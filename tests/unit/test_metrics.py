"""What is written is CloudWatch's embedded metric format."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.metrics import Metrics as PowertoolsMetrics

from ecs_ops.aws.log_lines import correlate
from ecs_ops.aws.metrics import NAMES, NAMESPACE, Metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ecs_ops.aws.metrics import Name

FUNCTION = "ecs-ops-run-task"
NOW = time.time()


def written(values: Mapping[Name, float], **by: str) -> Any:
    lines: list[str] = []
    correlate("a run")
    Metrics(FUNCTION, clock=lambda: NOW, write=lines.append).put(values, **by)
    (line,) = lines
    assert "\n" not in line
    read = json.loads(line)
    assert read.pop("correlation_id") == "a run"
    return read


def test_line_says_what_powertools_would_say() -> None:
    theirs = PowertoolsMetrics(namespace=NAMESPACE)
    theirs.add_metric("Answers", "Count", 1)
    theirs.add_metric("AnswerLatency", "Seconds", 2.5)
    theirs.set_timestamp(int(NOW * 1000))
    theirs.add_dimension("FunctionName", FUNCTION)
    theirs.add_dimension("Outcome", "Failed")
    expected = theirs.serialize_metric_set()
    theirs.clear_metrics()
    # Powertools writes every value as a list of one.
    numbers = {"Answers": 1, "AnswerLatency": 2.5}
    (directive,) = expected["_aws"]["CloudWatchMetrics"]

    line = written({"Answers": 1, "AnswerLatency": 2.5}, Outcome="Failed")

    # Ours has the function as a whole besides.
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"].pop(0) == ["FunctionName"]
    assert line == {
        **expected,
        "_aws": {**expected["_aws"], "CloudWatchMetrics": [dict(directive)]},
        **numbers,
    }


def test_point_is_of_the_function_alone_when_nothing_else_is_named() -> None:
    line = written({"Messages": 100, "MessagesFailed": 0})

    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [["FunctionName"]]
    assert line["MessagesFailed"] == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [("shop", "shop"), ("", "(none)"), ("  ", "(none)"), ("é\n", "??"), (":x", "x")],
)
def test_dimension_is_what_cloudwatch_takes(name: str, shown: str) -> None:
    assert written({"TasksStopped": 1}, Cluster=name)["Cluster"] == shown


def test_dimension_is_cut_when_it_is_too_long() -> None:
    assert len(written({"TasksStopped": 1}, Cluster="x" * 2000)["Cluster"]) == 255


def test_names_are_told_apart() -> None:
    assert len(NAMES) == len(set(NAMES)) > 10
