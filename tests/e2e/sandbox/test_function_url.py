"""A function URL works as printed, and tells the function who called."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.e2e.http import call
from tests.sandbox.stack import trust

if TYPE_CHECKING:
    from tests.sandbox.account import Account

_ECHO = "def handler(event, context):\n    return event['requestContext']\n"


@pytest.fixture
def url(account: Account) -> str:
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
    created = functions.create_function_url_config(FunctionName="echo", AuthType="AWS_IAM")
    return str(created["FunctionUrl"])


def test_caller_is_named_when_the_request_is_signed(account: Account, url: str) -> None:
    answer = call(account, "GET", url)

    caller = json.loads(answer.data)["authorizer"]["iam"]
    assert answer.status == 200
    assert caller["userArn"] == "arn:aws:iam::000000000000:root"
    assert call(account, "GET", url, sign=False).status == 403
