"""The contract of `Leases`, kept by the table (moto) and by the fake alike."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from ecs_ops.aws.recycle_lease import REMEMBERED, Holder, RecycleLease
from ecs_ops.errors import Conflict, Transient
from tests.fake_leases import FakeLeases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ecs_ops.aws.recycle_lease import Leases
    from ecs_ops.recycle import Changes

TABLE = "ecs-ops-recycles"
WEB = "arn:aws:ecs:us-west-2:111122223333:service/shop/web"
NOW = 1_767_233_469
HOUR = 3_600


@cache
def dynamodb() -> Any:
    """Return a client: making one takes longer than most tests here."""
    return boto3.client("dynamodb", region_name="us-west-2")


def changes(before: int, made: int) -> Changes:
    return {
        "before": {"desired_count": before, "bounds": None},
        "made": {"desired_count": made, "bounds": {"lowest": 1, "highest": made}},
        "made_earlier": [],
    }


@pytest.fixture
def table() -> Iterator[RecycleLease]:
    with mock_aws():
        dynamodb().create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "serviceArn", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "serviceArn", "KeyType": "HASH"}],
        )
        yield RecycleLease(dynamodb(), TABLE)


@pytest.fixture(params=["table", "fake"])
def leases(request: pytest.FixtureRequest) -> Leases:
    if request.param == "fake":
        return FakeLeases()
    table: Leases = request.getfixturevalue("table")
    return table


def holder(run: str, number: int = 1) -> Holder:
    """Return an execution of a run: its name and its number."""
    return Holder(run, number, f"{run}.{number}")


def take(leases: Leases, run: str, number: int = 1, *, at: float = NOW) -> Any:
    """Take the lease for an hour."""
    return leases.take(WEB, holder(run, number), now=at, expires=at + HOUR)


def test_lease_is_taken_when_it_is_free(leases: Leases) -> None:
    taken = take(leases, "a")

    assert taken == {"ok": True, "execution": "a.1", "expires": NOW + HOUR, "left_over": None}
    assert leases.read(WEB) == {
        "run": "a",
        "execution": "a.1",
        "number": 1,
        "expires": NOW + HOUR,
        "changes": None,
        "changed_by": "",
    }


def test_holder_is_named_when_the_lease_is_held(leases: Leases) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))

    taken = take(leases, "b", at=NOW + HOUR - 1)

    assert taken == {"ok": False, "execution": "a.1", "expires": NOW + HOUR, "left_over": None}


def test_lease_is_taken_again_when_it_is_of_the_same_run(leases: Leases) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))

    taken = take(leases, "a", 2, at=NOW + 9)

    # What it changed itself is not left over by anybody.
    assert taken == {"ok": True, "execution": "a.2", "expires": NOW + 9 + HOUR, "left_over": None}


def test_changes_are_handed_on_when_a_lease_has_expired(leases: Leases) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))

    first = take(leases, "b", at=NOW + HOUR)
    again = take(leases, "b", at=NOW + HOUR + 1)

    assert first["ok"]
    assert first["left_over"] == again["left_over"] == changes(2, 3)


def test_changes_stay_when_the_one_who_took_over_ends_before_recording(leases: Leases) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))
    take(leases, "b", at=NOW + HOUR)
    leases.release(WEB, holder("b"))

    taken = take(leases, "c", at=NOW + HOUR + 1)

    assert (taken["ok"], taken["left_over"]) == (True, changes(2, 3))


def test_changes_are_forgotten_when_the_one_who_took_over_recorded_and_released(
    leases: Leases,
) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))
    take(leases, "b", at=NOW + HOUR)
    leases.record(WEB, holder("b"), changes(2, 4))
    found = leases.read(WEB)
    assert found is not None
    assert (found["changes"], found["changed_by"]) == (changes(2, 4), "b")

    leases.release(WEB, holder("b"))
    leases.release(WEB, holder("b"))

    assert leases.read(WEB) is None


def test_lease_ends_later_when_it_is_renewed(leases: Leases) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))

    renewed = leases.renew(WEB, holder("a", 2), expires=NOW + 2 * HOUR)

    assert renewed == leases.read(WEB)
    taken = take(leases, "b", at=NOW + HOUR)
    assert (taken["ok"], taken["execution"]) == (False, "a.2")
    found = leases.read(WEB)
    assert found is not None
    assert found["changes"] == changes(2, 3)


@pytest.mark.parametrize("taken_over", [False, True], ids=["gone", "taken over"])
def test_conflict_is_raised_when_the_lease_is_not_ours(leases: Leases, *, taken_over: bool) -> None:
    if taken_over:
        take(leases, "b")
    before = leases.read(WEB)

    with pytest.raises(Conflict, match=r"is not held by a\.1 any more"):
        leases.record(WEB, holder("a"), changes(2, 3))
    with pytest.raises(Conflict):
        leases.renew(WEB, holder("a", 2), expires=NOW)
    leases.release(WEB, holder("a"))

    assert leases.read(WEB) == before


def test_lease_and_changes_are_the_rescuers_when_they_are_seized(leases: Leases) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))

    assert leases.seize(WEB, holder("a"), by="rescuer") == changes(2, 3)
    assert leases.seize(WEB, holder("a"), by="rescuer") == changes(2, 3)

    with pytest.raises(Conflict):
        leases.record(WEB, holder("a"), changes(2, 4))
    assert not take(leases, "b")["ok"]
    # A rescuer that dies leaves them to the next run.
    assert take(leases, "b", at=NOW + HOUR)["left_over"] == changes(2, 3)


def test_changes_of_an_earlier_run_are_seized_too_when_nobody_put_them_back(
    leases: Leases,
) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))
    take(leases, "b", at=NOW + HOUR)

    assert leases.seize(WEB, holder("b"), by="rescuer") == changes(2, 3)
    leases.release(WEB, holder("rescuer"))

    assert leases.read(WEB) is None


def test_earlier_execution_changes_nothing_when_a_later_one_of_its_run_has_the_lease(
    leases: Leases,
) -> None:
    take(leases, "a")
    leases.record(WEB, holder("a"), changes(2, 3))
    leases.renew(WEB, holder("a", 2), expires=NOW + HOUR)
    before = leases.read(WEB)

    with pytest.raises(Conflict):
        leases.record(WEB, holder("a"), changes(2, 4))
    with pytest.raises(Conflict):
        leases.renew(WEB, holder("a"), expires=NOW + 9 * HOUR)
    assert leases.seize(WEB, holder("a"), by="rescuer") is None
    leases.release(WEB, holder("a"))

    assert leases.read(WEB) == before
    assert leases.seize(WEB, holder("a", 3), by="rescuer") == changes(2, 3)


@pytest.mark.parametrize("taken_over", [False, True], ids=["gone", "taken over"])
def test_nothing_is_seized_when_the_lease_is_not_that_runs(
    leases: Leases, *, taken_over: bool
) -> None:
    if taken_over:
        take(leases, "b")
        leases.record(WEB, holder("b"), changes(2, 3))
    before = leases.read(WEB)

    assert leases.seize(WEB, holder("a"), by="rescuer") is None
    assert leases.read(WEB) == before


def test_services_do_not_get_in_each_others_way(leases: Leases) -> None:
    take(leases, "a")

    assert leases.take(f"{WEB}2", holder("b"), now=NOW, expires=NOW + HOUR)["ok"]
    leases.release(f"{WEB}2", holder("b"))
    assert leases.read(WEB) is not None


# The table alone.


def test_ledger_outlives_its_lease_when_nobody_takes_over(table: RecycleLease) -> None:
    take(table, "a")
    table.renew(WEB, holder("a", 2), expires=NOW + 2 * HOUR)

    (item,) = dynamodb().scan(TableName=TABLE)["Items"]

    assert item["ttl"] == {"N": str(NOW + 2 * HOUR + REMEMBERED)}


def test_lease_is_ours_when_it_was_taken_before_executions_had_numbers(
    table: RecycleLease,
) -> None:
    take(table, "a")
    dynamodb().update_item(
        TableName=TABLE,
        Key={"serviceArn": {"S": WEB}},
        UpdateExpression="REMOVE #number",
        ExpressionAttributeNames={"#number": "number"},
    )

    table.renew(WEB, holder("a", 2), expires=NOW + HOUR)

    found = table.read(WEB)
    assert found is not None
    assert found["number"] == 2


class Unlucky:
    """A client: a call that changes something takes effect or not, and its answer is lost."""

    def __init__(self, luck: list[str]) -> None:
        self.luck = luck
        self.exceptions = dynamodb().exceptions

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            fortune = self.luck.pop(0) if self.luck else "good"
            if fortune == "throttled":
                error: Any = {"Error": {"Code": "ThrottlingException"}}
                raise ClientError(error, operation)
            answer = getattr(dynamodb(), operation)(**arguments)
            if fortune == "lost":
                raise ReadTimeoutError(endpoint_url="https://aws")
            return answer

        return call


def _until_answered(call: Callable[[Leases], Any], leases: Leases) -> Any:
    while True:
        with suppress(Transient):
            try:
                return call(leases)
            except Conflict:
                return Conflict


calls = st.lists(
    st.tuples(
        st.sampled_from(["take", "record", "renew", "release", "seize"]),
        st.sampled_from(["a", "b", "rescuer of a"]),
        st.integers(1, 3),  # which execution of the run
        st.sampled_from([0, 1, HOUR]),  # seconds since the call before
        st.lists(st.sampled_from(["lost", "throttled"]), max_size=2),
    ),
    max_size=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls)
def test_table_is_as_the_fake_when_each_call_is_repeated_until_it_is_answered(
    table: RecycleLease, plan: list[tuple[str, str, int, int, list[str]]]
) -> None:
    dynamodb().delete_item(TableName=TABLE, Key={"serviceArn": {"S": WEB}})
    fake = FakeLeases()
    now = NOW
    for number, (name, run, part, pause, luck) in enumerate(plan):
        now += pause

        def call(
            leases: Leases, name: str = name, run: str = run, part: int = part, number: int = number
        ) -> Any:
            match name:
                case "take":
                    return take(leases, run, part, at=now)  # noqa: B023
                case "record":
                    return leases.record(WEB, holder(run, part), changes(2, number))
                case "renew":
                    return leases.renew(WEB, holder(run, part), expires=now + HOUR)  # noqa: B023
                case "seize":
                    return leases.seize(WEB, holder(run, part), by=f"rescuer of {run}")
                case _:
                    return leases.release(WEB, holder(run, part))

        unlucky: Any = Unlucky(list(luck))
        answers = [_until_answered(call, leases) for leases in (RecycleLease(unlucky, TABLE), fake)]
        assert answers[0] == answers[1]
        assert table.read(WEB) == fake.read(WEB)
