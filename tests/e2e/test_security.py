"""The stack is deployed with a key, a VPC and a boundary of the operator's own.

The local account has no networks, and encrypts nothing: it takes what it is given. That the
functions may use the key shows wherever they are tested: the account's own stack has one, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.stacks import UserStack, create_further
from tests.sandbox.stack import encryption_key

if TYPE_CHECKING:
    from tests.sandbox.account import Account

NAME = "guarded"


def test_stack_has_the_key_and_its_log_is_protected_when_parameters_say_so(
    account: Account,
) -> None:
    stack, key = UserStack(account, NAME), encryption_key(account)

    create_further(
        account,
        NAME,
        EnableLogEvents="true",
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
    assert group["kmsKeyId"] == key
    for name in ("EventQueueUrl", "EventDeadLetterQueueUrl"):
        queue = account.client("sqs").get_queue_attributes(
            QueueUrl=outputs[name], AttributeNames=["All"]
        )
        assert queue["Attributes"]["KmsMasterKeyId"] == key
    topic = account.client("sns").get_topic_attributes(TopicArn=outputs["AlertTopicArn"])
    assert topic["Attributes"]["KmsMasterKeyId"] == key
    table = account.client("dynamodb").describe_table(TableName=outputs["EventTableName"])["Table"]
    assert table["SSEDescription"]["KMSMasterKeyArn"] == key
    assert table["DeletionProtectionEnabled"]
