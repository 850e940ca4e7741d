"""CloudFormation hands `DurableConfig` to the function.

A new ExecutionTimeout changes the function in place, as UpdateFunctionConfiguration does; ministack
would make it anew, without its versions and aliases.
"""

from __future__ import annotations

from typing import Any

from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

type Properties = dict[str, Any]


def _keep(result: tuple[str, Any], props: Properties) -> tuple[str, Any]:
    if durable := props.get("DurableConfig"):
        numbers = {"ExecutionTimeout", "RetentionPeriodInDays"}
        lambda_svc._functions[result[0]]["config"]["DurableConfig"] = {
            key: int(value) if key in numbers else value for key, value in durable.items()
        }
    return result


def install() -> None:
    """Wrap the provisioner's create and update, in the table and for its own calls."""
    create, update = provisioners._lambda_create, provisioners._lambda_update

    def create_durable(logical_id: str, props: Properties, stack_name: str) -> tuple[str, Any]:
        return _keep(create(logical_id, props, stack_name), props)

    def update_durable(
        physical_id: str, old: Properties, new: Properties, *rest: Any, **more: Any
    ) -> tuple[str, Any]:
        if old.get("DurableConfig") and new.get("DurableConfig"):
            old = {**old, "DurableConfig": new["DurableConfig"]}
        return _keep(update(physical_id, old, new, *rest, **more), new)

    provisioners._lambda_create = create_durable
    provisioners._lambda_update = update_durable
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    handlers.update(create=create_durable, update=update_durable)
