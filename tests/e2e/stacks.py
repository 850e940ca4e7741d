"""Stacks that use Custom::ECSRunTask, created as a user creates them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.sandbox.account import REPOSITORY, STACK
from tests.sandbox.stack import ARTIFACTS, PARAMETERS, encryption_key
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.sandbox.account import Account

LAUNCHER_ALONE = {
    "EnableRunTask": "false",
    "EnableLogEvents": "false",
    "EnableRecycleService": "false",
}
MIGRATION = REPOSITORY / "docs" / "examples" / "migration.yaml"


@dataclass(frozen=True)
class UserStack:
    """One stack of a template with a custom resource in it."""

    account: Account
    name: str = field(default_factory=lambda: f"app-{uuid.uuid4().hex[:8]}")

    @property
    def _client(self) -> Any:
        return self.account.client("cloudformation")

    def create(self, template: str, **parameters: str) -> dict[str, Any]:
        """Create the stack; return it once it is no longer in progress."""
        self._client.create_stack(
            StackName=self.name,
            TemplateBody=template,
            Parameters=_listed(parameters),
            Capabilities=["CAPABILITY_IAM"],
        )
        return self.settled()

    def update(self, template: str, **parameters: str) -> dict[str, Any]:
        """Update the stack; return it once it is no longer in progress."""
        self._client.update_stack(
            StackName=self.name, TemplateBody=template, Parameters=_listed(parameters)
        )
        return self.settled()

    def delete(self) -> None:
        """Delete the stack and wait until it is gone."""
        arn = self._describe()["StackId"]
        self._client.delete_stack(StackName=self.name)
        eventually(lambda: self._describe(arn)["StackStatus"] == "DELETE_COMPLETE", "deletion")

    def settled(self) -> dict[str, Any]:
        """Return the stack once it is no longer in progress."""

        def finished() -> dict[str, Any] | None:
            stack = self._describe()
            return None if stack["StackStatus"].endswith("IN_PROGRESS") else stack

        return eventually(finished, f"stack {self.name} settled", within=60)

    def outputs(self) -> dict[str, str]:
        return {item["OutputKey"]: item["OutputValue"] for item in self._describe()["Outputs"]}

    def reason(self, resource: str) -> str:
        """Return why the resource failed, as the console shows it."""
        events = self._client.describe_stack_events(StackName=self.name)["StackEvents"]
        return next(
            str(event["ResourceStatusReason"])
            for event in events
            if event["LogicalResourceId"] == resource
            and event["ResourceStatus"].endswith("_FAILED")
        )

    def physical_id(self, resource: str) -> str:
        answer = self._client.describe_stack_resource(
            StackName=self.name, LogicalResourceId=resource
        )
        return str(answer["StackResourceDetail"]["PhysicalResourceId"])

    def _describe(self, name: str = "") -> dict[str, Any]:
        answer = self._client.describe_stacks(StackName=name or self.name)
        return dict(answer["Stacks"][0])


def create_further(account: Account, name: str, **parameters: str) -> None:
    """Begin to create a stack of the bundle beside the account's, of the same code.

    Args:
        account: where the bundle is deployed.
        name: of the new stack.
        parameters: besides those of the account's own stack; it has but the launcher.
    """
    client, s3 = account.client("cloudformation"), account.client("s3")
    # What `sam deploy` made of the template, its code already in the bucket. It is too long to be
    # part of a request.
    template = client.get_template(StackName=STACK, TemplateStage="Original")["TemplateBody"]
    s3.put_object(Bucket=ARTIFACTS, Key=f"{name}.template", Body=str(template))
    common = {**PARAMETERS, "KmsKeyArn": encryption_key(account), **LAUNCHER_ALONE}
    client.create_stack(
        StackName=name,
        TemplateURL=f"{account.url}/{ARTIFACTS}/{name}.template",
        Parameters=_listed({**common, **parameters}),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )


def _listed(parameters: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
