"""CloudFormation generates a secret as it is asked to, and `Ref` of a secret is its ARN.

ministack puts punctuation into every password, and gives the name.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.services import secretsmanager
from ministack.services.cloudformation import provisioners

type Properties = dict[str, Any]

_BOOLEANS = (
    *("ExcludeLowercase", "ExcludeNumbers", "ExcludePunctuation", "ExcludeUppercase"),
    *("IncludeSpace", "RequireEachIncludedType"),
)


def _generated(props: Properties) -> str:
    """Return the text of the secret that a template asks for."""
    asked = props.get("GenerateSecretString")
    if not asked:
        return str(props.get("SecretString", ""))
    # A template may write numbers and booleans as text.
    truths = {name: str(asked[name]).lower() == "true" for name in _BOOLEANS if name in asked}
    request = {**asked, **truths, "PasswordLength": int(asked.get("PasswordLength", 32))}
    status, _headers, body = secretsmanager._get_random_password(request)
    if status != 200:
        raise ValueError(json.loads(body)["message"])
    password = json.loads(body)["RandomPassword"]
    if "SecretStringTemplate" not in asked:
        return str(password)
    document = json.loads(asked["SecretStringTemplate"])
    return json.dumps({**document, asked["GenerateStringKey"]: password})


def _name(physical_id: str) -> str:
    return str(secretsmanager._resolve(physical_id)[0] or physical_id)


def install() -> None:
    """Take the place of what makes the text, and give the ARN as the physical id."""
    create, update = provisioners._sm_secret_create, provisioners._sm_secret_update
    delete = provisioners._sm_secret_delete

    def create_by_arn(*args: Any) -> tuple[str, Any]:
        _, attributes = create(*args)
        return attributes["Arn"], attributes

    def update_by_arn(physical_id: str, *args: Any, **more: Any) -> tuple[str, Any]:
        _, attributes = update(_name(physical_id), *args, **more)
        return attributes["Arn"], attributes

    def delete_by_arn(physical_id: str, props: Properties) -> None:
        delete(_name(physical_id), props)

    provisioners._sm_secret_string = _generated
    handlers = provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"]
    handlers.update(create=create_by_arn, update=update_by_arn, delete=delete_by_arn)
