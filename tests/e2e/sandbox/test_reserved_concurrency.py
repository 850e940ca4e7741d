"""A function has the concurrency that its stack reserves for it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from tests.e2e.stacks import UserStack
from tests.sandbox.stack import trust

if TYPE_CHECKING:
    from tests.sandbox.account import Account


def test_concurrency_is_reserved_changed_and_given_back_by_a_stack(account: Account) -> None:
    name = f"reserving-{uuid.uuid4().hex[:8]}"
    functions, stack = account.client("lambda"), UserStack(account)

    role = account.client("iam").create_role(
        RoleName=name, AssumeRolePolicyDocument=trust("lambda")
    )["Role"]["Arn"]

    def template(**reserved: int) -> str:
        function = {
            "FunctionName": name,
            "Runtime": "python3.13",
            "Handler": "index.handler",
            "Role": role,
            "Code": {"ZipFile": "def handler(event, context): pass"},
            **reserved,
        }
        resource = {"Type": "AWS::Lambda::Function", "Properties": function}
        return json.dumps({"Resources": {"Function": resource}})

    def reserved() -> Any:
        answer = functions.get_function_concurrency(FunctionName=name)
        return answer.get("ReservedConcurrentExecutions")

    stack.create(template(ReservedConcurrentExecutions=3))
    seen = [reserved()]
    stack.update(template(ReservedConcurrentExecutions=2))
    seen.append(reserved())
    stack.update(template())
    seen.append(reserved())

    assert seen == [3, 2, None]
