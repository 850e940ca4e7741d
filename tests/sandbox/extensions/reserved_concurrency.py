"""CloudFormation reserves concurrency for a function; ministack leaves the property out."""

from __future__ import annotations

from typing import Any

from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

type Properties = dict[str, Any]


def _reserve(result: tuple[str, Any], props: Properties) -> tuple[str, Any]:
    reserved = props.get("ReservedConcurrentExecutions")
    lambda_svc._functions[result[0]]["concurrency"] = None if reserved is None else int(reserved)
    return result


def install() -> None:
    """Wrap the provisioner's create and update, in the table and for its own calls."""
    create, update = provisioners._lambda_create, provisioners._lambda_update

    def create_reserving(logical_id: str, props: Properties, stack_name: str) -> tuple[str, Any]:
        return _reserve(create(logical_id, props, stack_name), props)

    def update_reserving(
        physical_id: str, old: Properties, new: Properties, *rest: Any, **more: Any
    ) -> tuple[str, Any]:
        return _reserve(update(physical_id, old, new, *rest, **more), new)

    provisioners._lambda_create = create_reserving
    provisioners._lambda_update = update_reserving
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    handlers.update(create=create_reserving, update=update_reserving)
