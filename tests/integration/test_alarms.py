"""Alarms in answers that moto does not give; the rest is tests/integration/test_ecs_services.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from ecs_ops.aws.alarms import ringing
from ecs_ops.errors import NotFound, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BOTH = ["MetricAlarm", "CompositeAlarm"]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with Stubber(boto3.client("cloudwatch", "us-west-2")) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def ring(stub: Stubber, names: Sequence[str]) -> list[str]:
    return ringing(lambda _service: stub.client, names)


def alarm(name: str, state: str) -> dict[str, Any]:
    return {"AlarmName": name, "StateValue": state}


def test_composite_alarm_rings_when_it_is_in_alarm(stub: Stubber) -> None:
    stub.add_response(
        "describe_alarms",
        {"MetricAlarms": [alarm("errors", "OK")], "CompositeAlarms": [alarm("shop", "ALARM")]},
        {"AlarmNames": ["errors", "shop"], "AlarmTypes": BOTH},
    )

    assert ring(stub, ["errors", "shop", "errors"]) == ["shop"]


def test_every_page_is_read_when_there_are_many_alarms(stub: Stubber) -> None:
    names = [f"alarm-{number}" for number in range(130)]
    asked = {"AlarmNames": names[:100], "AlarmTypes": BOTH}
    stub.add_response(
        "describe_alarms",
        {"MetricAlarms": [alarm(name, "OK") for name in names[:60]], "NextToken": "more"},
        asked,
    )
    stub.add_response(
        "describe_alarms",
        {"MetricAlarms": [alarm(name, "ALARM") for name in names[60:100]]},
        asked | {"NextToken": "more"},
    )
    stub.add_response(
        "describe_alarms",
        {"MetricAlarms": [alarm(name, "INSUFFICIENT_DATA") for name in names[100:]]},
        {"AlarmNames": names[100:], "AlarmTypes": BOTH},
    )

    assert ring(stub, names) == names[60:100]


def test_error_names_what_is_missing_only_when_some_alarms_exist(stub: Stubber) -> None:
    stub.add_response("describe_alarms", {"MetricAlarms": [alarm("errors", "ALARM")]})

    with pytest.raises(NotFound, match=r"^no such alarm: error, shop$"):
        ring(stub, ["error", "errors", "shop"])


def test_error_is_transient_when_cloudwatch_is_busy(stub: Stubber) -> None:
    stub.add_client_error("describe_alarms", "Throttling")

    with pytest.raises(Transient):
        ring(stub, ["errors"])
