"""Who uses what is encrypted with a customer's key has to be allowed to use the key, too.

SNS, SQS, DynamoDB, Secrets Manager and durable functions of Lambda call KMS on behalf of whoever
called them; the caller's policies and the key's decide, with `kms:ViaService`. Where a service of
AWS uses the key by itself, the key's policy decides alone: EventBridge sends to a queue, an alarm
to a topic, Lambda keeps what a durable function is given, CloudWatch Logs what is logged. ministack
asks nobody, and forgets the key of a stack's topic or table. Nothing is encrypted here, either, no
key is cached, and whether a key is enabled does not matter.

Rules: the services' developer guides, "Key management" (SNS, SQS), "DynamoDB encryption at rest",
"Secret encryption and decryption", "Encrypting AWS Lambda durable execution data", "Encrypt log
data in CloudWatch Logs".
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.core.responses import error_response_json, get_account_id, get_region
from ministack.services import (
    cloudwatch,
    dynamodb,
    eventbridge,
    kms,
    lambda_durable,
    lambda_svc,
    secretsmanager,
    sns,
    sqs,
)
from ministack.services.cloudformation import provisioners

if TYPE_CHECKING:
    from collections.abc import Callable

type Json = dict[str, Any]

logger = logging.getLogger("ministack")

_READ = ("kms:Decrypt",)
# A message gets a data key, and SNS and SQS check that it comes out again as it went in.
_SEND = ("kms:GenerateDataKey", "kms:Decrypt")
# A table's own key is made by DynamoDB, and that of an execution by Lambda, for itself.
_ITEMS = (
    *("BatchGetItem", "BatchWriteItem", "ConditionCheckItem", "DeleteItem", "GetItem", "PutItem"),
    *("Query", "Scan", "UpdateItem"),
)
# GetDurableExecution as its API reference has it: execution data are included unless refused.
_EXECUTIONS = (
    *("CheckpointDurableExecution", "GetDurableExecution", "GetDurableExecutionState"),
    *("SendDurableExecutionCallbackFailure", "SendDurableExecutionCallbackSuccess"),
    "StopDurableExecution",
)
# What the caller needs besides an action.
_NEEDED = {
    "sns:Publish": _SEND,
    "sqs:SendMessage": _SEND,
    "sqs:ReceiveMessage": _READ,
    "secretsmanager:GetSecretValue": _READ,
    **dict.fromkeys((f"dynamodb:{name}" for name in _ITEMS), _READ),
    **dict.fromkeys((f"lambda:{name}" for name in _EXECUTIONS), _READ),
}
_EXECUTION = re.compile(r"arn:.*:function:(?P<name>[^:]+):(?P<version>[^/]+)/durable-execution/")
# By service, how it tells its caller what KMS said.
_TOLD = {
    "dynamodb": (400, "AccessDeniedException"),
    "lambda": (502, "KMSAccessDeniedException"),
    "secretsmanager": (400, "AccessDeniedException"),
    "sns": (400, "KMSAccessDenied"),
    "sqs": (400, "KMS.AccessDeniedException"),
}
# Action and key that the call at hand was denied.
_denied: ContextVar[tuple[str, str] | None] = ContextVar("encryption_denied", default=None)


class _KeyRefusedError(ValueError):
    """The key's policy does not let Lambda use it for a function."""


def _topic_key(arn: str) -> str | None:
    return ((sns._topics.get(arn) or {}).get("attributes") or {}).get("KmsMasterKeyId")


def _queue_key(arn: str) -> str | None:
    return ((sqs._queue_by_arn(arn) or {}).get("attributes") or {}).get("KmsMasterKeyId")


def _table_key(arn: str) -> str | None:
    name = arn.partition(":table/")[2].partition("/")[0]
    encryption = (dynamodb._tables.get(name) or {}).get("SSEDescription") or {}
    return encryption.get("KMSMasterKeyArn") if encryption.get("Status") == "ENABLED" else None


def _secret_key(arn: str) -> str | None:
    return (secretsmanager._resolve(arn)[1] or {}).get("KmsKeyId")


def _execution_key(arn: str) -> str | None:
    """Return the key of an execution's version: the one that the execution began with."""
    function = _EXECUTION.match(arn)
    if not function:
        return None
    return _function_key(function["name"], function["version"])


def _function_key(name: str, version: str) -> str | None:
    _, config = lambda_svc._get_func_record_for_qualifier(name, version)
    return ((config or {}).get("DurableConfig") or {}).get("KMSKeyArn")


_KEYS: dict[str, Callable[[str], str | None]] = {
    "dynamodb": _table_key,
    "lambda": _execution_key,
    "secretsmanager": _secret_key,
    "sns": _topic_key,
    "sqs": _queue_key,
}


def _customer_key(service: str, resource: str) -> str | None:
    """Return the ARN of the key that a resource is encrypted with, unless the key is AWS's."""
    name = _KEYS[service](resource)
    if not name or "alias/aws/" in name:
        return None
    record = kms._resolve_key(name)
    return str(record["Arn"]) if record else name


def _denial(access_key: str, action: str, region: str, resource: str) -> Any:
    """Return what KMS says against an action of this caller; None when it says nothing."""
    service = action.partition(":")[0]
    key = _customer_key(service, resource)
    if not key:
        return None
    context = {"kms:ViaService": f"{service}.{region}.amazonaws.com"}
    for needed in _NEEDED[action]:
        denial = iam_evaluator.enforce(
            access_key, needed, "kms", region, resource_arn=key, service_context=context
        )
        if denial is not None:
            _denied.set((needed, key))
            return denial
    return None


def _ask_for_calls() -> None:
    enforce, answer = iam_evaluator.enforce, iam_actions.access_denied_response

    def enforce_with_key(
        access_key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        **more: Any,
    ) -> Any:
        _denied.set(None)
        denial = enforce(access_key, action, service, region, resource_arn, **more)
        if denial is None and action in _NEEDED:
            denial = _denial(access_key, action, region, resource_arn)
        return denial

    def answer_for_kms(service: str, action: str, caller: str, *rest: Any, **more: Any) -> Any:
        denied = _denied.get()
        if denied is None:
            return answer(service, action, caller, *rest, **more)
        needed, key = denied
        status, code = _TOLD[service]
        message = iam_actions.identity_denial_message(needed, caller, key, explicit_deny=False)
        told = {**more, "error_code": code, "message": message}
        return status, *answer(service, action, caller, *rest, **told)[1:]

    iam_evaluator.enforce = enforce_with_key
    iam_actions.access_denied_response = answer_for_kms


def _ask_for_event_sources() -> None:
    """Lambda reads a queue with the function's role, or does not read it."""
    concurrency = lambda_svc._sqs_esm_concurrency

    def none_without_key(esm: Json, function: Json, config: Json, queue: Json) -> int:
        source = esm["EventSourceArn"]
        if queue["messages"] and _queue_key(source):
            role = lambda_runtime.execution_credentials(config)["AWS_ACCESS_KEY_ID"]
            if _denial(role, "sqs:ReceiveMessage", get_region(), source) is not None:
                return 0
        return int(concurrency(esm, function, config, queue))

    lambda_svc._sqs_esm_concurrency = none_without_key


# ---------------------------------------------------------------- AWS itself
def _may(service: str, key: str, actions: tuple[str, ...] = _SEND, **context: str) -> bool:
    """Whether the key's policy lets a service of AWS use it, in a context of `aws:Source...`."""
    found = kms.key_policy_for_arn(key)
    return found is not None and all(
        iam_evaluator.evaluate_resource_policy(
            found[0],
            iam_evaluator.EvalContext(
                principal_arn=service,
                principal_type="Service",
                principal_account="",
                action=action,
                resource_arn=key,
                region=get_region(),
                service_context={name.lower(): value for name, value in context.items()},
            ),
            service,
        ).decision
        == "Allow"
        for action in actions
    )


def _ask_for_events() -> None:
    send = eventbridge._dispatch_to_sqs

    def send_if_let_in(queue: Any, *rest: Any) -> None:
        key = _customer_key("sqs", str(queue))
        if key and not _may("events.amazonaws.com", key):
            logger.warning("EventBridge: %s does not let it send to %s", key, queue)
            return
        send(queue, *rest)

    eventbridge._dispatch_to_sqs = send_if_let_in


def _ask_for_alarms() -> None:
    act = cloudwatch._dispatch_alarm_actions

    def let_in(arn: str) -> bool:
        key = _customer_key("sns", arn)
        return not key or _may("cloudwatch.amazonaws.com", key)

    def act_where_let_in(alarm: Json, *rest: Any) -> None:
        kinds = ("AlarmActions", "InsufficientDataActions", "OKActions")
        act({**alarm, **{kind: [*filter(let_in, alarm.get(kind) or ())] for kind in kinds}}, *rest)

    cloudwatch._dispatch_alarm_actions = act_where_let_in


def _ask_for_executions() -> None:
    create, invoke = lambda_durable.create_execution_for_invoke, lambda_svc._invoke

    def create_if_let_in(function_arn: str, version: str, *rest: Any, **more: Any) -> Any:
        function, name = function_arn.removesuffix(f":{version}"), function_arn.split(":")[6]
        key = _function_key(name, version)
        context = {
            "aws:SourceAccount": get_account_id(),
            "aws:SourceArn": function,
            "kms:EncryptionContext:aws:lambda:FunctionArn": function,
        }
        if key and not _may("lambda.amazonaws.com", key, **context):
            raise _KeyRefusedError(f"Lambda may not use {key} for {function}")
        return create(function_arn, version, *rest, **more)

    async def invoke_if_let_in(*args: Any) -> Any:
        try:
            return await invoke(*args)
        except _KeyRefusedError as refused:
            status, code = _TOLD["lambda"]
            return error_response_json(code, str(refused), status)

    lambda_durable.create_execution_for_invoke = create_if_let_in
    lambda_svc._invoke = invoke_if_let_in


def _ask_for_log_groups() -> None:
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Logs::LogGroup"]
    create, update = handlers["create"], handlers["update"]

    def check(props: Json) -> None:
        key, region = props.get("KmsKeyId"), get_region()
        group = f"arn:aws:logs:{region}:{get_account_id()}:log-group:{props.get('LogGroupName')}"
        context = {"kms:EncryptionContext:aws:logs:arn": group}
        actions = ("kms:DescribeKey", "kms:Encrypt", *_SEND)
        if key and not _may(f"logs.{region}.amazonaws.com", key, actions, **context):
            message = "The specified KMS key does not exist or is not allowed to be used with Arn"
            raise ValueError(f"{message} '{group}'")

    def create_if_let_in(logical_id: str, props: Json, stack_name: str) -> Any:
        check(props)
        return create(logical_id, props, stack_name)

    def update_if_let_in(physical_id: str, old: Json, new: Json, *rest: Any, **more: Any) -> Any:
        check(new)
        return update(physical_id, old, new, *rest, **more)

    handlers.update(create=create_if_let_in, update=update_if_let_in)


# ---------------------------------------------------------------- stacks
def _encrypt_topic(arn: str, props: Json) -> None:
    attributes = sns._topics[arn]["attributes"]
    attributes.pop("KmsMasterKeyId", None)
    if key := props.get("KmsMasterKeyId"):
        attributes["KmsMasterKeyId"] = key


def _encrypt_table(name: str, props: Json) -> None:
    asked = props.get("SSESpecification") or {}
    # A template may write a boolean as text.
    enabled = str(asked.get("SSEEnabled")).lower() == "true"
    dynamodb._tables[name]["SSEDescription"] = (
        dynamodb._sse_description_from_spec({**asked, "Enabled": True}) if enabled else None
    )


def _keep_keys_of_stacks(kind: str, encrypt: Callable[[str, Json], None]) -> None:
    handlers = provisioners._RESOURCE_HANDLERS[kind]
    create, update = handlers["create"], handlers["update"]

    def create_encrypted(logical_id: str, props: Json, stack_name: str) -> tuple[str, Any]:
        made: tuple[str, Any] = create(logical_id, props, stack_name)
        encrypt(made[0], props)
        return made

    def update_encrypted(
        physical_id: str, old: Json, new: Json, *rest: Any, **more: Any
    ) -> tuple[str, Any]:
        made: tuple[str, Any] = update(physical_id, old, new, *rest, **more)
        encrypt(made[0], new)
        return made

    handlers.update(create=create_encrypted, update=update_encrypted)


def install() -> None:
    """Ask for each call, each batch of a queue, and what AWS does; take what keys stacks name."""
    _ask_for_calls()
    _ask_for_event_sources()
    _ask_for_events()
    _ask_for_alarms()
    _ask_for_executions()
    _ask_for_log_groups()
    _keep_keys_of_stacks("AWS::SNS::Topic", _encrypt_topic)
    _keep_keys_of_stacks("AWS::DynamoDB::Table", _encrypt_table)
