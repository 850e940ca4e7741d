"""A stack reserves concurrency for a function, and lets it call itself."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from tests.e2e.stacks import UserStack
from tests.sandbox.stack import trust

if TYPE_CHECKING:
    from tests.sandbox.account import Account


def test_properties_are_set_changed_and_taken_back_by_a_stack(account: Account) -> None:
    name = f"set-{uuid.uuid4().hex[:8]}"
    functions, stack = account.client("lambda"), UserStack(account)

    role = account.client("iam").create_role(
        RoleName=name, AssumeRolePolicyDocument=trust("lambda")
    )["Role"]["Arn"]

    def template(**properties: Any) -> str:
        function = {
            "FunctionName": name,
            "Runtime": "python3.13",
            "Handler": "index.handler",
            "Role": role,
            "Code": {"ZipFile": "def handler(event, context): pass"},
            **properties,
        }
        resource = {"Type": "AWS::Lambda::Function", "Properties": function}
        return json.dumps({"Resources": {"Function": resource}})

    def properties() -> tuple[Any, str]:
        concurrency = functions.get_function_concurrency(FunctionName=name)
        recursion = functions.get_function_recursion_config(FunctionName=name)
        return concurrency.get("ReservedConcurrentExecutions"), recursion["RecursiveLoop"]

    stack.create(template(ReservedConcurrentExecutions=3, RecursiveLoop="Allow"))
    seen = [properties()]
    stack.update(template(ReservedConcurrentExecutions=2, RecursiveLoop="Allow"))
    seen.append(properties())
    stack.update(template())
    seen.append(properties())

    assert seen == [(3, "Allow"), (2, "Allow"), (None, "Terminate")]
