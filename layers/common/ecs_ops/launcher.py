"""What launch_task does: start a run, follow it, stop it. It keeps nothing; ECS and the log do.

One RunTask is all that a start costs. Whatever is asked about runs is answered by ECS, and, once
ECS has forgotten a task, by the event log.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from urllib.parse import parse_qsl

from ecs_ops.errors import AwsFailure, EcsOpsError, InvalidRequest, NotFound, Transient
from ecs_ops.event_record import utc_moment
from ecs_ops.launch_api import NotThere, Reply, answer
from ecs_ops.launch_profile import BrokenProfile, Profiles, read_profiles
from ecs_ops.launch_request import (
    Order,
    label,
    launch_arguments,
    read_environment,
    read_order,
    read_webhook,
    request_token,
    webhook_token,
)
from ecs_ops.launch_run import (
    RUN_ID,
    Run,
    cursor,
    is_over,
    is_stopping,
    merge,
    origin_of,
    read_cursor,
    read_limit,
    read_status,
    run_of,
    task_arn,
)
from ecs_ops.task_request import choose_container

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_ecs.type_defs import RunTaskRequestTypeDef

    from ecs_ops.launch_api import Request
    from ecs_ops.launch_profile import Profile
    from ecs_ops.launch_run import Origin
    from ecs_ops.task_request import ContainerDefinition
    from ecs_ops.verdict import TaskState

_LISTED = 25
_MOST_LISTED = 100
_LINES = 1000
_MOST_LINES = 10_000
_REPLY_LIMIT = 3_000_000
"""Characters of a page in JSON. Lambda writes them into a JSON string, so that a reply has at most
twice as many bytes, and is refused over 6 MB:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
_LONGEST_MESSAGE = 400_000
"""Characters. One message has to fit into a reply; the awslogs driver writes at most 256 KiB."""
_MOST_LIVE = 1000
"""Tasks of one family that ECS is asked for; older ones are left to the event log."""
_LIST_SECONDS = 5.0
"""For how long a list of ECS's tasks serves all who ask: those who watch it ask again and again."""
_ROUNDS = 5
"""Pages of the log that one page of a list is filtered from; a caller goes on from there."""
_COPY_SECONDS = 60.0
_SETTLED_SECONDS = 5
"""After its end, until what a task wrote last is sure to be in its log."""
_UNKNOWN_AT_FIRST = timedelta(minutes=5)
"""After its start, in which ECS may not show a task yet; in truth it is seconds."""
_REVISION = re.compile(r":[0-9]+$")

_logger = logging.getLogger(__name__)


class Tasks(Protocol):
    """What `ecs_ops.aws.ecs_tasks.EcsTasks` does, and a fake can do."""

    def run(self, arguments: RunTaskRequestTypeDef) -> TaskState: ...
    def describe(self, cluster: str, task_arn: str) -> TaskState | None: ...
    def stop(self, cluster: str, task_arn: str, reason: str) -> None: ...
    def of_family(self, cluster: str, family: str, limit: int) -> list[TaskState]: ...
    def containers(self, task_definition: str) -> Sequence[ContainerDefinition]: ...


class Log(Protocol):
    """What `ecs_ops.aws.launched_log.LaunchedLog` does, and a fake can do."""

    def last_of(self, task_arn: str, now: datetime) -> TaskState | None: ...
    def before(self, launcher: str, key: str, limit: int, now: datetime) -> list[TaskState]: ...


class NoLog:
    """Takes the place of the event log where there is none."""

    def last_of(self, _task_arn: str, _now: datetime) -> TaskState | None:
        return None

    def before(self, _launcher: str, _key: str, _limit: int, _now: datetime) -> list[TaskState]:
        return []


class LogPage(Protocol):
    """What `ecs_ops.aws.container_logs.LogPage` is."""

    @property
    def events(self) -> Sequence[tuple[str, str]]: ...
    @property
    def next(self) -> str: ...
    @property
    def at_end(self) -> bool: ...


class Output(Protocol):
    """What `ecs_ops.aws.container_logs.ContainerLogs` does, and a fake can do."""

    def page(self, group: str, stream: str, region: str, after: str, limit: int) -> LogPage: ...


class Text(Protocol):
    """What `ecs_ops.aws.launch_access.ProfilesParameter` does, and a fake can do."""

    def read(self, *, at_most_seconds_old: float) -> str: ...


class _Found(NamedTuple):
    task: TaskState
    origin: Origin
    profile: Profile
    is_known: bool
    """To ECS; else it is from the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Every public method answers one route of openapi.json, for a caller who has been let in.

    They raise InvalidRequest for what the caller can mend, NotThere for what is not theirs,
    BrokenProfile for what the operator can mend, and whatever the adapters raise.
    """

    name: str
    """Of the function; each of its tasks says that it was started by it."""
    function_arn: str
    default: Profile
    profiles_text: Text | None
    """Further profiles; None when there are none."""
    tasks: Tasks
    log: Callable[[], Log]
    """The event log; made when it is asked."""
    output: Callable[[], Output]
    """What containers write; made when it is asked."""
    clock: Callable[[], float] = time.time
    count: Callable[[Literal["RunsLaunched", "RunsRefused"], str], None] = lambda _what, _: None
    """Hears of every launch that was asked for: what became of it, and its profile."""
    _definitions: dict[str, tuple[float, Sequence[ContainerDefinition]]] = field(
        default_factory=dict
    )
    _read: dict[str, Profiles] = field(default_factory=dict)
    """The profiles of the text that was read last."""
    _lists: dict[tuple[str, str], tuple[float, list[TaskState]]] = field(default_factory=dict)
    """Tasks that ECS listed, and when, by cluster and family."""

    # ---------------------------------------------------------------- start

    def launch_default(self, request: Request, caller: str) -> Reply:
        return self._launch_keyed(read_environment(request.text()), request, caller)

    def launch(self, request: Request, caller: str) -> Reply:
        return self._launch_keyed(read_order(request.text()), request, caller)

    def launch_from_webhook(self, request: Request, caller: str, profile: str) -> Reply:
        """Answer a ping, too: GitHub sends one when a webhook is made."""
        if request.headers.get("x-github-event") == "ping":
            return Reply(HTTPStatus.NO_CONTENT, "application/json", "")
        chosen = self._choose(profile, caller)
        if not chosen.webhook:
            raise InvalidRequest("profile", "takes no webhooks")
        token = webhook_token(launcher=self.name, profile=profile, body=request.body())
        return self._launch(read_webhook(request.text(), chosen), chosen, caller, token)

    def _launch_keyed(self, order: Order, request: Request, caller: str) -> Reply:
        token = request_token(
            launcher=self.name,
            profile=order.profile,
            caller=caller,
            key=request.headers.get("idempotency-key"),
            request_id=request.id,
        )
        return self._launch(order, self._choose(order.profile, caller), caller, token)

    def _launch(self, order: Order, profile: Profile, caller: str, token: str) -> Reply:
        try:
            task = self._start(order, profile, caller, token)
        except EcsOpsError:
            self.count("RunsRefused", profile.name)
            raise
        self.count("RunsLaunched", profile.name)
        run = self._run(task, self._origin(task), profile)
        return answer(run, HTTPStatus.ACCEPTED, {"Location": f"/runs/{run['id']}"})

    def _start(self, order: Order, profile: Profile, caller: str, token: str) -> TaskState:
        arguments = launch_arguments(
            order,
            profile,
            launcher=self.name,
            caller=caller,
            container=profile.container,
            token=token,
        )
        if order.needs_container and not profile.container:
            # Only now: what is refused costs no call.
            container = self._only_container(profile)
            for override in arguments["overrides"]["containerOverrides"]:
                override["name"] = container
        # What is started or stopped here is to be in the next list.
        self._lists.clear()
        return self.tasks.run(arguments)

    # ---------------------------------------------------------------- follow

    def list_profiles(self, _request: Request, caller: str) -> Reply:
        mine = self._profiles().of(caller).values()
        return answer({"caller": label(caller), "profiles": [_shown(profile) for profile in mine]})

    def list_runs(self, request: Request, caller: str) -> Reply:
        query = _query(request, ("profile", "status", "limit", "after"))
        limit = read_limit(query.get("limit"), default=_LISTED, most=_MOST_LISTED)
        wanted = read_status(query.get("status"))
        after: str | None = read_cursor(query.get("after", ""))
        mine = self._profiles().of(caller)
        if (name := query.get("profile")) is not None:
            mine = {name: self._choose(name, caller)}
        families = {(one.cluster, one.family) for one in mine.values()}
        live = [
            task
            for cluster, family in families
            for task in self._live(cluster, family, is_one_of_many=len(families) > 1)
            if origin_of(task, self.name)
        ]
        runs: list[Run] = []
        for _ in range(_ROUNDS):
            past = self.log().before(self.name, after or "", limit, self._now())
            tasks, end = merge(live, past, after=after or "", asked=limit)
            for key, task in tasks:
                origin = origin_of(task, self.name)
                if not origin or origin.profile not in mine or not self._is_here(task):
                    continue
                run = self._run(task, origin, mine[origin.profile])
                if run["status"] not in wanted:
                    continue
                runs.append(run)
                if len(runs) == limit:
                    return answer({"runs": runs, "next": cursor(key)})
            after = end
            if after is None:
                break
        return answer({"runs": runs, "next": cursor(after) if after else None})

    def show(self, _request: Request, caller: str, run_id: str) -> Reply:
        found = self._find(caller, run_id)
        return answer(self._run(found.task, found.origin, found.profile))

    def read_log(self, request: Request, caller: str, run_id: str) -> Reply:
        query = _query(request, ("after", "limit"))
        limit = read_limit(query.get("limit"), default=_LINES, most=_MOST_LINES)
        task, origin, profile, _ = self._find(caller, run_id)
        container = self._logging(task, profile)
        run = self._run(task, origin, profile)
        is_done = is_over(run) and self._has_settled(run)
        while True:
            page = self.output().page(
                container.log_group,
                container.log_stream(run_id),
                container.log_region,
                query.get("after", ""),
                limit,
            )
            reply = answer(
                {
                    "events": [
                        {"time": when, "message": text[:_LONGEST_MESSAGE]}
                        for when, text in page.events
                    ],
                    "next": page.next or None,
                    "complete": page.at_end and is_done,
                }
            )
            if len(reply.body) <= _REPLY_LIMIT or len(page.events) == 1:
                return reply
            # From the same place again: the token of a whole page leads to nowhere inside it.
            limit = len(page.events) // 2

    # ---------------------------------------------------------------- stop

    def stop(self, _request: Request, caller: str, run_id: str) -> Reply:
        """Ask ECS to stop the run; when it is over already, say how it ended."""
        task, origin, profile, is_known = self._find(caller, run_id)
        if not is_known and task["lastStatus"] != "STOPPED" and self._is_new(task):
            raise Transient("ECS does not show this run yet")
        if task["lastStatus"] == "STOPPED" or not is_known:
            return answer(self._run(task, origin, profile))
        if not is_stopping(task):
            task = self._stopped(task, f"Stopped by {caller} through {self.name}")
        return answer(self._run(task, origin, profile), HTTPStatus.ACCEPTED)

    def _stopped(self, task: TaskState, reason: str) -> TaskState:
        """Stop the task and return it as it then is."""
        where = task["clusterArn"], task["taskArn"]
        self._lists.clear()
        try:
            self.tasks.stop(*where, reason)
        except AwsFailure:
            # StopTask takes the task's tags off, and by these we may stop it: another was faster.
            now = self.tasks.describe(*where)
            if now and (is_stopping(now) or now["lastStatus"] == "STOPPED"):
                return now
            raise
        return self.tasks.describe(*where) or task

    # ---------------------------------------------------------------- parts

    def _profiles(self) -> Profiles:
        if self.profiles_text is None:
            return Profiles({self.default.name: self.default})
        try:
            text = self.profiles_text.read(at_most_seconds_old=_COPY_SECONDS)
        except (AwsFailure, NotFound) as error:
            # A parameter that is missing, or that the function may not read.
            return Profiles({self.default.name: self.default}, unreadable=str(error))
        if text not in self._read:
            self._read.clear()
            self._read[text] = profiles = read_profiles(self.default, text)
            for name, problem in profiles.broken.items():
                _logger.warning("Profile %.40s cannot be used: %s", name, problem)
        return self._read[text]

    def _choose(self, name: str, caller: str) -> Profile:
        # The default one needs no parameter: nothing that is wrong with that is in its way.
        if name == self.default.name:
            return self.default
        return self._profiles().choose(name, caller)

    def _find(self, caller: str, run_id: str) -> _Found:
        profiles = self._profiles()
        mine = profiles.of(caller)
        refused: AwsFailure | None = None
        if RUN_ID.fullmatch(run_id):
            for cluster in dict.fromkeys(profile.cluster for profile in mine.values()):
                try:
                    task, is_known = self._task(cluster, run_id)
                except AwsFailure as error:
                    # One profile's cluster; the run may be in another's.
                    refused = error
                    continue
                origin = origin_of(task, self.name) if task else None
                if task and origin and origin.profile in mine:
                    return _Found(task, origin, mine[origin.profile], is_known)
                if origin and origin.profile in profiles.broken:
                    profiles.choose(origin.profile, caller)
        if refused:
            raise refused
        if profiles.unreadable:
            raise BrokenProfile(f"profiles: {profiles.unreadable}")
        raise NotThere("There is no such run.")

    def _task(self, cluster: str, run_id: str) -> tuple[TaskState | None, bool]:
        """Return the task, and whether ECS knows it."""
        arn = task_arn(cluster, run_id, self.function_arn)
        try:
            found = self.tasks.describe(cluster, arn)
        except NotFound:
            # The cluster is gone. What ran in it may still be in the log.
            found = None
        if found:
            return found, True
        return self.log().last_of(arn, self._now()), False

    def _is_new(self, task: TaskState) -> bool:
        """Say whether ECS may not know the task yet; else it does not know it any more."""
        created = utc_moment(task.get("createdAt", ""))
        return created is not None and self._now() - created < _UNKNOWN_AT_FIRST

    def _is_here(self, task: TaskState) -> bool:
        """Tell a task from that of a namesake, in a log of several accounts or Regions."""
        here = task_arn("", "", self.function_arn).removesuffix("//")
        return task["taskArn"].startswith(f"{here}/")

    def _live(self, cluster: str, family: str, *, is_one_of_many: bool) -> list[TaskState]:
        now = self.clock()
        read, tasks = self._lists.get((cluster, family), (-inf, []))
        if now - read <= _LIST_SECONDS:
            return tasks
        try:
            tasks = self.tasks.of_family(cluster, family, _MOST_LIVE)
        except (AwsFailure, NotFound) as error:
            if isinstance(error, AwsFailure) and not is_one_of_many:
                raise
            # One profile's cluster is gone, or not ours; that is no reason to hide the others'.
            _logger.warning("No tasks of %s in %s: %s", family, cluster, error)
            return []
        self._lists[cluster, family] = now, tasks
        return tasks

    def _origin(self, task: TaskState) -> Origin:
        origin = origin_of(task, self.name)
        if origin is None:
            raise AssertionError(f"{task['taskArn']} was started just now by {self.name}")
        return origin

    def _run(self, task: TaskState, origin: Origin, profile: Profile) -> Run:
        over = task["lastStatus"] == "STOPPED"
        return run_of(task, origin, self._deciding(task, profile) if over else ())

    def _deciding(self, task: TaskState, profile: Profile) -> Sequence[str]:
        definition = self._definition(task)
        names = [one.name for one in definition] or [one["name"] for one in task["containers"]]
        # The profile may have changed since.
        if profile.container in names:
            return (profile.container,)
        return [one.name for one in definition if one.essential] or names or [""]

    def _logging(self, task: TaskState, profile: Profile) -> ContainerDefinition:
        decides = self._deciding(task, profile)
        for container in self._definition(task):
            if container.name in decides and container.log_stream(""):
                return container
        raise NotThere(
            "Its container writes to no log that can be read here: that takes the awslogs driver "
            "with a stream prefix."
        )

    def _only_container(self, profile: Profile) -> str:
        try:
            known = self._containers(profile.task_definition)
            return choose_container(known, "", blame="container").name
        except InvalidRequest as error:
            # The operator's mistake, not the caller's.
            raise BrokenProfile(f"profile {profile.name}: {error}") from error

    def _definition(self, task: TaskState) -> Sequence[ContainerDefinition]:
        """Return the containers that the task was made with; none when nobody knows any more."""
        name = task.get("taskDefinitionArn")
        try:
            return self._containers(name) if name else ()
        except NotFound:
            return ()

    def _containers(self, definition: str) -> Sequence[ContainerDefinition]:
        read, known = self._definitions.get(definition, (-inf, ()))
        # A revision does not change, a family's newest one does.
        is_new = self.clock() - read <= _COPY_SECONDS
        if not known or not (is_new or _REVISION.search(definition)):
            known = self.tasks.containers(definition)
            self._definitions[definition] = (self.clock(), known)
        return known

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def _has_settled(self, run: Run) -> bool:
        stopped = run["stoppedAt"]
        if not stopped:
            return True
        return (self._now() - datetime.fromisoformat(stopped)).total_seconds() > _SETTLED_SECONDS


def _query(request: Request, allowed: Sequence[str]) -> dict[str, str]:
    """Return the parameters of a query; those that nobody knows are a mistake, not a wish."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name not in allowed:
            raise InvalidRequest(name, f"is not a parameter; allowed: {', '.join(allowed)}")
        if name in query:
            raise InvalidRequest(name, "is given twice")
        query[name] = value
    return query


def _shown(profile: Profile) -> Mapping[str, Any]:
    """Return the schema `Profile` of openapi.json: what a caller may set, and nothing else."""
    return {
        "name": profile.name,
        "environment": [{"name": rule.name, "pattern": rule.value} for rule in profile.environment],
        "command": profile.command,
        "maxCpu": profile.max_cpu or None,
        "maxMemory": profile.max_memory or None,
        "tags": list(profile.tags),
    }
