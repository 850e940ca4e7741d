"""One task from CloudFormation's request to the answer, over as many invocations as it takes.

The promise: one answer, a true one, before CloudFormation stops waiting. Hence the order of the
operations, each of which may be the one at which the function is killed:

    begin            when the request was sent, and when it came; deadlines count from these
    stop-leftovers   on Delete: tasks of this resource that still run
    stack-status     while the stack rolls back, or when it is done, nothing runs
    stop-leftovers   of an Update that is undone: the task that nobody waits for any more
    prepare          what ECS knows of task definition and service
    start-task       RunTask, until there is room, the stack is cancelled or the deadline comes
    watch-task       DescribeTasks, until the task has stopped or the deadline comes
    stop-task        only at the deadline, or when the task can no longer be watched
    read-log         only when it failed
    answer           to CloudFormation, for as long as that waits
"""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, cast

from aws_durable_execution_sdk_python import InvocationError

from ecs_ops.aws.durable import GaveUp, attempt, explain, run_step, wait_until
from ecs_ops.aws.ecs_tasks import NotPlaced, RoleNotAssumed
from ecs_ops.aws.metrics import unmeasured
from ecs_ops.custom_resource import (
    CustomResourceRequest,
    answer_within,
    attributes,
    phase_of,
    work_of,
)
from ecs_ops.errors import (
    Conflict,
    EcsOpsError,
    InvalidRequest,
    NotFound,
    Throttled,
    Transient,
)
from ecs_ops.task_request import (
    ContainerDefinition,
    client_token,
    deciding_containers,
    inherit,
    run_task_arguments,
)
from ecs_ops.verdict import (
    Sighting,
    has_ended,
    has_vanished,
    is_over,
    judge,
    look,
    overdue,
    report,
    task_id,
    vanished,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from aws_durable_execution_sdk_python import DurableContext
    from aws_durable_execution_sdk_python.types import LambdaContext
    from mypy_boto3_ecs.type_defs import RunTaskRequestTypeDef

    from ecs_ops.aws.metrics import Put
    from ecs_ops.custom_resource import Answer, Kind, Phase, RunTaskProperties
    from ecs_ops.task_request import ServicePlacement
    from ecs_ops.verdict import TaskState, Verdict

# Seconds between two looks at a task, at most: half of it is what an answer waits on average.
_LONGEST_LOOK = 5
# Seconds between two calls of RunTask while there is no room.
_LONGEST_START = 30
# Seconds that trouble may hold up what the answer does not depend on.
_PATIENCE_WITH_LEFTOVERS = 60
_PATIENCE_WITH_STATUS = 300
# Seconds after which a stack's status is read again before a task is started.
_STATUS_IS_FRESH = 30
# Seconds in which a role that was made with the stack is known everywhere.
_PATIENCE_WITH_ROLES = 120
# What a Delete is to stop: all but the task that it runs itself.
_ALL_KINDS: Final[tuple[Kind, ...]] = ("", "wait", "rollback")
# A task this much older than its execution is another one's; clocks differ a little.
_CLOCK_SKEW = 60


class Tasks(Protocol):
    """What `ecs_ops.aws.ecs_tasks.EcsTasks` does, and a fake can do."""

    def run(self, arguments: RunTaskRequestTypeDef) -> TaskState: ...
    def describe(self, cluster: str, task_arn: str) -> TaskState | None: ...
    def stop(self, cluster: str, task_arn: str, reason: str) -> None: ...
    def running(self, cluster: str, origin: str) -> list[TaskState]: ...
    def placement(self, cluster: str, service: str) -> ServicePlacement: ...
    def containers(self, task_definition: str) -> Sequence[ContainerDefinition]: ...


class Stacks(Protocol):
    """What `ecs_ops.aws.cloudformation.Stacks` does, and a fake can do."""

    def stack_status(self, stack_id: str) -> str: ...
    def statuses_above(self, stack_id: str) -> list[str]: ...


class Logs(Protocol):
    """What `ecs_ops.aws.container_logs.ContainerLogs` does, and a fake can do."""

    def last_lines(
        self, group: str, stream: str, region: str = "", limit: int = 10
    ) -> list[str]: ...


class Answers(Protocol):
    """What `ecs_ops.aws.cloudformation.CloudFormation` does, and a fake can do."""

    def answer(
        self, event: Mapping[str, Any], answer: Answer, lambda_context: LambdaContext | None
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Everything that is not in this process."""

    tasks: Tasks
    stacks: Stacks
    logs: Logs
    answers: Answers
    clock: Callable[[], float] = time.time
    """Epoch seconds; read only inside operations, so that a replay reads what was stored."""
    put: Put = unmeasured
    """Writes metrics; only inside operations, for the same reason."""


class _Prepared(TypedDict):
    """What ECS knows of the task before it runs; the SDK stores it as JSON."""

    containers: list[dict[str, Any]]
    """Those that decide, each with the fields of a `ContainerDefinition`."""
    service: ServicePlacement


class _Times(TypedDict):
    """When a request came; the SDK stores it as JSON. Epoch seconds."""

    sent: float
    arrived: float


class StackNow(TypedDict):
    """What a stack is about; the SDK stores it as JSON."""

    status: str
    phase: Phase
    read_at: float
    """Epoch seconds."""


class _Start(TypedDict):
    """How far starting the task has come; the SDK stores it as JSON."""

    task: TaskState | None
    doubt: bool
    """The last call got no answer: there may be a task all the same."""
    why: str
    over: bool


class _Watch(TypedDict):
    """What the looks at a task have found; the SDK stores it as JSON."""

    last: Sighting
    refused: str
    """Why ECS does not let us look; '' while it does."""


def respond(event: Mapping[str, Any], context: DurableContext, outside: Outside) -> Answer:
    """Do what the event asks, answer CloudFormation, and return the answer.

    Args:
        event: as CloudFormation sends it; a truthy `Test` in it means that nobody is answered.
        context: of the durable handler.
        outside: where tasks run, logs are and answers go.

    Raises:
        InvalidRequest: the event is no request that could be answered.
        GaveUp: CloudFormation could not be told before it stopped waiting.
    """
    request = CustomResourceRequest.parse(event)

    def begin() -> _Times:
        now = outside.clock()
        return {"sent": request.sent_at(now), "arrived": now}

    times = run_step(context, "begin", begin)
    began = times["sent"]
    answer = _Flow(request, context, outside, began, times["arrived"]).answer()

    def tell() -> None:
        outside.answers.answer(event, answer, context.lambda_context)
        measure(answer, outside, since=began)

    if not request.is_test:
        attempt(
            context,
            "answer",
            tell,
            deadline=began + request.service_timeout,
            hide=request.hide,
            clock=outside.clock,
        )
    return answer


def look_at_stack(
    request: CustomResourceRequest, stacks: Stacks, clock: Callable[[], float]
) -> StackNow:
    """Return what the request's stack is about.

    Raises:
        EcsOpsError: it could not be read.
    """
    status = stacks.stack_status(request.stack_id)
    phase = phase_of(status, request.request_type)
    if request.request_type == "Delete" and phase == "under way":
        # A nested stack that goes because the one above rolls back is only deleted, by its status.
        for above in stacks.statuses_above(request.stack_id):
            if phase_of(above, "Delete") == "rolling back":
                status, phase = above, "rolling back"
    return {"status": status, "phase": phase, "read_at": clock()}


def stop_tasks(
    request: CustomResourceRequest,
    tasks: Tasks,
    *,
    kinds: Sequence[Kind],
    since: float,
    reason: str,
    clusters: Collection[str] = (),
) -> list[str]:
    """Stop the tasks of some kinds that still run; return their ARNs.

    Args:
        request: says whose.
        tasks: where they run.
        kinds: of task.
        since: epoch seconds; what was created before is left alone.
        reason: for whoever looks at the task.
        clusters: by default that of the request.

    Raises:
        EcsOpsError: the tasks could not be listed, or one of them not be stopped.
    """
    stopped: list[str] = []
    troubles: list[EcsOpsError] = []
    for cluster, kind in product(dict.fromkeys(clusters or (request.cluster,)), kinds):
        # What cannot be listed or stopped must not keep the others.
        try:
            running = tasks.running(cluster or "default", request.origin(kind))
        except EcsOpsError as error:
            troubles.append(error)
            if isinstance(error, Transient) and not isinstance(error, Throttled):
                break  # Each further call may hang as long, and the answer waits.
            continue
        for task in running:
            if not _is_since(task, since):
                continue
            try:
                tasks.stop(task["clusterArn"], task["taskArn"], reason)
            except EcsOpsError as error:
                troubles.append(error)
            else:
                stopped.append(task["taskArn"])
    if troubles:
        # What may pass is worth another try, whatever does not.
        raise next((one for one in troubles if isinstance(one, Transient)), troubles[0])
    return stopped


def measure(answer: Answer, outside: Outside, *, since: float) -> None:
    """Count an answer that was delivered, and the seconds from the request to it."""
    outside.put(
        {"Answers": 1, "AnswerLatency": max(0.0, outside.clock() - since)},
        Outcome=answer["Data"].get("Outcome", "Failed"),
    )


def moment(text: str) -> float:
    """Return epoch seconds of an ISO 8601 time; without an offset it is UTC."""
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True)
class _Job:
    """A task that is to run."""

    work: RunTaskProperties
    stack: StackNow | None
    """As it was when the request came; None for a test."""
    kind: Kind
    deadline: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class _Flow:
    """One request, on its way to an answer."""

    request: CustomResourceRequest
    context: DurableContext
    outside: Outside
    began: float
    """When CloudFormation began to wait: epoch seconds."""
    arrived: float
    """When this delivery of the request came."""

    def answer(self) -> Answer:
        # Whatever goes wrong becomes an answer: CloudFormation waits up to an hour for one that
        # does not come. What suspends the execution is a BaseException and passes.
        try:
            return self._work()
        except InvocationError:
            # The SDK's own: this invocation cannot go on, and Lambda begins another.
            raise
        except Exception as error:  # noqa: BLE001 - told to CloudFormation and logged
            told = self._told(error)
            # The frames without the error's own text, which may hold what must not be logged.
            frames = "".join(traceback.format_tb(error.__traceback__))
            self.context.logger.error("Answering FAILED: %s\n%s", told, frames)  # noqa: TRY400
            return self.request.failed(told)

    def _told(self, error: Exception) -> str:
        """Say what went wrong, without what is secret."""
        if isinstance(error, GaveUp | InvalidRequest):
            return str(error)  # What is foreign in it has been hidden; the rest are our own words.
        return self.request.hide_in_error(explain(error))

    def _work(self) -> Answer:
        request = self.request
        if request.request_type == "Delete":
            self._stop_leftovers(_ALL_KINDS, "its resource is being deleted", (request.cluster,))
        work, wrong = None, None
        try:
            work = work_of(request)
        except InvalidRequest as error:
            wrong = error
        stack = self._stack(work, wrong)
        if stack and stack["phase"] == "rolling back":
            if request.request_type == "Update":
                # CloudFormation has ceased to wait for the update that is undone.
                clusters = request.cluster, request.old_cluster
                self._stop_leftovers(("wait",), "its update is rolled back", clusters)
            if request.is_left_out_of_rollbacks(work):
                return request.skipped()
        if wrong:
            raise wrong
        if not work:
            return request.skipped()
        if stack and stack["phase"] == "over":
            return self._nobody_waits(stack)
        job = self._job(work, stack)
        return self._run(job) if self.arrived < job.deadline else self._too_late()

    def _job(self, work: RunTaskProperties, stack: StackNow | None) -> _Job:
        kind: Kind = "wait" if work.wait_for_exit else ""
        if self.request.request_type == "Delete":
            kind = "delete"
        elif stack and stack["phase"] == "rolling back":
            kind = "rollback"
        return _Job(work, stack, kind, work.deadline(sent=self.began, arrived=self.arrived))

    def _too_late(self) -> Answer:
        late = round(self.arrived - self.began)
        return self.request.failed(
            f"Nothing was run: the request came {late} seconds after CloudFormation had sent it, "
            f"and ServiceTimeout leaves no time for a task."
        )

    def _nobody_waits(self, stack: StackNow) -> Answer:
        if self.request.request_type == "Delete":
            return self.request.skipped()
        return self.request.failed(_unwanted(stack))

    def _stack(
        self, work: RunTaskProperties | None, wrong: InvalidRequest | None
    ) -> StackNow | None:
        """Return what the stack is about; None when that does not matter, or cannot be known.

        It matters to an Update also if that would run nothing: see `stop-leftovers`.
        """
        request = self.request
        if request.is_test or not (work or wrong or request.request_type == "Update"):
            return None
        try:
            return self._attempt(
                "stack-status",
                lambda: look_at_stack(request, self.outside.stacks, self.outside.clock),
                self._patient(_PATIENCE_WITH_STATUS),
            )
        except GaveUp as error:
            if not work:
                return None
            raise GaveUp(
                f"Nothing was run, because the stack's status could not be read and it may be "
                f"rolling back: {error}. The role of run_task needs the permission "
                f"cloudformation:DescribeStacks for this stack."
            ) from error

    def _stop_leftovers(self, kinds: Sequence[Kind], why: str, clusters: Collection[str]) -> None:
        try:
            stopped = self._attempt(
                "stop-leftovers",
                lambda: stop_tasks(
                    self.request,
                    self.outside.tasks,
                    kinds=kinds,
                    since=0,
                    reason=f"Custom::ECSRunTask: {why}",
                    clusters=clusters,
                ),
                self._patient(_PATIENCE_WITH_LEFTOVERS),
            )
        except GaveUp:
            return  # It is logged. Failing here would leave a stack that nobody can delete.
        if stopped:
            self.context.logger.info("Stopped what still ran: %s", ", ".join(stopped))

    def _patient(self, seconds: int) -> float:
        """Return a deadline for what the answer does not depend on, so many seconds at most."""
        left = self.began + self.request.service_timeout - self.arrived
        return self.arrived + min(seconds, left / 2)

    def _run(self, job: _Job) -> Answer:
        prepared = self._attempt("prepare", lambda: self._prepare(job.work), job.deadline)
        containers = [ContainerDefinition(**one) for one in prepared["containers"]]
        start = self._start(job, prepared["service"], containers[0].name)
        task = start["task"]
        if task is None:
            return self.request.failed(self._not_started(job, start))
        try:
            return self._follow(job, task, containers)
        except (GaveUp, InvocationError):
            raise
        except Exception:
            # Nobody will know how the task ends, as when it cannot be watched.
            self._stop(task, "nobody watches it any more")
            raise

    def _follow(self, job: _Job, task: TaskState, containers: list[ContainerDefinition]) -> Answer:
        identity = task_id(task["taskArn"])
        group, stream = containers[0].log_group, containers[0].log_stream(identity)
        if not job.work.wait_for_exit:
            return self.request.succeeded(
                attributes("Started", task=task, log_group=group, log_stream=stream)
            )
        last, verdict = self._watch(job, task, [one.name for one in containers])
        if not verdict.succeeded:
            return self.request.failed(self._report(verdict, containers, identity))
        return self.request.succeeded(
            attributes(
                "Succeeded",
                task=last["task"],
                exit_code=verdict.exit_code,
                log_group=group,
                log_stream=stream,
            )
        )

    def _prepare(self, work: RunTaskProperties) -> _Prepared:
        tasks, task = self.outside.tasks, work.task
        try:
            containers = tasks.containers(task.task_definition)
        except NotFound as error:
            raise InvalidRequest("TaskDefinition", str(error)) from error
        deciding = deciding_containers(
            containers,
            work.container,
            overrides=bool(task.command or task.environment),
            blame="ContainerName",
        )
        service: ServicePlacement = {}
        if work.service:
            try:
                service = tasks.placement(task.cluster or "default", work.service)
            except NotFound as error:
                raise InvalidRequest("Service", str(error)) from error
        return {"containers": [asdict(one) for one in deciding], "service": service}

    def _start(self, job: _Job, service: ServicePlacement, container: str) -> _Start:
        cause = self.request.cause
        if self.request.is_test:
            # A saved test event always has the same ids; each invocation is still to run a task.
            cause = (*cause, self.context.execution_context.durable_execution_arn)
        # One token for all attempts, also after ECS had no room: another delivery of this request
        # may find room meanwhile, and with a second token its task would be a second migration.
        arguments = run_task_arguments(
            inherit(job.work.task, service),
            container=container,
            token=client_token(*cause),
            origin=self.request.origin(job.kind),
            blame="Environment",
        )

        def start(last: _Start | None) -> _Start:
            doubt, asked = last["doubt"] if last else False, False
            try:
                self._check_stack(job, first=last is None)
                asked = True
                task = self._hidden(self._run_task(arguments))
            except NotPlaced as error:
                return _not_yet(self._told(error), doubt=False)
            except RoleNotAssumed as error:
                over = self.outside.clock() > self.arrived + _PATIENCE_WITH_ROLES
                return {**_not_yet(self._told(error), doubt=False), "over": over}
            except Transient as error:
                return _not_yet(self._told(error), doubt=doubt or asked)
            except Exception as error:  # noqa: BLE001 - told to CloudFormation
                doubt = doubt or (asked and not isinstance(error, EcsOpsError))
                return {**_not_yet(self._told(error), doubt=doubt), "over": True}
            return {"task": task, "doubt": False, "why": "", "over": True}

        waited = wait_until(
            self.context,
            "start-task",
            start,
            lambda seen: seen["over"],
            deadline=job.deadline,
            max_delay=_LONGEST_START,
            clock=self.outside.clock,
        )
        return cast("_Start", waited.seen)

    def _check_stack(self, job: _Job, *, first: bool) -> None:
        """Read again what the stack is about, unless that has just been done.

        Raises:
            GaveUp: while there was no room, it was cancelled, rolled back or deleted. What began
                now would run beside, or after, what CloudFormation does instead.
        """
        then = job.stack
        if then is None or (first and self.outside.clock() < then["read_at"] + _STATUS_IS_FRESH):
            return
        now = look_at_stack(self.request, self.outside.stacks, self.outside.clock)
        if now["phase"] != then["phase"]:
            raise GaveUp(_unwanted(now))

    def _run_task(self, arguments: RunTaskRequestTypeDef) -> TaskState:
        try:
            return self.outside.tasks.run(arguments)
        except Conflict:
            # Another delivery of this request started it, with what the service said then.
            cluster, origin = self.request.cluster or "default", arguments["startedBy"]
            running = self.outside.tasks.running(cluster, origin)
            own = [task for task in running if _is_since(task, self.began)]
            if len(own) == 1:
                return own[0]
            raise

    def _not_started(self, job: _Job, start: _Start) -> str:
        told = start["why"]
        if start["doubt"]:
            try:
                stopped = self._attempt(
                    "stop-task", lambda: self._stop_unanswered(job), self._last_call
                )
            except GaveUp as error:
                told = f"{told}. A task may be running all the same, and was not stopped: {error}"
            else:
                names = ", ".join(task_id(arn) for arn in stopped)
                told = (
                    f"{told}. Had started all the same and was stopped: {names}" if names else told
                )
        if start["over"]:
            return told
        return f"Task was not started within {job.work.patience} seconds: {told}"

    def _stop_unanswered(self, job: _Job) -> list[str]:
        return stop_tasks(
            self.request,
            self.outside.tasks,
            kinds=(job.kind,),
            since=self.began,
            reason="Custom::ECSRunTask: its start got no answer",
        )

    def _watch(self, job: _Job, task: TaskState, containers: list[str]) -> tuple[Sighting, Verdict]:
        at_start: _Watch = {"last": {"task": task, "missed": 0}, "refused": ""}

        def watch(seen: _Watch | None) -> _Watch:
            last = (seen or at_start)["last"]
            try:
                now = self.outside.tasks.describe(task["clusterArn"], task["taskArn"])
            except Transient:
                return {"last": last, "refused": ""}
            except Exception as error:  # noqa: BLE001 - told to CloudFormation
                return {"last": last, "refused": self._told(error)}
            return {"last": look(last, self._hidden(now)), "refused": ""}

        waited = wait_until(
            self.context,
            "watch-task",
            watch,
            lambda seen: bool(seen["refused"]) or is_over(seen["last"]),
            deadline=job.deadline,
            max_delay=_LONGEST_LOOK,
            clock=self.outside.clock,
        )
        seen = waited.seen or at_start
        last, refused = seen["last"], seen["refused"]
        if not refused and has_vanished(last):
            return last, vanished(last["task"])
        if not refused and has_ended(last["task"], containers):
            return last, judge(last["task"], containers, job.work.success_exit_codes)
        trouble = self._stop(task, "it cannot be watched" if refused else "its time is up")
        if refused:
            stopped = f"it was not stopped: {trouble}" if trouble else "it was stopped"
            raise GaveUp(f"{refused}. Without that nobody knows how the task ends, so {stopped}.")
        return last, overdue(last["task"], job.work.patience, trouble)

    def _hidden(self, task: TaskState | None) -> TaskState | None:
        """Return the task without secrets in what ECS says of it."""
        if task is None:
            return None
        hidden: TaskState = {**task, "containers": [{**one} for one in task["containers"]]}
        if reason := hidden.get("stoppedReason"):
            hidden["stoppedReason"] = self.request.hide(reason)
        for container in hidden["containers"]:
            if reason := container.get("reason"):
                container["reason"] = self.request.hide(reason)
        return hidden

    def _stop(self, task: TaskState, why: str) -> str:
        """Stop the task; return why that failed, '' when it did not."""

        def stop() -> None:
            reason = f"Custom::ECSRunTask: {why}"
            self.outside.tasks.stop(task["clusterArn"], task["taskArn"], reason)

        try:
            self._attempt("stop-task", stop, self._last_call)
        except GaveUp as error:
            return str(error)
        return ""

    def _report(
        self, verdict: Verdict, containers: list[ContainerDefinition], identity: str
    ) -> str:
        blamed = {one.name: one for one in containers}.get(verdict.container, containers[0])
        group, stream = blamed.log_group, blamed.log_stream(identity)

        def read() -> list[str]:
            if self.outside.clock() > self._last_call:
                return []
            lines = self.outside.logs.last_lines(group, stream, region=blamed.log_region)
            return [self.request.hide_in_line(line) for line in lines]

        lines: list[str] = []
        if stream:
            try:
                lines = self._attempt("read-log", read, self.began)
            except GaveUp:
                lines = []  # It is logged. A missing log must not lose a verdict.
        return report(verdict, group=group, stream=stream, lines=lines)

    @property
    def _last_call(self) -> float:
        """Epoch seconds after which nothing but the answer may take time."""
        timeout = answer_within(self.request.service_timeout)
        return self.began + timeout - min(15, timeout / 6)

    def _attempt[T](self, name: str, func: Callable[[], T], deadline: float) -> T:
        return attempt(
            self.context,
            name,
            func,
            deadline=deadline,
            hide=self.request.hide_in_error,
            clock=self.outside.clock,
        )


def _is_since(task: TaskState, since: float) -> bool:
    """Say whether a task was created since then, as far as one knows."""
    created = task.get("createdAt")
    return not created or moment(created) >= since - _CLOCK_SKEW


def _unwanted(stack: StackNow) -> str:
    return (
        f"Nothing was run: the stack is {stack['status']} by now, and waits for this request "
        f"no longer"
    )


def _not_yet(why: str, *, doubt: bool) -> _Start:
    return {"task": None, "doubt": doubt, "why": why, "over": False}
