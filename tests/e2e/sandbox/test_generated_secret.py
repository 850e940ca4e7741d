"""A secret of a stack holds what the template asks for, and is known by its ARN."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.e2e.stacks import UserStack

if TYPE_CHECKING:
    from tests.sandbox.account import Account


def _template(description: str) -> str:
    secret = {
        "Type": "AWS::SecretsManager::Secret",
        "Properties": {
            "Description": description,
            "GenerateSecretString": {
                "SecretStringTemplate": '{"user": "a"}',
                "GenerateStringKey": "token",
                "PasswordLength": 200,
                "ExcludePunctuation": True,
            },
        },
    }
    outputs = {"Arn": {"Value": {"Ref": "Secret"}}}
    return json.dumps({"Resources": {"Secret": secret}, "Outputs": outputs})


def test_password_is_as_asked_for_and_outlives_an_update(account: Account) -> None:
    secrets, stack = account.client("secretsmanager"), UserStack(account)
    stack.create(_template("first"))
    arn = stack.outputs()["Arn"]
    made = json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])
    changed = json.dumps({**made, "other": "added"})
    secrets.put_secret_value(SecretId=arn, SecretString=changed)

    stack.update(_template("second"))

    assert arn.startswith("arn:aws:secretsmanager:us-east-1:000000000000:secret:")
    assert made["user"] == "a"
    assert len(made["token"]) == 200
    assert made["token"].isalnum()
    assert stack.outputs()["Arn"] == arn
    assert secrets.describe_secret(SecretId=arn)["Description"] == "second"
    assert secrets.get_secret_value(SecretId=arn)["SecretString"] == changed


def test_secret_is_gone_when_its_stack_is(account: Account) -> None:
    secrets, stack = account.client("secretsmanager"), UserStack(account)
    stack.create(_template("short-lived"))
    arn = stack.outputs()["Arn"]

    stack.delete()

    assert arn not in {secret["ARN"] for secret in secrets.list_secrets()["SecretList"]}
