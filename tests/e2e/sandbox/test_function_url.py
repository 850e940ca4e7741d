"""A function URL works as printed, lets in who may, and tells the function who called."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.e2e.http import call
from tests.sandbox.stack import trust

if TYPE_CHECKING:
    from tests.sandbox.account import Account

_ECHO = """def handler(event, context):
    return {**event["requestContext"], "query": event["rawQueryString"]}
"""


@pytest.fixture(scope="module")
def function(account: Account) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("echo.py", _ECHO)
    iam = account.client("iam")
    role = iam.create_role(RoleName="echo", AssumeRolePolicyDocument=trust("lambda"))["Role"]
    functions = account.client("lambda")
    functions.create_function(
        FunctionName="echo",
        Runtime="python3.13",
        Handler="echo.handler",
        Role=role["Arn"],
        Code={"ZipFile": archive.getvalue()},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="echo")
    return "echo"


def _url(account: Account, function: str, auth: str) -> str:
    functions = account.client("lambda")
    with contextlib.suppress(functions.exceptions.ResourceNotFoundException):
        functions.delete_function_url_config(FunctionName=function)
    made = functions.create_function_url_config(FunctionName=function, AuthType=auth)
    return str(made["FunctionUrl"])


def test_caller_is_named_when_the_request_is_signed(account: Account, function: str) -> None:
    url = _url(account, function, "AWS_IAM")

    answer = call(account, "GET", url)

    caller = json.loads(answer.data)["authorizer"]["iam"]
    assert answer.status == 200
    assert caller["userArn"] == "arn:aws:iam::000000000000:root"
    assert call(account, "GET", url, sign=False).status == 403


def test_everybody_is_let_in_when_the_functions_policy_allows_both_actions(
    account: Account, function: str
) -> None:
    url = _url(account, function, "NONE")
    functions = account.client("lambda")

    def answer() -> int:
        token = {"authorization": "Bearer token"}
        return call(account, "GET", url, headers=token, sign=False).status

    met = [answer()]
    for action, condition in (
        ("lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
        ("lambda:InvokeFunction", {"InvokedViaFunctionUrl": True}),
    ):
        functions.add_permission(
            FunctionName=function,
            StatementId=action.rpartition(":")[2],
            Action=action,
            Principal="*",
            **condition,
        )
        met.append(answer())

    assert met == [403, 403, 200]


def test_query_reaches_the_function_as_it_was_sent(account: Account, function: str) -> None:
    url = _url(account, function, "AWS_IAM")

    answer = call(account, "GET", f"{url}?b=1:2&a=%3A&empty=")

    assert json.loads(answer.data)["query"] == "b=1:2&a=%3A&empty="
