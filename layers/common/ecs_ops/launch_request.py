"""What a caller asks launch_task to run, and the arguments of RunTask that follow from it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ecs_ops.errors import InvalidRequest
from ecs_ops.launch_profile import DEFAULT, check_size, check_tags, check_values
from ecs_ops.task_request import (
    Network,
    TaskRequest,
    check_environment,
    client_token,
    is_text,
    run_task_arguments,
    started_by,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_ecs.type_defs import RunTaskRequestTypeDef

    from ecs_ops.launch_profile import Profile

_LONGEST_KEY = 255
_MOST_TAGS = 40
"""ECS takes 50 on a task; some are the launcher's own, some may come with the task definition."""
_MEMBERS = ("profile", "environment", "command", "cpu", "memory", "tags")
# No size has more digits, and Python is slow with thousands of them.
_WHOLE = re.compile(r"[0-9]{1,9}")
# In a tag's value; what else a name may hold becomes a hyphen.
_TAG_PUNCTUATION = frozenset(" +-=._:/@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run."""

    profile: str = DEFAULT
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    cpu: int | None = None
    memory: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    blame: str = ""
    """What the environment is called in the body; '' when it is the whole body."""

    @property
    def needs_container(self) -> bool:
        """Whether there is something that one container has to get."""
        return bool(self.environment or self.command)


def read_environment(text: str) -> Order:
    """Return the order of `POST /`: a flat JSON object of environment values.

    Numbers and booleans become the text that the JSON holds: `1.10` stays `1.10`. An empty body
    asks for nothing.

    Raises:
        InvalidRequest: not JSON, not an object, a name twice, a value that is null or nested.
    """
    return Order(environment=check_environment(_parsed(text), blame=""))


def read_order(text: str) -> Order:
    """Return the order of `POST /runs`: see the schema `Order` of openapi.json.

    Raises:
        InvalidRequest: also for members that are unknown or of the wrong type.
    """
    members: dict[str, Any] = {}
    for name, value in _parsed(text):
        if name not in _MEMBERS:
            raise InvalidRequest(name, f"is not a member; allowed: {', '.join(_MEMBERS)}")
        if name in members:
            raise InvalidRequest(name, "is given twice")
        members[name] = value
    return Order(
        profile=_string("profile", members.get("profile", DEFAULT)),
        environment=check_environment(_pairs("environment", members), blame="environment"),
        command=_command(members["command"]) if "command" in members else (),
        cpu=_whole("cpu", members["cpu"]) if "cpu" in members else None,
        memory=_whole("memory", members["memory"]) if "memory" in members else None,
        tags=_tags(_pairs("tags", members)),
        blame="environment",
    )


def read_webhook(text: str, profile: Profile) -> Order:
    """Return the order of a webhook: what the profile takes from its body, as far as it is there.

    Raises:
        InvalidRequest: the body is no JSON object, or what is taken is nested.
    """
    body = dict(_parsed(text))
    found = {name: _at(body, path) for name, path in profile.webhook.items()}
    pairs = [(name, value) for name, value in found.items() if value is not None]
    return Order(profile=profile.name, environment=check_environment(pairs, blame=""))


def request_token(
    *, launcher: str, profile: str, caller: str, key: str | None, request_id: str
) -> str:
    """Return the client token of one request: the same whenever its caller repeats it.

    Args:
        launcher: name of the function; another one may know another caller by the same name.
        profile: what is launched; another profile is another request.
        caller: who sent it, so that nobody meets another's key.
        key: its Idempotency-Key header, which says that a request is a repetition.
        request_id: stands in for the key when there is none.

    Raises:
        InvalidRequest: the key is empty or longer than 255 characters.
    """
    if key is None:
        return client_token(launcher, "request", request_id)
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise InvalidRequest("Idempotency-Key", f"must be 1 to {_LONGEST_KEY} characters long")
    return client_token(launcher, "key", profile, caller, key)


def webhook_token(*, launcher: str, profile: str, body: bytes) -> str:
    """Return the client token of a webhook: the same whenever the same body is delivered.

    Its id is not signed, so the body has to be what makes it the same.
    """
    return client_token(launcher, "webhook", profile, hashlib.sha256(body).hexdigest())


def launch_arguments(
    order: Order, profile: Profile, *, launcher: str, caller: str, container: str, token: str
) -> RunTaskRequestTypeDef:
    """Return the keyword arguments of `ecs.run_task`.

    Args:
        order: what to run.
        profile: that the order names.
        launcher: name of the function.
        caller: ARN or name of who asks.
        container: gets environment and command; '' when there is neither.
        token: see `request_token`.

    Raises:
        InvalidRequest: the order asks for what the profile does not allow, or is too large.
    """
    check_values(profile, order.environment, blame=order.blame)
    if order.command and not profile.command:
        raise InvalidRequest("command", "may not be set in this profile")
    check_size(profile, order.cpu, order.memory)
    check_tags(profile, order.tags)
    task = TaskRequest(
        cluster=profile.cluster,
        task_definition=profile.task_definition,
        environment=order.environment,
        command=order.command,
        cpu=str(order.cpu or ""),
        memory=str(order.memory or ""),
        launch_type="FARGATE",
        network=Network(
            subnets=profile.subnets,
            security_groups=profile.security_groups,
            assign_public_ip="ENABLED" if profile.assign_public_ip else "DISABLED",
        ),
        tags={
            **order.tags,
            "ecs-ops:launcher": launcher,
            "ecs-ops:profile": profile.name,
            "ecs-ops:caller": _tag_value(caller),
        },
    )
    origin = started_by(launcher, profile.name, label(caller))
    return run_task_arguments(task, container=container, token=token, origin=origin, blame="body")


def label(caller: str) -> str:
    """Return a caller's name without the account, which is in the task's own ARN."""
    return caller.rsplit(":", 1)[-1]


def _tag_value(text: str) -> str:
    return "".join(char if char.isalnum() or char in _TAG_PUNCTUATION else "-" for char in text)[
        :256
    ]


# ---------------------------------------------------------------- JSON


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, told from a JSON array by its type; a name given twice is seen."""


class _Number(str):
    """A JSON number, as it was written."""

    __slots__ = ()


def _parsed(text: str) -> _Pairs:
    if not text.strip():
        return _Pairs()
    try:
        parsed = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidRequest("body", "is not JSON") from error
    if not isinstance(parsed, _Pairs):
        raise InvalidRequest("body", "must be a JSON object")
    return parsed


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest("body", f"is not JSON: {name}")


def _pairs(name: str, members: Mapping[str, Any]) -> _Pairs:
    value = members.get(name, _Pairs())
    if not isinstance(value, _Pairs):
        raise InvalidRequest(name, "must be a JSON object")
    return value


def _string(where: str, value: object) -> str:
    if not isinstance(value, str) or isinstance(value, _Number):
        raise InvalidRequest(where, "must be a string")
    return value


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or isinstance(value, _Pairs) or not value:
        raise InvalidRequest("command", "must be a list of strings that is not empty")
    words = tuple(_string(f"command[{index}]", word) for index, word in enumerate(value))
    if not all(is_text(word) for word in words):
        raise InvalidRequest("command", "must be text without NUL characters")
    return words


def _whole(name: str, value: object) -> int:
    if not isinstance(value, _Number) or not _WHOLE.fullmatch(value):
        raise InvalidRequest(name, "must be a whole number")
    return int(value)


def _tags(pairs: _Pairs) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in pairs:
        if key in tags:
            raise InvalidRequest(f"tags.{key}", "is given twice")
        tags[key] = _string(f"tags.{key}", value)
    if len(tags) > _MOST_TAGS:
        raise InvalidRequest("tags", f"must be at most {_MOST_TAGS}")
    return tags


def _at(body: Mapping[str, Any], path: str) -> Any:
    value: Any = body
    for step in path.split("."):
        if isinstance(value, _Pairs):
            value = dict(value)
        value = value.get(step) if isinstance(value, dict) else None
    return value
