"""CloudFormation: answers to its custom resources, through crhelper, and the status of its stacks.

crhelper dispatches a request and builds the response. It does not deliver it, because its source
(2.0.12) does what an answer one can trust must not do:

* Of a reason longer than 256 characters it keeps the end, and it never measures the whole body,
  of which CloudFormation takes 4096 bytes (aws-cdk#2825, #23958).
* It sends for ever while sending fails, and to it a 403 is a delivery.
* Half a second before the function's time is up, and after an exception of its own, it sends
  FAILED: a lie whenever the verdict was SUCCESS.
* It logs event and ResponseURL at DEBUG, and sets the level of the *root* logger.
* Its constructor makes three clients for a polling that this project does not use.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import time
from http.client import HTTPException, HTTPSConnection, InvalidURL
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crhelper import CfnResource

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import AwsFailure, EcsOpsError, NotFound, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aws_durable_execution_sdk_python.types import LambdaContext
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

    from ecs_ops.custom_resource import Answer

BODY_LIMIT = 4096
"""Bytes of a whole response that CloudFormation reads.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

_ENVELOPE = (
    "RequestType",
    "ResponseURL",
    "StackId",
    "RequestId",
    "LogicalResourceId",
    "PhysicalResourceId",
)
_OPERATION = "PUT ResponseURL"

_CUT = " ... (cut)"
# What is left of a reason when the attributes need the room: FAILED must have one.
_LEAST_REASON = 256

# For a hiccup. A longer outage belongs to the durable step around it, which waits unbilled.
_ATTEMPTS = 3
_FIRST_DELAY = 0.5
_TIMEOUT = 10
_SUCCESS = range(200, 300)
_SERVER_ERROR = 500
_TRY_AGAIN = frozenset({408, 429})
_ERROR_CODE = re.compile(rb"<Code>(\w{1,64})</Code>")
_ERROR_START = 2048


class CloudFormation:
    """Sends answers; one for the life of the Lambda sandbox."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._helper = _Helper(sleep)

    def answer(
        self, event: Mapping[str, Any], answer: Answer, lambda_context: LambdaContext | None
    ) -> None:
        """Send `answer` to the ResponseURL of `event`, and nothing else, ever.

        A reason or attribute for which there is no room loses its end; see `response_body`. No
        error's text holds the ResponseURL, which is a presigned secret.

        Raises:
            Transient: it was not delivered and may be later: no connection, or a 5xx.
            AwsFailure: it was refused, as after the URL has expired (`code` is then "403"), or
                could not be sent.
        """
        self._helper.verdict = answer
        self._helper.trouble = AwsFailure(_OPERATION, "NotSent", "the event is not a request")
        # Only what an answer needs: properties hold other people's secrets.
        self._helper({key: event[key] for key in _ENVELOPE if key in event}, lambda_context)
        if self._helper.trouble is not None:
            raise self._helper.trouble


class Stacks:
    """Raises what `aws_errors` raises, and what each method adds to it."""

    def __init__(self, cloudformation: CloudFormationClient) -> None:
        self._cloudformation = cloudformation

    def stack_status(self, stack_id: str) -> str:
        """Return the StackStatus of a stack, named by its ARN: `UPDATE_ROLLBACK_IN_PROGRESS`.

        Raises:
            NotFound: there is no such stack.
        """
        return self._describe(stack_id)["StackStatus"]

    def statuses_above(self, stack_id: str) -> list[str]:
        """Return the StackStatus of each stack that a nested one is part of, the nearest first.

        Raises:
            NotFound: one of them is not there.
        """
        found: list[str] = []
        stack = self._describe(stack_id)
        while parent := stack.get("ParentId"):
            stack = self._describe(parent)
            found.append(stack["StackStatus"])
        return found

    def _describe(self, stack_id: str) -> StackTypeDef:
        try:
            with aws_errors("DescribeStacks"):
                answer = self._cloudformation.describe_stacks(StackName=stack_id)
        except AwsFailure as error:
            # What else could be invalid in a request that holds nothing but a name?
            if error.code == "ValidationError":
                raise NotFound(f"there is no stack {stack_id}") from error
            raise
        if not answer["Stacks"]:
            raise NotFound(f"there is no stack {stack_id}")
        return answer["Stacks"][0]


def response_body(response: Mapping[str, Any]) -> bytes:
    """Return the response as JSON of at most 4096 bytes, all of them ASCII.

    What is too long keeps its beginning and ends in a mark. `Reason` gives way first, down to 256
    bytes; then the longest attribute of `Data`, and the next: `Fn::GetAtt` of a *missing*
    attribute fails a stack, so each stays, if need be empty.

    Ids are never cut. A response which is too long for their sake is returned as it is, for
    CloudFormation then refuses it at once, where it would wait an hour for one that is not sent.
    """
    data = {key: _valid(value) for key, value in response["Data"].items()}
    whole = {**response, "Reason": _valid(response["Reason"]), "Data": data}
    if (over := len(_json(whole)) - BODY_LIMIT) > 0:
        reason = whole["Reason"]
        whole["Reason"] = _beginning(reason, max(_LEAST_REASON, _size(reason) - over))
    while (over := len(_json(whole)) - BODY_LIMIT) > 0 and any(data.values()):
        longest = max(data, key=lambda key: _size(data[key]))
        data[longest] = _beginning(data[longest], _size(data[longest]) - over)
    return _json(whole)


class _Helper(CfnResource):
    """crhelper, without clients, timer, delays, log levels, and verdicts of its own."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        """Set what an answer reads; not `super().__init__()`, for the sake of its clients.

        Without them it takes a thousandth of the time (measured; medians of five processes with
        boto3 and one client already loaded), and needs no Region.
        """
        self._create_func = self._update_func = self._delete_func = self._physical_id
        self._poll_create_func = self._poll_update_func = self._poll_delete_func = None
        self._init_failed = self._ssl_verify = self._timer = None
        self.NoEcho = False
        self._sleep = sleep
        self.verdict: Answer
        self.trouble: EcsOpsError | None
        """Why the last answer was not delivered; None when it was."""
        # At DEBUG it logs the event with its ResponseURL.
        logging.getLogger("crhelper").setLevel(logging.ERROR)

    def _physical_id(self, *_: object) -> str:
        """Tell crhelper the physical id; without one it would make one up."""
        return self.verdict["PhysicalResourceId"]

    def _log_setup(self, *_: object) -> None:
        """Leave the root logger alone."""

    def _set_timeout(self) -> None:
        """Start no timer: whoever has no answer yet has no verdict either."""

    def _wait_for_cwlogs(self, *_: object) -> None:
        """Answer a Delete at once; the log group outlives the resource."""

    def _send(self, status: str | None = None, *_: object) -> None:
        # With a status it is crhelper which failed, not the task. `trouble` then says so.
        if status is None:
            super()._send(send_response=self._deliver)  # type: ignore[misc]

    def _deliver(self, url: str, response: dict[str, Any], _verify: object) -> None:
        """Send crhelper's response with our verdict in it, which crhelper cannot have changed."""
        try:
            _put(url, response_body({**response, **self.verdict}), self._sleep)
        except EcsOpsError as error:
            # Raised here, crhelper would take it for the verdict.
            self.trouble = error
        else:
            self.trouble = None


def _put(url: str, body: bytes, sleep: Callable[[float], None]) -> None:
    """Put the body to a presigned URL, three times at most."""
    trouble = Transient("")
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(_FIRST_DELAY * 2 ** (attempt - 1))
        try:
            _put_once(url, body)
        except Transient as error:
            trouble = error
        else:
            return
    raise trouble


def _put_once(url: str, body: bytes) -> None:
    # http.client logs nothing. urllib3 logs each URL at DEBUG, and at WARNING before a retry.
    try:
        parts = urlsplit(url)
        connection = HTTPSConnection(
            parts.netloc, timeout=_TIMEOUT, context=ssl.create_default_context()
        )
        try:
            # The signature covers an empty content type; any other gets a 403.
            target = parts._replace(scheme="", netloc="", fragment="").geturl()
            connection.request("PUT", target, body, {"content-type": ""})
            response = connection.getresponse()
            status, text = response.status, response.read(_ERROR_START)
        finally:
            connection.close()
    except InvalidURL:
        raise _unusable() from None  # Its text is the URL.
    except (OSError, HTTPException) as error:
        raise Transient(f"{_OPERATION} got no answer: {type(error).__name__}") from error
    except ValueError:
        raise _unusable() from None  # A port that is no number, a host that is no name.
    if status in _SUCCESS:
        return
    # Not the whole text: with a wrong signature S3 returns the URL's parts in it.
    found = _ERROR_CODE.search(text)
    code = found[1].decode() if found else "no error code"
    if status >= _SERVER_ERROR or status in _TRY_AGAIN:
        raise Transient(f"{_OPERATION} failed: {status}: {code}")
    raise AwsFailure(_OPERATION, str(status), code)


def _unusable() -> AwsFailure:
    return AwsFailure(_OPERATION, "InvalidURL", "the ResponseURL is no URL")


def _valid(text: object) -> str:
    """Return the text without halves of surrogate pairs, which JSON could carry and UTF-8 not."""
    return str(text).encode(errors="replace").decode()


def _json(value: object) -> bytes:
    # ASCII, so that characters are bytes, whoever counts them.
    return json.dumps(value, separators=(",", ":")).encode()


def _size(text: str) -> int:
    """Return the bytes the text takes inside a JSON string."""
    return len(_json(text)) - len('""')


def _beginning(text: str, room: int) -> str:
    """Return as much of the text's beginning as has room, in bytes of JSON, beside the mark."""
    if _size(text) <= room:
        return text
    left, end = room - len(_CUT), 0
    if left < 0:
        return ""
    while (left := left - _size(text[end])) >= 0:
        end += 1
    return text[:end] + _CUT
