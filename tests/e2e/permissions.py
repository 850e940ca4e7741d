"""What the policies of the functions grant, beside what the tests saw them use.

The one side is template.yaml as it was built. The other is what the local account decided while the
tests ran (`tests.sandbox.extensions.access_record`): nothing is to be denied, and each grant - a
statement's action on one of its resources - is to be the only one that allows some call.

Policies of AWS that the transform attaches are taken as they are: for logs, and for durable
executions. The functions' roles are all this is about: not those that a test makes, nor what a
function does with a caller's role or keys.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3
from cfnlint.decode import cfn_yaml

from tests.sandbox.stack import BUILT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tests.sandbox.account import Account

type Call = dict[str, Any]
"""As `access_record` tells it."""


_PATH = "/_sandbox/access"


class Grant(NamedTuple):
    """A statement's action on one of its resources."""

    function: str
    sid: str
    action: str
    number: int
    """Of the resource; 0 where a parameter says which and how many there are."""


def granted(template: Mapping[str, Any]) -> set[Grant]:
    """Return all that the template's policies grant, whatever its conditions say."""
    return {
        Grant(function, statement["Sid"], action, number)
        for function, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
        for policy in resource["Properties"]["Policies"]
        for statement in _without_conditions(policy["Statement"])
        for action in _listed(statement["Action"])
        for number, _ in enumerate(_listed(statement["Resource"]))
    }


def recorded(account: Account) -> list[Call]:
    """Return what the account has decided so far."""
    return _access(account, "GET")


def assert_denied(account: Account, action: str, resource: str) -> None:
    """See that a function was denied this, as it had to be: it is no problem then."""
    calls = _access(account, "DELETE", action=action, resource=resource)
    assert calls, f"{action} on {resource} was not denied"


def _access(account: Account, method: str, **fields: str) -> list[Call]:
    pool, url = urllib3.PoolManager(ca_certs=str(account.ca_bundle)), f"{account.url}{_PATH}"
    # Tests wait long between two calls: no connection that the server may just be closing.
    headers = {"connection": "close"}
    answer = pool.request(method, url, fields=fields, headers=headers, retries=False)
    assert answer.status == 200, answer.data
    return list(json.loads(answer.data))


def denied(calls: Iterable[Call], grants: Iterable[Grant]) -> list[str]:
    """Return a line for each thing a function was refused, or did that is nowhere authorized."""
    functions = {grant.function for grant in grants}
    return sorted(
        {
            f"{function:24} {call['action']:40} {call['resource']}"
            for call in calls
            if (function := call["role"].removesuffix("Role")) in functions
            and (not call["allowed"] or call["action"].endswith("?"))
        }
    )


def unused(calls: Iterable[Call], grants: Iterable[Grant]) -> list[str]:
    """Return a line for each grant that nothing needs."""
    needed, numbers = set(), _numbers(grants)
    for call in calls:
        function = call["role"].removesuffix("Role")
        by = {
            # A parameter with three ARNs has become three resources.
            Grant(function, sid, action, number if numbers.get((function, sid, action)) else 0)
            for sid, action, number in call["by"]
        }
        if call["allowed"] and len(by) == 1:
            needed |= by
    left = {*grants} - needed
    return sorted(
        f"{one.function:24} {one.sid:26} {one.action}{_nth(one, numbers)}" for one in left
    )


def praise(grants: Collection[Grant]) -> str:
    """Return what there is to say when nothing was denied or unused."""
    return f"{len(grants)} grants: nothing denied, each needed"


def built() -> set[Grant]:
    """Return what the template that was built grants."""
    return granted(cfn_yaml.load(str(BUILT_TEMPLATE)))


def _numbers(grants: Iterable[Grant]) -> dict[tuple[str, str, str], int]:
    """Return the number of the last resource of each statement and action."""
    numbers: dict[tuple[str, str, str], int] = {}
    for *statement, number in grants:
        function, sid, action = statement
        key = (function, sid, action)
        numbers[key] = max(number, numbers.get(key, 0))
    return numbers


def _nth(grant: Grant, numbers: Mapping[tuple[str, str, str], int]) -> str:
    return f" on its resource {grant.number + 1}" if numbers[grant[:3]] else ""


def _without_conditions(statements: Any) -> Iterable[Mapping[str, Any]]:
    """Yield the statements, and of each `Fn::If` what it may come to."""
    for statement in statements:
        if "Fn::If" in statement:
            _, *ways = statement["Fn::If"]
            yield from _without_conditions(one for one in ways if "Ref" not in one)
        else:
            yield statement


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
