"""The benchmarks' events are alike for one seed, and like those that ECS sends."""

import json
import statistics
from collections import defaultdict
from datetime import UTC, datetime

from tests.benchmarks.realistic_events import realistic_events

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS = realistic_events(5_000, seed=4, begins=BEGINS)


def test_events_are_the_same_when_the_seed_is_the_same() -> None:
    assert realistic_events(500, seed=4, begins=BEGINS) == EVENTS[:500]
    assert realistic_events(500, seed=5, begins=BEGINS) != EVENTS[:500]


def test_every_event_is_distinct_and_in_order_when_many_are_made() -> None:
    times = [json.loads(event.body)["time"] for event in EVENTS]

    assert len({event.id for event in EVENTS}) == len(EVENTS)
    assert times == sorted(times)


def test_bodies_are_of_two_to_three_kilobytes_when_seen_in_the_middle() -> None:
    sizes = [len(event.body) for event in EVENTS]

    assert statistics.quantiles(sizes, n=4)[0] > 2_000
    assert statistics.quantiles(sizes, n=4)[2] < 3_072


def test_one_in_a_hundred_is_a_failure_when_tasks_live_their_whole_lives() -> None:
    failed = sum(bool(event.failed_task) for event in EVENTS)

    assert 0.005 < failed / len(EVENTS) < 0.015


def test_versions_count_up_when_a_task_goes_from_provisioning_to_stopped() -> None:
    lives = defaultdict(list)
    for event in EVENTS:
        detail = json.loads(event.body)["detail"]
        if event.is_of_task:
            lives[detail["taskArn"]].append((detail["version"], detail["lastStatus"]))
    whole = [life for life in lives.values() if life[-1][1] == "STOPPED"]

    assert len(whole) > 100
    for life in whole:
        assert [version for version, _ in life] == list(range(1, len(life) + 1))
        assert life[0][1] == "PROVISIONING"
