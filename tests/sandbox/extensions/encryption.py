"""Who uses what is encrypted with a customer's key has to be allowed to use the key, too.

SNS, SQS, DynamoDB, Secrets Manager and durable functions of Lambda call KMS on behalf of whoever
called them; the caller's policies and the key's decide, with `kms:ViaService`. ministack asks
nobody, and forgets the key of a stack's topic or table. Nothing is encrypted here, either, no key
is cached, and whether a key is enabled does not matter.

Rules: the services' developer guides, "Key management" (SNS, SQS), "DynamoDB encryption at rest",
"Secret encryption and decryption", "Encrypting AWS Lambda durable execution data".
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.core.responses import get_region
from ministack.services import dynamodb, kms, lambda_svc, secretsmanager, sns, sqs
from ministack.services.cloudformation import provisioners

if TYPE_CHECKING:
    from collections.abc import Callable

type Json = dict[str, Any]

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
    _, config = lambda_svc._get_func_record_for_qualifier(function["name"], function["version"])
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
    """Ask for each call and each batch of a queue; take the keys that stacks name."""
    _ask_for_calls()
    _ask_for_event_sources()
    _keep_keys_of_stacks("AWS::SNS::Topic", _encrypt_topic)
    _keep_keys_of_stacks("AWS::DynamoDB::Table", _encrypt_table)
