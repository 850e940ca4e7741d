"""Who uses what is encrypted with a customer's key is let in when they may use the key, too.

So are the services of AWS, by the key's policy.
"""

from __future__ import annotations

import io
import json
import sysconfig
import uuid
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from tests.e2e.sandbox.conftest import allow
from tests.e2e.stacks import UserStack
from tests.sandbox.stack import key_policy, trust
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.account import Account

_BOTH = {"kms:GenerateDataKey", "kms:Decrypt"}


@pytest.fixture(scope="module")
def key(account: Account) -> str:
    """A key with the policy that docs/security.md asks for."""
    return str(account.client("kms").create_key(Policy=key_policy())["KeyMetadata"]["Arn"])


@pytest.fixture(scope="module")
def accounts_key(account: Account) -> str:
    """A key with the policy it has when nobody gives it one: who may use it is up to IAM."""
    return str(account.client("kms").create_key()["KeyMetadata"]["Arn"])


def _name() -> str:
    return f"kept-{uuid.uuid4().hex[:8]}"


def _arn(sqs: Any, queue: str) -> str:
    answer = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def _messages(sqs: Any, queue: str) -> list[str]:
    return [message["Body"] for message in sqs.receive_message(QueueUrl=queue).get("Messages", ())]


def _through(service: str) -> dict[str, str]:
    return {"kms:ViaService": f"{service}.us-east-1.amazonaws.com"}


# ---------------------------------------------------------------- what can be encrypted
class Use(NamedTuple):
    """One way of using something that is encrypted, or is not."""

    service: str
    action: str
    make: Callable[[Account, str | None], str]
    """Make it, with a key or without; return what a caller names it by."""
    call: Callable[[Any, str], object]
    needed: set[str]
    code: str
    """What the caller is told without the key."""


def _topic(account: Account, key: str | None) -> str:
    attributes = {"KmsMasterKeyId": key} if key else {}
    made = account.client("sns").create_topic(Name=_name(), Attributes=attributes)
    return str(made["TopicArn"])


def _queue(account: Account, key: str | None) -> str:
    attributes = {"KmsMasterKeyId": key} if key else {}
    made = account.client("sqs").create_queue(QueueName=_name(), Attributes=attributes)
    return str(made["QueueUrl"])


def _table(account: Account, key: str | None) -> str:
    encryption = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}
    name = _name()
    account.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        **({"SSESpecification": encryption} if key else {}),
    )
    return name


def _secret(account: Account, key: str | None) -> str:
    made = account.client("secretsmanager").create_secret(
        Name=_name(), SecretString="s", **({"KmsKeyId": key} if key else {})
    )
    return str(made["ARN"])


_ITEM = {"id": {"S": "a"}}
_ACCESS_DENIED = "AccessDeniedException"
USES = {
    "publish": Use(
        "sns",
        "Publish",
        _topic,
        lambda sns, topic: sns.publish(TopicArn=topic, Message="m"),
        _BOTH,
        "KMSAccessDenied",
    ),
    "send": Use(
        "sqs",
        "SendMessage",
        _queue,
        lambda sqs, queue: sqs.send_message(QueueUrl=queue, MessageBody="m"),
        _BOTH,
        "KMS.AccessDeniedException",
    ),
    "receive": Use(
        "sqs",
        "ReceiveMessage",
        _queue,
        lambda sqs, queue: sqs.receive_message(QueueUrl=queue),
        {"kms:Decrypt"},
        "KMS.AccessDeniedException",
    ),
    "write": Use(
        "dynamodb",
        "PutItem",
        _table,
        lambda db, table: db.put_item(TableName=table, Item=_ITEM),
        {"kms:Decrypt"},
        _ACCESS_DENIED,
    ),
    "write many": Use(
        "dynamodb",
        "BatchWriteItem",
        _table,
        lambda db, table: db.batch_write_item(
            RequestItems={table: [{"PutRequest": {"Item": _ITEM}}]}
        ),
        {"kms:Decrypt"},
        _ACCESS_DENIED,
    ),
    "read": Use(
        "dynamodb",
        "GetItem",
        _table,
        lambda db, table: db.get_item(TableName=table, Key=_ITEM),
        {"kms:Decrypt"},
        _ACCESS_DENIED,
    ),
    "know": Use(
        "secretsmanager",
        "GetSecretValue",
        _secret,
        lambda secrets, arn: secrets.get_secret_value(SecretId=arn),
        {"kms:Decrypt"},
        _ACCESS_DENIED,
    ),
}


@pytest.fixture(params=list(USES))
def use(request: pytest.FixtureRequest) -> Use:
    return USES[request.param]


def _refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Return code and message of what the call was refused with."""
    with pytest.raises(ClientError) as refused:
        call()
    return refused.value.response["Error"]["Code"], refused.value.response["Error"]["Message"]


def test_caller_is_let_in_when_they_may_use_the_key_through_the_service(
    account: Account, client_as: Callable[..., Any], key: str, use: Use
) -> None:
    kept = use.make(account, key)
    action = allow(f"{use.service}:{use.action}")
    grants = {
        needed: allow(needed, key, StringEquals=_through(use.service)) for needed in use.needed
    }

    use.call(client_as(use.service, action, *grants.values()), kept)

    for needed in use.needed:
        others = [grant for name, grant in grants.items() if name != needed]
        code, message = _refusal(lambda: use.call(client_as(use.service, action, *others), kept))  # noqa: B023
        assert code == use.code
        assert f"not authorized to perform: {needed} on resource: {key}" in message


def test_caller_is_refused_when_they_may_use_the_key_otherwise(
    account: Account, client_as: Callable[..., Any], key: str, use: Use
) -> None:
    kept = use.make(account, key)
    action = allow(f"{use.service}:{use.action}")
    another = allow("kms:*", f"{key[:-4]}0000")
    elsewhere = allow("kms:*", key, StringEquals=_through("s3"))

    code, _ = _refusal(lambda: use.call(client_as(use.service, action, another, elsewhere), kept))

    assert code == use.code


@pytest.mark.parametrize("owner", ["AWS", "nobody"])
def test_no_key_is_asked_for_when_it_is_not_a_customers(
    account: Account, client_as: Callable[..., Any], use: Use, owner: str
) -> None:
    kept = use.make(account, f"alias/aws/{use.service}" if owner == "AWS" else None)

    use.call(client_as(use.service, allow(f"{use.service}:{use.action}")), kept)


def test_what_is_missing_is_told_when_not_even_the_action_is_allowed(
    account: Account, client_as: Callable[..., Any], key: str
) -> None:
    topic = _topic(account, key)
    client = client_as("sns", allow("kms:*", key))

    code, message = _refusal(lambda: client.publish(TopicArn=topic, Message="m"))

    assert code == "AuthorizationError"
    assert "sns:Publish" in message


# ---------------------------------------------------------------- functions
_CODE = """
from aws_durable_execution_sdk_python import durable_execution

@durable_execution
def durable(event, context):
    return context.step(lambda _: "done")

def ordinary(event, context):
    pass
"""
_MANAGED = "arn:aws:iam::aws:policy/service-role"


class Function:
    """A function with a role that may write checkpoints and read queues, and what is granted."""

    def __init__(self, account: Account, handler: str, **settings: Any) -> None:
        self.client, self.name, self._iam = account.client("lambda"), _name(), account.client("iam")
        role = self._iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=trust("lambda"))
        for policy in ("BasicDurableExecutionRolePolicy", "SQSQueueExecutionRole"):
            self._iam.attach_role_policy(
                RoleName=self.name, PolicyArn=f"{_MANAGED}/AWSLambda{policy}"
            )
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as code:
            code.writestr("functions.py", _CODE)
        self.client.create_function(
            FunctionName=self.name,
            Runtime="python3.13",
            Handler=f"functions.{handler}",
            Role=role["Role"]["Arn"],
            Timeout=30,
            Code={"ZipFile": archive.getvalue()},
            Environment={"Variables": {"PYTHONPATH": sysconfig.get_path("purelib")}},
            **settings,
        )
        self.client.get_waiter("function_active_v2").wait(FunctionName=self.name)
        self.client.publish_version(FunctionName=self.name)

    def grant(self, *statements: dict[str, Any]) -> None:
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self._iam.put_role_policy(RoleName=self.name, PolicyName="only", PolicyDocument=policy)

    def call(self) -> tuple[str, Any]:
        """Invoke the first version and wait; return the execution's ARN, and the result."""
        answer = self.client.invoke(FunctionName=self.name, Qualifier="1")
        return answer["DurableExecutionArn"], json.loads(answer["Payload"].read())


def test_execution_goes_on_when_its_role_may_use_the_key_through_lambda(
    account: Account, client_as: Callable[..., Any], key: str
) -> None:
    durable = {"ExecutionTimeout": 60, "KMSKeyArn": key}
    function = Function(account, "durable", DurableConfig=durable)
    use = allow("kms:Decrypt", key, StringEquals=_through("lambda"))
    read = allow("lambda:GetDurableExecution")

    _, error = function.call()
    function.grant(use)
    execution, result = function.call()

    assert f"not authorized to perform: kms:Decrypt on resource: {key}" in error["errorMessage"]
    assert result == "done"
    # So may those who look at it.
    assert client_as("lambda", read, use).get_durable_execution(DurableExecutionArn=execution)
    stranger = client_as("lambda", read)
    code, _ = _refusal(lambda: stranger.get_durable_execution(DurableExecutionArn=execution))
    assert code == "KMSAccessDeniedException"


def test_execution_keeps_the_key_that_it_began_with(
    account: Account, client_as: Callable[..., Any], key: str
) -> None:
    function = Function(account, "durable", DurableConfig={"ExecutionTimeout": 60})
    execution, _ = function.call()

    function.client.update_function_configuration(
        FunctionName=function.name, DurableConfig={"ExecutionTimeout": 60, "KMSKeyArn": key}
    )

    reader = client_as("lambda", allow("lambda:GetDurableExecution"))
    assert reader.get_durable_execution(DurableExecutionArn=execution)


def test_queue_is_read_when_the_functions_role_may_use_the_key_through_sqs(
    account: Account, key: str
) -> None:
    sqs, function = account.client("sqs"), Function(account, "ordinary")
    plain, encrypted = _queue(account, None), _queue(account, key)

    def left(queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return sum(int(count) for count in counts.values())

    # The one that is not read comes first.
    for queue in (encrypted, plain):
        function.client.create_event_source_mapping(
            FunctionName=function.name, EventSourceArn=_arn(sqs, queue)
        )
        sqs.send_message(QueueUrl=queue, MessageBody="m")

    eventually(lambda: not left(plain), "the queue without a key is read")
    assert left(encrypted)
    function.grant(allow("kms:Decrypt", key, StringEquals=_through("sqs")))
    eventually(lambda: not left(encrypted), "the queue with a key is read")


# ---------------------------------------------------------------- services
def test_function_is_given_something_to_keep_when_the_key_lets_lambda_in(
    account: Account, accounts_key: str
) -> None:
    durable = {"ExecutionTimeout": 60, "KMSKeyArn": accounts_key}
    function = Function(account, "durable", DurableConfig=durable)
    function.grant(allow("kms:*", accounts_key))

    code, _ = _refusal(function.call)

    assert code == "KMSAccessDeniedException"


def test_event_reaches_a_queue_when_the_key_lets_eventbridge_in(
    account: Account, key: str, accounts_key: str
) -> None:
    sqs, events, name = account.client("sqs"), account.client("events"), _name()
    closed, open_ = _queue(account, accounts_key), _queue(account, key)
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))
    targets = [{"Id": str(n), "Arn": _arn(sqs, queue)} for n, queue in enumerate((closed, open_))]
    events.put_targets(Rule=name, Targets=targets)

    events.put_events(Entries=[{"Source": name, "DetailType": "Test", "Detail": "{}"}])

    eventually(lambda: _messages(sqs, open_), "the event in the queue")
    assert not _messages(sqs, closed)


def test_alarm_reaches_a_topic_when_the_key_lets_cloudwatch_in(
    account: Account, key: str, accounts_key: str
) -> None:
    sqs, sns, name = account.client("sqs"), account.client("sns"), _name()
    send = {**allow("sqs:SendMessage"), "Principal": {"Service": "sns.amazonaws.com"}}
    pager = sqs.create_queue(
        QueueName=name,
        Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [send]})},
    )["QueueUrl"]
    closed, open_ = _topic(account, accounts_key), _topic(account, key)
    for topic in (closed, open_):
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=_arn(sqs, pager))
    cloudwatch = account.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="Test",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[closed, open_],
    )

    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")

    (message,) = eventually(lambda: _messages(sqs, pager), "the alarm")
    assert json.loads(message)["TopicArn"] == open_
    assert not _messages(sqs, pager)


_LOG_GROUP = """\
Parameters: {Key: {Type: String}}
Resources:
  Group:
    Type: AWS::Logs::LogGroup
    Properties: {LogGroupName: /aws/lambda/kept, KmsKeyId: !Ref Key}
"""


def test_log_group_is_made_when_the_key_lets_logs_in(
    account: Account, key: str, accounts_key: str
) -> None:
    refused, made = UserStack(account), UserStack(account)

    assert refused.create(_LOG_GROUP, Key=accounts_key)["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "KMS key" in refused.reason("Group")
    assert made.create(_LOG_GROUP, Key=key)["StackStatus"] == "CREATE_COMPLETE"


# ---------------------------------------------------------------- stacks
_STACK = """\
Parameters: {Key: {Type: String, Default: ""}}
Conditions: {HasKey: !Not [!Equals [!Ref Key, ""]]}
Resources:
  Topic:
    Type: AWS::SNS::Topic
    Properties: {KmsMasterKeyId: !If [HasKey, !Ref Key, !Ref AWS::NoValue]}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      SSESpecification: !If
        - HasKey
        - {SSEEnabled: true, SSEType: KMS, KMSMasterKeyId: !Ref Key}
        - !Ref AWS::NoValue
"""


def test_topic_and_table_have_the_key_when_their_stack_names_one(
    account: Account, key: str
) -> None:
    stack = UserStack(account)

    def keys() -> tuple[str | None, str | None]:
        topic = account.client("sns").get_topic_attributes(TopicArn=stack.physical_id("Topic"))
        table = account.client("dynamodb").describe_table(TableName=stack.physical_id("Table"))
        encryption = table["Table"].get("SSEDescription", {})
        return topic["Attributes"].get("KmsMasterKeyId"), encryption.get("KMSMasterKeyArn")

    stack.create(_STACK)
    assert keys() == (None, None)
    stack.update(_STACK, Key=key)
    assert keys() == (key, key)
    stack.update(_STACK)
    assert keys() == (None, None)
    stack.delete()
    stack.create(_STACK, Key=key)
    assert keys() == (key, key)
