"""CloudFormation reserves concurrency, allows recursion; ministack leaves both properties out."""

from __future__ import annotations

from typing import Any

from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

type Properties = dict[str, Any]


def _set(result: tuple[str, Any], props: Properties) -> tuple[str, Any]:
    function = lambda_svc._functions[result[0]]
    reserved = props.get("ReservedConcurrentExecutions")
    function["concurrency"] = None if reserved is None else int(reserved)
    function["recursive_loop"] = props.get("RecursiveLoop", "Terminate")
    return result


def install() -> None:
    """Wrap the provisioner's create and update, in the table and for its own calls."""
    create, update = provisioners._lambda_create, provisioners._lambda_update

    def create_and_set(logical_id: str, props: Properties, stack_name: str) -> tuple[str, Any]:
        return _set(create(logical_id, props, stack_name), props)

    def update_and_set(
        physical_id: str, old: Properties, new: Properties, *rest: Any, **more: Any
    ) -> tuple[str, Any]:
        return _set(update(physical_id, old, new, *rest, **more), new)

    provisioners._lambda_create = create_and_set
    provisioners._lambda_update = update_and_set
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    handlers.update(create=create_and_set, update=update_and_set)
