"""docs/scaling.md says what is computed, from figures that are still true, and more needs more."""

from __future__ import annotations

import json
import math
import re
from random import Random
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.aws import ecs_services, ecs_tasks, task_run
from ecs_ops.event_record import read_event, record_of
from ecs_ops.launcher import _MOST_LIVE
from ecs_ops.recycle import LARGEST_SURVEY, pack
from tests.benchmarks import realistic_events
from tests.sandbox.account import REPOSITORY
from tests.scaling import __main__ as scaling
from tests.scaling import figures, model
from tests.scaling.figures import Range

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.scaling.figures import Measured
    from tests.scaling.model import Cost, Limit

TEMPLATE = (REPOSITORY / "template.yaml").read_text()
BENCHMARKS = (REPOSITORY / "docs" / "benchmarks.md").read_text()
# A benchmark is run on a busy machine, and again: the page shall not change with each run.
TOLERANCE = 0.3

LOADS = st.floats(1, 1e6)
COSTS: dict[str, Callable[[float], Sequence[Cost]]] = {
    "events": model.event_costs,
    "resources": model.resource_costs,
    "recycle": lambda tasks: model.recycle_costs(100 + tasks, 1),
    "launches": model.launch_costs,
}
LIMITS = [
    *model.event_limits(),
    *model.resource_limits(),
    *model.recycle_limits(),
    *model.launch_limits(),
]


def test_page_says_what_is_computed() -> None:
    page = scaling.PAGE.read_text()

    assert scaling.filled(page) == page, "run: python -m tests.scaling --write"


def test_picture_shows_what_is_computed() -> None:
    assert scaling.PICTURE.read_text() == scaling.picture(), "run: python -m tests.scaling --write"


def test_sentences_of_the_page_say_what_is_computed() -> None:
    text = " ".join(scaling.PAGE.read_text().split())
    at_once = model.concurrency(100_000)
    launches = figures.PARTITION.figure / (figures.EVENTS_OF_A_TASK * figures.LAUNCH_ENTRY_UNITS)

    for said in (
        f"need {scaling.spread(at_once)} invocations at once",
        f"{figures.FAILED.value / 100:g} % of all events are a failed task's last",
        f"stores {figures.SURVEYED} characters of each task, packed",
        f"refused from {scaling.figure(LARGEST_SURVEY / figures.SURVEYED)} tasks on",
        f"profile: {model.list_calls():.0f} calls",
        f"{math.floor(launches.low / 5) * 5} to {scaling.figure(launches.high)} launches a second",
        f"{scaling.figure(2 * scaling.TASKS / figures.TASKS_OF_A_PAGE)} calls for 10,000",
        f"At {scaling.figure(model.recycle_reads(scaling.TASKS))} a second",
        f"the set's own name may have **{model.longest_stack_set_name()}**",
    ):
        assert said in text


def test_keys_differ_when_two_accounts_send_the_same() -> None:
    body = (REPOSITORY / "events" / "log_events" / "task_running.json").read_text()
    (message,) = json.loads(body)["Records"][:1]
    account = json.loads(message["body"])["account"]
    here, there = (
        record_of(read_event(text), retention_days=14, now=0)
        for text in (message["body"], message["body"].replace(account, "999988887777"))
    )

    assert ":999988887777:" in there["resourceArn"]
    assert here["resourceArn"] != there["resourceArn"]
    assert here["clusterArn"] != there["clusterArn"]
    assert here["taskDefinitionArn"] != there["taskDefinitionArn"]


@pytest.mark.parametrize(
    "measured", figures.MEASURED, ids=lambda one: f"{one.section}-{one.row[-1]}-{one.column}"
)
def test_measured_figure_is_still_that_of_the_benchmarks(measured: Measured) -> None:
    assert _benchmark(measured) == pytest.approx(measured.value, rel=TOLERANCE)


def _benchmark(measured: Measured) -> float:
    """Return the figure of the one cell that is meant; its unit is that of the page."""
    section = BENCHMARKS.split(f"\n## {measured.section}\n")[1].split("\n## ")[0]
    column, found = None, []
    for line in section.splitlines():
        if not line.startswith("|"):
            column = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if measured.column in cells:
            column = cells.index(measured.column)
        elif column is not None and tuple(cells[: len(measured.row)]) == measured.row:
            found.append(cells[column])
    (cell,) = found
    number = re.match(r"[0-9,.]+", cell)
    assert number, cell
    return float(number[0].replace(",", ""))


def test_rest_of_the_figures_is_still_that_of_the_code() -> None:
    template = yaml.load(TEMPLATE, Loader=_Tags)
    function = template["Globals"]["Function"]
    names = [
        resource["Properties"]["FunctionName"].removeprefix("${AWS::StackName}")
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    ]
    queue = template["Resources"]["LogEventsFunction"]["Properties"]["Events"]["EventQueue"]
    life = (*realistic_events._TO_RUNNING, *realistic_events._TO_STOPPED)

    assert function["MemorySize"] == figures.MEMORY
    assert queue["Properties"]["BatchSize"] == figures.BATCH
    assert template["Parameters"]["EventRetentionDays"]["Default"] == figures.RETENTION_DAYS
    assert max(names, key=len) == figures.LONGEST_SUFFIX
    assert len(life) == figures.EVENTS_OF_A_TASK
    assert task_run._LONGEST_LOOK == figures.LOOK_PAUSE
    assert ecs_services._BATCH == ecs_tasks._DESCRIBED_AT_ONCE == figures.TASKS_OF_A_PAGE
    assert _MOST_LIVE == figures.LISTED
    (looks,) = re.findall(r"\| 10 min \| \*\*run_task\*\* .* time skipped: (\d+) looks", BENCHMARKS)
    assert int(looks) == pytest.approx(figures.LOOKS_OF_TEN_MINUTES, rel=0.05)


def test_stored_survey_grows_by_as_much_as_is_said() -> None:
    chance = Random(1)
    tasks = [
        {
            "id": f"{chance.getrandbits(128):032x}",
            "zone": f"eu-west-1{chance.choice('abc')}",
            "since": 1_767_225_600 + chance.randrange(86_400),
            "protected": False,
        }
        for _ in range(1_000)
    ]

    assert len(pack(tasks)) == pytest.approx(figures.SURVEYED * 1_000, rel=0.05)


@given(load=LOADS, more=st.floats(1, 100))
def test_more_load_costs_no_less(load: float, more: float) -> None:
    for costs in COSTS.values():
        for little, much in zip(costs(load), costs(load * more), strict=True):
            assert much.dollars.low >= little.dollars.low * (1 - 1e-9), little.what
            assert much.dollars.high >= little.dollars.high * (1 - 1e-9), little.what


@given(load=LOADS, more=st.floats(1, 100))
def test_more_load_uses_no_less_of_a_limit(load: float, more: float) -> None:
    for limit in LIMITS:
        assert limit.used(load * more).low >= limit.used(load).low
        assert limit.is_met(load * more) >= limit.is_met(load)


@given(load=LOADS, more=st.floats(1, 100))
def test_more_load_takes_no_less_time(load: float, more: float) -> None:
    assert model.answer_delay(load * more) >= model.answer_delay(load)
    assert model.start_seconds(load * more).high >= model.start_seconds(load).high
    assert model.concurrency(load * more).high >= model.concurrency(load).high
    assert model.recycle_calls(load * more) >= model.recycle_calls(load)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_limit_is_met_where_all_of_it_is_used(limit: Limit) -> None:
    assert limit.used(limit.met_at.low).high == pytest.approx(1)
    assert limit.used(limit.met_at.high).low == pytest.approx(1)


@given(low=LOADS, high=LOADS, factor=LOADS)
def test_range_stays_the_right_way_round(low: float, high: float, factor: float) -> None:
    known = Range(*sorted((low, high)))

    for made in (known + factor, known * known, known / known, Range.of(factor) / known):
        assert made.low <= made.high


def test_second_target_halves_what_event_bridge_carries() -> None:
    one, two = (
        next(limit for limit in model.event_limits(targets) if limit.quota is figures.INVOCATIONS)
        for targets in (1, 2)
    )

    assert two.met_at == one.met_at / 2


def test_every_quota_and_price_names_its_page() -> None:
    for named in (*figures.QUOTAS, *figures.PRICES):
        assert named.source.startswith("https://"), named.name


class _Tags(yaml.SafeLoader):
    """Reads !Ref and its like as what they are given."""


def _any_tag(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> object:
    match node:
        case yaml.ScalarNode():
            return loader.construct_scalar(node)
        case yaml.SequenceNode():
            return loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            return loader.construct_mapping(node, deep=True)
    raise TypeError(node)


_Tags.add_multi_constructor("!", _any_tag)
