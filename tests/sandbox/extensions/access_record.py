"""Which role of a stack was allowed what, by which statement, and denied what.

CloudTrail and "last accessed" would tell it. At a path of the gateway, without a signature:

    GET    /_sandbox/access                            a list of
        {"stack": its name, "role": logical id, "action": "ecs:RunTask", "resource": an ARN,
         "allowed": bool, "by": [[Sid, action, n]]}
    DELETE /_sandbox/access?action=…&resource=<ARN>    the same, of what was denied and is forgotten

What was allowed is there once, with one of the resources; what was denied, with each. `by` names
all grants that allow the call by themselves: Sid, the statement's action as the policy has it, and
the number of its resource. A call that ministack knows no action for is allowed by nothing: its
action is the service's name with a question mark.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any

from ministack import app
from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id
from ministack.services import cloudformation

PATH = "/_sandbox/access"

type Json = dict[str, Any]

# What of a call is told but for its resource, to the call.
_calls: dict[str, Json] = {}
# Role's name to stack and logical id; a stack may be gone when somebody asks.
_owners: dict[str, tuple[str, str]] = {}
# The first thing that is evaluated for a call, which is what its caller's own policies say.
_evaluated: ContextVar[Any] = ContextVar("access_evaluated", default=None)


def _owner(principal: str) -> tuple[str, str]:
    role = iam_evaluator._role_name_from_assumed_arn(principal)
    if role not in _owners:
        for name, stack in list(cloudformation._stacks.items()):
            for logical_id, resource in list(stack.get("_resources", {}).items()):
                if resource.get("ResourceType") == "AWS::IAM::Role":
                    _owners.setdefault(resource.get("PhysicalResourceId", ""), (name, logical_id))
    return _owners.get(role, ("", role))


def _grants(context: Any, policies: Any) -> list[list[Any]]:
    return [
        [statement.sid, action, number]
        for statement in (statement for policy in policies for statement in policy)
        if statement.effect == "Allow"
        and iam_evaluator._conditions_met(statement.conditions, context)
        for action in statement.actions
        if iam_evaluator._action_matches(context.action, [action], [])
        for number, resource in enumerate(statement.resources)
        if iam_evaluator._resource_matches(context.resource_arn, [resource], [])
    ]


def _note(
    principal: str, action: str, resource: str, by: list[list[Any]], *, allowed: bool
) -> None:
    stack, role = _owner(principal)
    call = {"stack": stack, "role": role, "action": action, "allowed": allowed, "by": by}
    key = json.dumps([call, "" if allowed else resource])
    _calls.setdefault(key, {**call, "resource": resource})


def _forget_denial(action: str, resource: str) -> list[Json]:
    what = {"allowed": False, "action": action, "resource": resource}
    keys = [key for key, call in list(_calls.items()) if call.items() >= what.items()]
    return [_calls.pop(key) for key in keys]


def _watch_policies() -> None:
    enforce, evaluate = iam_evaluator.enforce, iam_evaluator.evaluate

    def evaluate_and_keep(context: Any, policies: Any, *limits: Any) -> Any:
        if _evaluated.get() is None:
            _evaluated.set((context, policies))
        return evaluate(context, policies, *limits)

    def enforce_and_note(*args: Any, **more: Any) -> Any:
        _evaluated.set(None)
        denial = enforce(*args, **more)
        context, policies = _evaluated.get() or (None, ())
        if context and context.principal_type == "AssumedRole":
            by = _grants(context, policies)
            what = context.principal_arn, context.action, context.resource_arn
            _note(*what, by, allowed=denial is None)
        return denial

    iam_evaluator.enforce = enforce_and_note
    iam_evaluator.evaluate = evaluate_and_keep


def _watch_credentials() -> None:
    """Hear of the calls that ministack knows no action for: it looks at their signature alone."""
    check = iam_evaluator.check_credentials

    def check_and_note(access_key: str, service: str | None = None) -> Any:
        failure = check(access_key, service)
        caller = None
        if access_key and not failure:
            caller = iam_evaluator.resolve_principal(access_key, get_account_id())
        if caller and caller.type == "AssumedRole":
            _note(caller.arn, f"{service}?", "", [], allowed=True)
        return failure

    iam_evaluator.check_credentials = check_and_note


def _answer() -> None:
    shortcut = app._handle_post_body_shortcuts

    async def tell_or_go_on(method: str, path: str, *rest: Any) -> Any:
        if path != PATH:
            return await shortcut(method, path, *rest)
        _headers, _body, query, _request_id = rest
        found = (
            _forget_denial(query["action"][0], query["resource"][0])
            if method == "DELETE"
            else list(_calls.values())
        )
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()

    app._handle_post_body_shortcuts = tell_or_go_on


def install() -> None:
    """Listen to what is evaluated, and tell it."""
    _watch_policies()
    _watch_credentials()
    _answer()
