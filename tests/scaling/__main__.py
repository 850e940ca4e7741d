"""Print the tables of docs/scaling.md; with --write, put them and the picture where they belong."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tests.benchmarks.report import Table
from tests.sandbox.account import REPOSITORY
from tests.scaling import figures, model
from tests.scaling.picture import ladder

if TYPE_CHECKING:
    from tests.scaling.figures import Range

PAGE = REPOSITORY / "docs" / "scaling.md"
PICTURE = REPOSITORY / "docs" / "scaling.svg"
RATES = (10, 1_000, 100_000)
RESOURCES = 1_000
TASKS = 10_000
LAUNCHES = 100

_CHECKED = {
    "page": "read",
    "sources differ": "**sources differ**",
    "second hand": "**quoted by others**",
}


def blocks() -> dict[str, str]:
    """Return what stands between the markers of the page, by their names."""
    return {
        "summary": _summary(),
        "events": _limits(model.event_limits(), RATES, "a second"),
        "event-costs": _event_costs(),
        "resources": _limits(model.resource_limits(), (100, RESOURCES), "at once"),
        "thousand": _thousand(),
        "resource-costs": _costs(model.resource_costs(RESOURCES), "once", "30 times"),
        "services": _limits(model.recycle_limits(), (1_000, TASKS), "tasks"),
        "recycles": _recycles(),
        "launches": _limits(model.launch_limits(), (10, LAUNCHES), "a second"),
        "launch-costs": _costs(model.launch_costs(LAUNCHES), "a month"),
        "quotas": _quotas(),
        "prices": _prices(),
    }


def filled(page: str) -> str:
    """Return the page with every block as it is computed now."""
    for name, text in blocks().items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, begun, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (begun and ended):
            raise ValueError(f"the page has no block {name}")
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


def picture() -> str:
    """Return the picture: which limit a growing event log meets when."""
    limits = [
        (limit.name, limit.met_at, limit.ours)
        for limit in sorted(model.event_limits(), key=lambda limit: limit.met_at.low)
    ]
    return ladder(
        limits,
        loads=RATES,
        axis="state changes a second",
        about="At how many state changes a second the event log meets which limit",
    )


def figure(value: float) -> str:
    """Say a figure with two digits that count; more would be more than is known."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def spread(figures_: Range, unit: str = "") -> str:
    low, high = figure(figures_.low), figure(figures_.high)
    return f"{unit}{low}" if low == high else f"{unit}{low} to {unit}{high}"


def _summary() -> str:
    events, resources = model.event_limits(), model.resource_limits()
    services, launches = model.recycle_limits(), model.launch_limits()
    loads = [
        (f"{rate:,} state changes a second", rate, events, model.event_costs(rate), "a month")
        for rate in RATES
    ]
    loads += [
        (
            f"{RESOURCES:,} custom resources at once, tasks of 10 minutes",
            RESOURCES,
            resources,
            model.resource_costs(RESOURCES),
            "each time",
        ),
        (
            f"a service of {TASKS:,} tasks recycled, one by one",
            TASKS,
            services,
            model.recycle_costs(TASKS, 1),
            "each time",
        ),
        (
            f"{LAUNCHES} launches a second",
            LAUNCHES,
            launches,
            model.launch_costs(LAUNCHES),
            "a month",
        ),
    ]
    rows = [
        [
            text,
            _first(limits, load),
            _first([limit for limit in limits if limit.ours], load),
            model.first(limits).moved_by if model.first(limits).is_met(load) else "",
            f"{spread(model.total(costs), '$')} {often}",
        ]
        for text, load, limits, costs, often in loads
    ]
    return str(
        Table(["load", "met first", "of our design ◆", "what moves the first", "costs"], rows)
    )


def _first(limits: list[model.Limit], load: float) -> str:
    limit = model.first(limits)
    if not limit.is_met(load):
        return f"none; next: {limit.name}, at {spread(limit.met_at)}"
    return f"**{limit.name}**, at {spread(limit.met_at)}"


def _limits(limits: list[model.Limit], loads: tuple[int, ...], unit: str) -> str:
    head = ["limit", "met at", *(f"{load:,} {unit}" for load in loads), "what moves it"]
    rows = [
        [
            f"{limit.name}{' ◆' if limit.ours else ''}",
            spread(limit.met_at),
            *(_used(limit, load) for load in loads),
            limit.moved_by,
        ]
        for limit in sorted(limits, key=lambda limit: limit.met_at.low)
    ]
    return str(Table(head, rows))


def _used(limit: model.Limit, load: float) -> str:
    used = limit.used(load)
    if not limit.is_near(load):
        return "-"
    if not limit.is_met(load):
        return f"{spread(used * 100)} %"
    times = spread(used) if used.low >= 1 else f"up to {figure(used.high)}"
    return f"**{times} times**" if used.high > 1 else "**all of it**"


def _event_costs() -> str:
    costs = {rate: model.event_costs(rate) for rate in RATES}
    rows = [
        [cost.what, *(spread(costs[rate][number].dollars, "$") for rate in RATES)]
        for number, cost in enumerate(costs[RATES[0]])
    ]
    rows.append(
        ["**a month**", *(f"**{spread(model.total(costs[rate]), '$')}**" for rate in RATES)]
    )
    return str(Table(["", *(f"{rate:,} a second" for rate in RATES)], rows))


def _thousand() -> str:
    """Say what becomes of the custom resources that are too many to be looked at."""
    wanted, given = RESOURCES / figures.LOOK_PAUSE, figures.READS.figure.low
    delay = figure(model.answer_delay(RESOURCES))
    rows = {
        "the last task starts after": f"{spread(model.start_seconds(RESOURCES))} s",
        "looks wanted": f"{figure(wanted)} a second; ECS answers {figure(given)}",
        "each task is seen every": f"{delay} s, not {figures.LOOK_PAUSE}; its end is told as late",
        "what fails": "nothing by itself: a look that got no answer is tried again",
        "**who else feels it**": "**everybody: it is the account's quota.** Consoles, deployment "
        "tools and recycle_service are throttled too",
    }
    return str(Table(["", f"{RESOURCES:,} at once"], list(rows.items())))


def _costs(costs: list[model.Cost], *heads: str) -> str:
    times = [1, 30][: len(heads)]
    rows = [[cost.what, *(spread(cost.dollars * many, "$") for many in times)] for cost in costs]
    summed = model.total(costs)
    rows.append(["**together**", *(f"**{spread(summed * many, '$')}**" for many in times)])
    return str(Table(["", *heads], rows))


def _recycles() -> str:
    rows = [
        [
            f"{tasks:,}",
            str(batch),
            spread(model.recycle_seconds(tasks, batch) / 3_600),
            figure(model.recycle_calls(tasks)),
            figure(model.recycle_reads(tasks)),
            spread(model.total(model.recycle_costs(tasks, batch)), "$"),
        ]
        for tasks in (1_000, TASKS)
        for batch in (1, 10, figures.LARGEST_BATCH)
    ]
    head = ["tasks", "`batch_size`", "hours", "calls a batch", "reads a second", "costs once"]
    return str(Table(head, rows))


def _quotas() -> str:
    rows = [
        [
            f"[{quota.name}]({quota.source})",
            f"{_plain(quota.figure)} {quota.unit}".replace(" ;", ";").rstrip(),
            quota.soft or "hard",
            _CHECKED[quota.checked],
        ]
        for quota in figures.QUOTAS
    ]
    return str(Table(["quota", "default", "raised by", "checked"], rows))


def _prices() -> str:
    rows = [
        [
            f"[{price.name}]({price.source})",
            f"${price.dollars:g} a {price.unit}",
            _CHECKED[price.checked],
        ]
        for price in figures.PRICES
    ]
    return str(Table(["price", "US East (N. Virginia)", "checked"], rows))


def _plain(known: Range) -> str:
    low, high = f"{known.low:,.0f}", f"{known.high:,.0f}"
    return low if low == high else f"{low} to {high}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scaling", description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help="write docs/scaling.md and its picture"
    )
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text()))
        PICTURE.write_text(picture())
        return
    for name, text in blocks().items():
        sys.stdout.write(f"{name}\n\n{text}\n\n")


if __name__ == "__main__":
    main()
