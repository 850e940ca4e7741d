"""The stack is deployed with a key, a VPC and a boundary of the operator's own.

The local account has no networks and encrypts nothing: it takes what it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.stacks import UserStack, create_further

if TYPE_CHECKING:
    from tests.sandbox.account import Account

NAME = "guarded"
KEY = "arn:aws:kms:us-east-1:000000000000:key/7a1b2c3d-0000-4000-8000-000000000000"


def test_stack_has_the_key_and_its_log_is_protected_when_parameters_say_so(
    account: Account,
) -> None:
    stack = UserStack(account, NAME)

    create_further(
        account,
        NAME,
        EnableLogEvents="true",
        KmsKeyArn=KEY,
        VpcSubnetIds="subnet-0a1b2c3d,subnet-1a1b2c3d",
        VpcSecurityGroupIds="sg-0a1b2c3d",
        PermissionsBoundaryArn="arn:aws:iam::aws:policy/PowerUserAccess",
        EventDeletionProtection="true",
    )

    assert stack.settled()["StackStatus"] == "CREATE_COMPLETE"
    outputs = stack.outputs()
    (group,) = account.client("logs").describe_log_groups(
        logGroupNamePrefix=f"/aws/lambda/{NAME}-log-events"
    )["logGroups"]
    assert group["kmsKeyId"] == KEY
    for name in ("EventQueueUrl", "EventDeadLetterQueueUrl"):
        queue = account.client("sqs").get_queue_attributes(
            QueueUrl=outputs[name], AttributeNames=["All"]
        )
        assert queue["Attributes"]["KmsMasterKeyId"] == KEY
    table = account.client("dynamodb").describe_table(TableName=outputs["EventTableName"])
    assert table["Table"]["DeletionProtectionEnabled"]
