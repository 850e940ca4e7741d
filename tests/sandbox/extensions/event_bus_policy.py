"""CloudFormation puts a statement into the policy of an event bus; ministack knows no such type."""

from __future__ import annotations

from typing import Any

from ministack.services import eventbridge
from ministack.services.cloudformation import provisioners

type Properties = dict[str, Any]


def _create(_logical_id: str, props: Properties, _stack_name: str) -> tuple[str, Properties]:
    bus, statement_id = props.get("EventBusName", "default"), props["StatementId"]
    _take_out(bus, statement_id)
    policy = eventbridge._event_bus_policies.setdefault(
        bus, {"Version": "2012-10-17", "Statement": []}
    )
    policy["Statement"].append({"Sid": statement_id, **props["Statement"]})
    return f"{bus}|{statement_id}", {}


def _update(
    _physical_id: str, _old: Properties, new: Properties, stack_name: str, *_rest: Any, **_more: Any
) -> tuple[str, Properties]:
    return _create("", new, stack_name)


def _delete(_physical_id: str, props: Properties) -> None:
    _take_out(props.get("EventBusName", "default"), props["StatementId"])


def _take_out(bus: str, statement_id: str) -> None:
    eventbridge._remove_permission({"EventBusName": bus, "StatementId": statement_id})


def install() -> None:
    """Add the type to those that the account can make."""
    provisioners._RESOURCE_HANDLERS["AWS::Events::EventBusPolicy"] = {
        "create": _create,
        "update": _update,
        "delete": _delete,
    }
