"""A layer is unpacked once, however many processes of functions use it."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from typing import TYPE_CHECKING

from tests.sandbox.stack import trust

if TYPE_CHECKING:
    from tests.sandbox.account import Account

_CODE = """
import os, shared

def handler(event, context):
    return [shared.VALUE, os.path.realpath(shared.__file__), os.getpid()]
"""


def _archive(**files: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        for name, text in files.items():
            code.writestr(f"{name.replace('__', '/')}.py", text)
    return archive.getvalue()


def test_file_of_a_layer_is_one_when_two_functions_import_it(account: Account) -> None:
    functions, name = account.client("lambda"), f"layered-{uuid.uuid4().hex[:8]}"
    role = account.client("iam").create_role(
        RoleName=name, AssumeRolePolicyDocument=trust("lambda")
    )
    layer = functions.publish_layer_version(
        LayerName=name, Content={"ZipFile": _archive(python__shared="VALUE = 41")}
    )
    answers = []
    for function in (f"{name}-1", f"{name}-2"):
        functions.create_function(
            FunctionName=function,
            Runtime="python3.13",
            Handler="layered.handler",
            Role=role["Role"]["Arn"],
            Code={"ZipFile": _archive(layered=_CODE)},
            Layers=[layer["LayerVersionArn"]],
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=function)
        answers.append(json.load(functions.invoke(FunctionName=function)["Payload"]))

    (value, file, process), (other_value, other_file, other_process) = answers
    assert (value, file) == (other_value, other_file) == (41, file)
    assert process != other_process
