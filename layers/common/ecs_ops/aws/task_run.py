"""One task from CloudFormation's request to the answer, over as many invocations as it takes.

The promise: one answer, a true one, before CloudFormation stops waiting. Hence the order of the
operations, each of which may be the one at which the function is killed:

    begin            the clock is read once; every deadline counts from it
    stop-leftovers   Delete only: tasks of this resource that still run
    stack-status     while the stack rolls back, nothing runs
    prepare          what ECS knows of task definition and service
    start-task       RunTask, until there is room or the deadline comes
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
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, cast

from aws_durable_execution_sdk_python import InvocationError

from ecs_ops.aws.durable import GaveUp, attempt, explain, run_step, wait_until
from ecs_ops.aws.ecs_tasks import NotPlaced
from ecs_ops.aws.metrics import unmeasured
from ecs_ops.custom_resource import (
    CustomResourceRequest,
    answer_within,
    attributes,
    is_rolling_back,
    work_of,
)
from ecs_ops.errors import Conflict, EcsOpsError, InvalidRequest, NotFound, Transient
from ecs_ops.task_request import (
    ContainerDefinition,
    client_token,
    deciding_containers,
    inherit,
    run_task_arguments,
)
from ecs_ops.verdict import (
    Sighting,
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
    from collections.abc import Callable, Mapping, Sequence

    from aws_durable_execution_sdk_python import DurableContext
    from aws_durable_execution_sdk_python.types import LambdaContext
    from mypy_boto3_ecs.type_defs import RunTaskRequestTypeDef

    from ecs_ops.aws.metrics import Put
    from ecs_ops.custom_resource import Answer, RunTaskProperties
    from ecs_ops.task_request import ServicePlacement
    from ecs_ops.verdict import TaskState, Verdict

# Seconds between two looks at a task, at most: half of it is what an answer waits on average.
_LONGEST_LOOK = 5
# Seconds between two calls of RunTask while there is no room.
_LONGEST_START = 30
# Seconds that trouble may hold up what the answer does not depend on.
_PATIENCE_WITH_LEFTOVERS = 60
_PATIENCE_WITH_STATUS = 300
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
    began = run_step(context, "begin", outside.clock)
    answer = _Flow(request, context, outside, began).answer()

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


def stop_tasks(
    request: CustomResourceRequest, tasks: Tasks, *, origin: str, since: float, reason: str
) -> list[str]:
    """Stop the tasks of one origin that still run; return their ARNs.

    Args:
        request: says which cluster.
        tasks: where they run.
        origin: their `startedBy`.
        since: epoch seconds; what was created before is left alone.
        reason: for whoever looks at the task.

    Raises:
        EcsOpsError: the tasks could not be listed, or one of them not be stopped.
    """
    stopped, trouble = [], None
    for task in tasks.running(request.cluster or "default", origin):
        created = task.get("createdAt")
        if created and moment(created) < since - _CLOCK_SKEW:
            continue
        try:
            tasks.stop(task["clusterArn"], task["taskArn"], reason)
        except EcsOpsError as error:
            # The others are to stop all the same.
            trouble = error
        else:
            stopped.append(task["taskArn"])
    if trouble:
        raise trouble
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
class _Flow:
    """One request, on its way to an answer."""

    request: CustomResourceRequest
    context: DurableContext
    outside: Outside
    began: float

    def answer(self) -> Answer:
        # Whatever goes wrong becomes an answer: CloudFormation waits up to an hour for one that
        # does not come. What suspends the execution is a BaseException and passes.
        try:
            return self._work()
        except InvocationError:
            # The SDK's own: this invocation cannot go on, and Lambda begins another.
            raise
        except Exception as error:  # noqa: BLE001 - told to CloudFormation and logged
            told = self.request.hide(explain(error))
            # The frames without the error's own text, which may hold what must not be logged.
            frames = "".join(traceback.format_tb(error.__traceback__))
            self.context.logger.error("Answering FAILED: %s\n%s", told, frames)  # noqa: TRY400
            return self.request.failed(told)

    def _work(self) -> Answer:
        request = self.request
        if request.request_type == "Delete":
            self._stop_leftovers()
        try:
            work = work_of(request)
        except InvalidRequest:
            # To refuse the old properties would stop the rollback, for nothing would have run.
            if self._is_known_to_roll_back():
                return self._skipped()
            raise
        if work is None:
            return self._skipped()
        if not request.is_test and not work.run_on_rollback and self._is_rolling_back():
            return self._skipped()
        return self._run(work)

    def _skipped(self) -> Answer:
        return self.request.succeeded(attributes("Skipped"))

    def _is_rolling_back(self) -> bool:
        try:
            return self._attempt(
                "stack-status",
                lambda: is_rolling_back(self.outside.stacks.stack_status(self.request.stack_id)),
                self.began + min(_PATIENCE_WITH_STATUS, self.request.service_timeout / 2),
            )
        except GaveUp as error:
            raise GaveUp(
                f"Nothing was run, because the stack's status could not be read and it may be "
                f"rolling back: {error}. The role of run_task needs the permission "
                f"cloudformation:DescribeStacks for this stack."
            ) from error

    def _is_known_to_roll_back(self) -> bool:
        if self.request.is_test:
            return False
        try:
            return self._is_rolling_back()
        except GaveUp:
            return False

    def _stop_leftovers(self) -> None:
        try:
            stopped = self._attempt(
                "stop-leftovers",
                lambda: stop_tasks(
                    self.request,
                    self.outside.tasks,
                    origin=self.request.origin(deleting=False),
                    since=0,
                    reason="Custom::ECSRunTask: its resource is being deleted",
                ),
                self.began + min(_PATIENCE_WITH_LEFTOVERS, self.request.service_timeout / 2),
            )
        except GaveUp:
            return  # It is logged. Failing here would leave a stack that nobody can delete.
        if stopped:
            self.context.logger.info("Stopped what still ran: %s", ", ".join(stopped))

    def _run(self, work: RunTaskProperties) -> Answer:
        deadline = self.began + work.patience
        prepared = self._attempt("prepare", lambda: self._prepare(work), deadline)
        containers = [ContainerDefinition(**one) for one in prepared["containers"]]
        start = self._start(work, prepared["service"], containers[0].name, deadline)
        task = start["task"]
        if task is None:
            return self.request.failed(self._not_started(work, start))
        identity = task_id(task["taskArn"])
        group, stream = containers[0].log_group, containers[0].log_stream(identity)
        if not work.wait_for_exit:
            return self.request.succeeded(
                attributes("Started", task=task, log_group=group, log_stream=stream)
            )
        last, verdict = self._watch(work, task, [one.name for one in containers], deadline)
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

    def _start(
        self, work: RunTaskProperties, service: ServicePlacement, container: str, deadline: float
    ) -> _Start:
        cause = self.request.cause
        if self.request.is_test:
            # A saved test event always has the same ids; each invocation is still to run a task.
            cause = (*cause, self.context.execution_context.durable_execution_arn)
        # One token for all attempts, also after ECS had no room: another delivery of this request
        # may find room meanwhile, and with a second token its task would be a second migration.
        arguments = run_task_arguments(
            inherit(work.task, service),
            container=container,
            token=client_token(*cause),
            origin=self.request.own_origin,
            blame="Environment",
        )

        def start(last: _Start | None) -> _Start:
            doubt = last["doubt"] if last else False
            try:
                task = self._hidden(self._run_task(arguments))
            except NotPlaced as error:
                return _not_yet(self.request.hide(str(error)), doubt=False)
            except Transient as error:
                return _not_yet(self.request.hide(str(error)), doubt=True)
            except Exception as error:  # noqa: BLE001 - told to CloudFormation
                return {**_not_yet(self.request.hide(explain(error)), doubt=doubt), "over": True}
            return {"task": task, "doubt": False, "why": "", "over": True}

        waited = wait_until(
            self.context,
            "start-task",
            start,
            lambda seen: seen["over"],
            deadline=deadline,
            max_delay=_LONGEST_START,
            clock=self.outside.clock,
        )
        return cast("_Start", waited.seen)

    def _run_task(self, arguments: RunTaskRequestTypeDef) -> TaskState:
        try:
            return self.outside.tasks.run(arguments)
        except Conflict:
            # Another delivery of this request started it, with what the service said then.
            cluster = self.request.cluster or "default"
            running = self.outside.tasks.running(cluster, self.request.own_origin)
            if len(running) == 1:
                return running[0]
            raise

    def _not_started(self, work: RunTaskProperties, start: _Start) -> str:
        told = start["why"]
        if start["doubt"]:
            try:
                stopped = self._attempt("stop-task", self._stop_unanswered, self._last_call)
            except GaveUp as error:
                told = f"{told}. A task may be running all the same, and was not stopped: {error}"
            else:
                names = ", ".join(task_id(arn) for arn in stopped)
                told = (
                    f"{told}. Had started all the same and was stopped: {names}" if names else told
                )
        if start["over"]:
            return told
        return f"Task was not started within {work.patience} seconds: {told}"

    def _stop_unanswered(self) -> list[str]:
        return stop_tasks(
            self.request,
            self.outside.tasks,
            origin=self.request.own_origin,
            since=self.began,
            reason="Custom::ECSRunTask: its start got no answer",
        )

    def _watch(
        self, work: RunTaskProperties, task: TaskState, containers: list[str], deadline: float
    ) -> tuple[Sighting, Verdict]:
        at_start: _Watch = {"last": {"task": task, "missed": 0}, "refused": ""}

        def watch(seen: _Watch | None) -> _Watch:
            last = (seen or at_start)["last"]
            try:
                now = self.outside.tasks.describe(task["clusterArn"], task["taskArn"])
            except Transient:
                return {"last": last, "refused": ""}
            except Exception as error:  # noqa: BLE001 - told to CloudFormation
                return {"last": last, "refused": self.request.hide(explain(error))}
            return {"last": look(last, self._hidden(now)), "refused": ""}

        waited = wait_until(
            self.context,
            "watch-task",
            watch,
            lambda seen: bool(seen["refused"]) or is_over(seen["last"]),
            deadline=deadline,
            max_delay=_LONGEST_LOOK,
            clock=self.outside.clock,
        )
        seen = waited.seen or at_start
        last, refused = seen["last"], seen["refused"]
        if not refused and has_vanished(last):
            return last, vanished(last["task"])
        if not refused and is_over(last):
            return last, judge(last["task"], containers, work.success_exit_codes)
        trouble = self._stop(task, "it cannot be watched" if refused else "its time is up")
        if refused:
            stopped = f"it was not stopped: {trouble}" if trouble else "it was stopped"
            raise GaveUp(f"{refused}. Without that nobody knows how the task ends, so {stopped}.")
        return last, overdue(last["task"], work.patience, trouble)

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
            hide=self.request.hide,
            clock=self.outside.clock,
        )


def _not_yet(why: str, *, doubt: bool) -> _Start:
    return {"task": None, "doubt": doubt, "why": why, "over": False}
