"""What callers of launch_task may run: profiles, and the limits each of them sets.

A profile is configuration. The one called `default` comes from the template's parameters, further
ones from a JSON object in an SSM parameter, by their names (docs/launch-task.md).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.errors import EcsOpsError, InvalidRequest
from ecs_ops.settings import MissingSettings
from ecs_ops.task_request import OVERRIDES_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ecs_ops.settings import LaunchTaskSettings

DEFAULT: Final = "default"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_SESSION = re.compile(r"(arn:[^:]+):sts::([0-9]+):assumed-role/([^/]+)/.+")
_TAG_CHARACTERS = "letters, digits, spaces and + - = . _ : / @"
_TAG_KEY = re.compile(r"[\w +\-=.:/@]{1,128}")
_TAG_VALUE = re.compile(r"[\w +\-=.:/@]{0,256}")
_CLUSTER = re.compile(r"(arn:[^:\s]+:ecs:[^:\s]+:[0-9]{12}:cluster/)?[A-Za-z0-9_-]{1,255}")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_PATTERN = re.compile(r"[^\s=,?\[\]]+")

# What decides which code a program runs, as whom, and whom it trusts or talks to. A pattern such as
# `*` is not meant to hand these over. In capitals; compared without regard to case.
_DELICATE_PREFIXES = (
    *("AWS_", "BASH_FUNC_", "BUNDLE_", "CARGO_", "COMPLUS_", "COR_", "CORECLR_", "DOTNET_"),
    *("DYLD_", "ECS_", "ERL_", "GCONV_", "GEM_", "GIT_", "GLIBC_", "GTK_", "JDK_", "LD_"),
    *("LUA_", "MALLOC_", "NPM_CONFIG_", "OPENSSL_", "PERL", "PIP_", "PYTHON", "R_PROFILE"),
    *("RUBY", "SSL_", "SSLKEY", "UV_", "_JAVA_"),
)
_DELICATE_SUFFIXES = ("_OPTS", "_PROXY", "_TOOL_OPTIONS")
_DELICATE_NAMES = frozenset(
    {
        *{"BASH_ENV", "CLASSPATH", "CURL_CA_BUNDLE", "EDITOR", "ENV", "GOFLAGS", "HOME", "IFS"},
        *{"GOOGLE_APPLICATION_CREDENTIALS", "HOSTALIASES", "KUBECONFIG", "LESSOPEN", "PAGER"},
        *{"LOCALDOMAIN", "LOCPATH", "NLSPATH", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "NODE_PATH"},
        *{"NODE_TLS_REJECT_UNAUTHORIZED", "PATH", "PHPRC", "PHP_INI_SCAN_DIR", "PROMPT_COMMAND"},
        *{"PS4", "REQUESTS_CA_BUNDLE", "RES_OPTIONS", "SHELL", "SHELLOPTS", "TERMINFO", "TMPDIR"},
        *{"TZDIR", "ZDOTDIR"},
    }
)

# MiB for each number of CPU units.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
FARGATE_SIZES: Final[Mapping[int, Sequence[int]]] = {
    256: (512, 1024, 2048),
    512: range(1024, 4097, 1024),
    1024: range(2048, 8193, 1024),
    2048: range(4096, 16385, 1024),
    4096: range(8192, 30721, 1024),
    8192: range(16384, 61441, 4096),
    16384: range(32768, 122881, 8192),
}


class BrokenProfile(EcsOpsError):
    """The operator's mistake: a profile cannot be used. The text says which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRule:
    """An environment variable, or several, that a caller may set."""

    name: str
    """Exact, or with `*` for any characters."""
    value: str | None = None
    """Regular expression that the whole value has to match; None for any value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is run, and what a caller may change about it."""

    name: str
    cluster: str = "default"
    task_definition: str
    """Family, family:revision or ARN."""
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...] = ()
    assign_public_ip: bool = False
    container: str = ""
    """Gets environment and command, and its exit code counts; '' for the only essential one."""
    environment: tuple[EnvironmentRule, ...] = ()
    command: bool = False
    """Whether the command may be set."""
    max_cpu: int = 0
    """CPU units; 0 when the size may not be set."""
    max_memory: int = 0
    """MiB; 0 when the size may not be set."""
    tags: tuple[str, ...] = ()
    """Keys that may be set, a `*` for any characters."""
    callers: tuple[str, ...] = ()
    """Who may use it, a `*` for any characters; empty for all. A role's ARN stands for whoever
    assumed it."""
    webhook: Mapping[str, str] = field(default_factory=dict)
    """Environment name: path into a webhook's body, such as `head_commit.id`."""

    @property
    def family(self) -> str:
        return self.task_definition.rsplit("/", 1)[-1].partition(":")[0]


@dataclass(frozen=True, slots=True)
class Profiles:
    """All profiles, as they were read."""

    usable: Mapping[str, Profile]
    broken: Mapping[str, str] = field(default_factory=dict)
    """Name: what is wrong with it."""
    unreadable: str = ""
    """What is wrong with all further ones together."""

    def of(self, caller: str) -> dict[str, Profile]:
        """Return those a caller may use, by name."""
        return {
            name: profile
            for name, profile in self.usable.items()
            if not profile.callers
            or _matches(caller, profile.callers)
            or _matches(_role(caller), profile.callers)
        }

    def choose(self, name: str, caller: str) -> Profile:
        """Return the profile of that name.

        Raises:
            InvalidRequest: there is none that this caller may use.
            BrokenProfile: there is one, but it is no use to anybody.
        """
        mine = self.of(caller)
        if name in mine:
            return mine[name]
        if name in self.broken:
            raise BrokenProfile(f"profile {name}: {self.broken[name]}")
        if self.unreadable:
            raise BrokenProfile(f"profiles: {self.unreadable}")
        raise InvalidRequest("profile", f"is not one you may use; allowed: {', '.join(mine)}")


def read_profiles(default: Profile, text: str) -> Profiles:
    """Return the default profile and those in `text`, a JSON object of profiles by name.

    Args:
        default: of the template's parameters.
        text: '' for no further ones.
    """
    usable, broken = {DEFAULT: default}, {}
    if not text.strip():
        return Profiles(usable)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return Profiles(usable, unreadable="the parameter is not JSON")
    if not isinstance(document, dict):
        return Profiles(usable, unreadable="the parameter must be a JSON object")
    for name, content in document.items():
        try:
            usable[name] = _profile(name, content)
        except InvalidRequest as error:
            broken[name] = str(error)
    return Profiles(usable, broken)


def default_profile(settings: LaunchTaskSettings) -> Profile:
    """Return the profile of the template's parameters.

    Raises:
        MissingSettings: one of them is no good.
    """
    try:
        return Profile(
            name=DEFAULT,
            cluster=settings.cluster,
            task_definition=settings.task_definition,
            subnets=settings.subnets,
            security_groups=settings.security_groups,
            assign_public_ip=settings.assign_public_ip,
            container=settings.container,
            environment=read_rules(settings.allowed_environment),
            command=settings.allow_command,
            max_cpu=settings.max_cpu,
            max_memory=settings.max_memory,
            tags=_patterns("LauncherAllowedTags", list(settings.allowed_tags)),
        )
    except InvalidRequest as error:
        raise MissingSettings(str(error)) from error


def read_rules(items: Iterable[str]) -> tuple[EnvironmentRule, ...]:
    """Return the rules written as `NAME`, `PREFIX_*` or `NAME=regular expression`.

    Raises:
        InvalidRequest: one of them is none.
    """
    return tuple(
        _rule(name, value if given else None)
        for name, given, value in (item.partition("=") for item in items)
    )


def check_values(profile: Profile, environment: Mapping[str, str], *, blame: str) -> None:
    """Check that a caller may set these variables to these values, all of them together.

    The rule with the very name decides; else the first whose pattern matches, unless the name is
    one of those that programs are led astray by.

    Raises:
        InvalidRequest: `blame` and the variable's name are in its `field`.
    """
    length = 0
    for name, value in environment.items():
        where = f"{blame}.{name}" if blame else name
        rule = _rule_for(name, profile.environment)
        if rule is None:
            choice = ", ".join(rule.name for rule in profile.environment) or "none"
            why = "has to be allowed by its own name" if _is_delicate(name) else "may not be set"
            raise InvalidRequest(where, f"{why}; allowed: {choice}")
        # First: an expression may take the square of the time for twice the length.
        length += len(value)
        if length > OVERRIDES_LIMIT:
            culprit = where if length == len(value) else "body"
            raise InvalidRequest(culprit, f"must be at most {OVERRIDES_LIMIT} characters")
        if rule.value is not None and not re.fullmatch(rule.value, value):
            raise InvalidRequest(where, f"must match {rule.value}")


def check_size(profile: Profile, cpu: int | None, memory: int | None) -> None:
    """Check that a caller may ask for a task of this size, and that Fargate has it.

    Raises:
        InvalidRequest: the profile allows no size or a smaller one; one of the two is missing; or
            the two do not go together.
    """
    for name, value, limit in (
        ("cpu", cpu, profile.max_cpu),
        ("memory", memory, profile.max_memory),
    ):
        if value is None:
            continue
        if not limit:
            raise InvalidRequest(name, "may not be set in this profile")
        if value > limit:
            raise InvalidRequest(name, f"must be at most {limit}")
    if cpu is None and memory is None:
        return
    if cpu is None or memory is None:
        missing, other = ("cpu", "memory") if cpu is None else ("memory", "cpu")
        raise InvalidRequest(missing, f"is required beside {other}")
    if cpu not in FARGATE_SIZES:
        choice = ", ".join(str(size) for size in FARGATE_SIZES if size <= profile.max_cpu)
        raise InvalidRequest("cpu", f"must be one of {choice}")
    sizes = FARGATE_SIZES[cpu]
    if memory not in sizes:
        choice = ", ".join(str(size) for size in sizes if size <= profile.max_memory)
        raise InvalidRequest("memory", f"beside {cpu} CPU units must be one of {choice or 'none'}")


def check_tags(profile: Profile, tags: Mapping[str, str]) -> None:
    """Check that a caller may set these tags: `field` is `tags.<key>`.

    Raises:
        InvalidRequest: one is not allowed, or is none that ECS takes
            (https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html).
    """
    for key, value in tags.items():
        where = f"tags.{key}"
        if not _matches(key, profile.tags) or key.lower().startswith(("aws:", "ecs-ops:")):
            choice = ", ".join(profile.tags) or "none"
            raise InvalidRequest(where, f"may not be set; allowed: {choice}")
        if not _TAG_KEY.fullmatch(key):
            raise InvalidRequest(where, f"must be 1 to 128 characters of {_TAG_CHARACTERS}")
        if not _TAG_VALUE.fullmatch(value) or value.lower().startswith("aws:"):
            raise InvalidRequest(where, f"must be at most 256 characters of {_TAG_CHARACTERS}")


def _role(caller: str) -> str:
    """Return the ARN of the role that was assumed, without its path, which no session tells."""
    found = _SESSION.fullmatch(caller)
    return f"{found[1]}:iam::{found[2]}:role/{found[3]}" if found else caller


def _rule_for(name: str, rules: Iterable[EnvironmentRule]) -> EnvironmentRule | None:
    patterns = []
    for rule in rules:
        if rule.name == name and "*" not in name:
            return rule
        patterns.append(rule)
    # What a pattern allows is a plain name: `env` is written to files that shells read.
    if _is_delicate(name) or not _PLAIN.fullmatch(name):
        return None
    return next((rule for rule in patterns if _matches(name, [rule.name])), None)


def _is_delicate(name: str) -> bool:
    upper = name.upper()
    return (
        upper in _DELICATE_NAMES
        or upper.startswith(_DELICATE_PREFIXES)
        or upper.endswith(_DELICATE_SUFFIXES)
    )


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


# ---------------------------------------------------------------- reading


def _profile(name: str, content: object) -> Profile:
    if name == DEFAULT:
        raise InvalidRequest(name, "is the profile of the template's parameters")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(name, "a name is 1 to 32 letters, digits, hyphens and underscores")
    profile = Profile(name=name, **_members(name, content))
    if bool(profile.max_cpu) != bool(profile.max_memory):
        raise InvalidRequest("maxCpu", "and maxMemory go together")
    # A webhook's body is a stranger's: it sets what the profile allows, and nothing else.
    for variable in profile.webhook:
        if _rule_for(variable, profile.environment) is None:
            raise InvalidRequest(f"webhook.{variable}", "is not allowed by environment")
    return profile


def _members(name: str, content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise InvalidRequest(name, "must be a JSON object")
    for key in content:
        if key not in _READERS:
            raise InvalidRequest(key, f"is not a member; allowed: {', '.join(_READERS)}")
    for key in ("taskDefinition", "subnets"):
        if key not in content:
            raise InvalidRequest(key, "is required")
    read = {key: _READERS[key] for key in content}
    return {attribute: reader(key, content[key]) for key, (attribute, reader) in read.items()}


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(key, "must be a string that is not empty")
    return value


def _cluster(key: str, value: object) -> str:
    # One that ECS refuses would be in the way of a list of all profiles' runs.
    if not _CLUSTER.fullmatch(text := _text(key, value)):
        raise InvalidRequest(key, "must be the name or the ARN of a cluster")
    return text


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidRequest(key, "must be a list of strings")
    return tuple(_text(key, item) for item in value)


def _subnets(key: str, value: object) -> tuple[str, ...]:
    if not (subnets := _texts(key, value)):
        raise InvalidRequest(key, "must name at least one")
    return subnets


def _patterns(key: str, value: object) -> tuple[str, ...]:
    return tuple(_pattern(key, item) for item in _texts(key, value))


def _callers(key: str, value: object) -> tuple[str, ...]:
    if not (patterns := _patterns(key, value)):
        raise InvalidRequest(key, "must name somebody; left out, it is for all")
    return tuple(_caller(key, pattern) for pattern in patterns)


def _caller(key: str, pattern: str) -> str:
    """Return what a session's role is compared with: no session tells the path of its role.

    Names of roles are unique without it. A pattern with a path would let in roles of other paths.
    """
    account, role, path_and_name = pattern.partition(":role/")
    _path, slash, name = path_and_name.rpartition("/")
    if slash and "*" in path_and_name:
        raise InvalidRequest(
            key, f"{pattern!r} cannot be told from roles of other paths; name them without path"
        )
    return f"{account}{role}{name}"


def _pattern(key: str, text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise InvalidRequest(key, f"{text!r} is neither a name nor a pattern with *")
    return text


def _truth(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(key, "must be true or false")
    return value


def _whole(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(key, "must be a whole number")
    return value


def _rules(key: str, value: object) -> tuple[EnvironmentRule, ...]:
    if not isinstance(value, dict):
        raise InvalidRequest(key, "must be an object of names and null or a regular expression")
    return tuple(_rule(name, expression) for name, expression in value.items())


def _rule(name: str, expression: object) -> EnvironmentRule:
    where = f"environment.{name}"
    _pattern(where, name)
    if expression is None:
        return EnvironmentRule(name=name)
    if not isinstance(expression, str):
        raise InvalidRequest(where, "must be null or a regular expression")
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidRequest(where, f"is not a regular expression: {error}") from error
    return EnvironmentRule(name=name, value=expression)


def _paths(key: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidRequest(key, "must be an object of names and paths such as head_commit.id")
    return {name: _text(f"{key}.{name}", path) for name, path in value.items()}


# Member of the JSON: attribute of Profile, and what reads it.
_READERS: Final[Mapping[str, tuple[str, Callable[[str, Any], Any]]]] = {
    "cluster": ("cluster", _cluster),
    "taskDefinition": ("task_definition", _text),
    "container": ("container", _text),
    "subnets": ("subnets", _subnets),
    "securityGroups": ("security_groups", _texts),
    "assignPublicIp": ("assign_public_ip", _truth),
    "environment": ("environment", _rules),
    "command": ("command", _truth),
    "maxCpu": ("max_cpu", _whole),
    "maxMemory": ("max_memory", _whole),
    "tags": ("tags", _patterns),
    "callers": ("callers", _callers),
    "webhook": ("webhook", _paths),
}
