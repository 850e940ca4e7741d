"""One task from CloudFormation's request to the answer, over as many invocations as it takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from aws_durable_execution_sdk_python import InvocationError

from ecs_ops.aws.durable import explain, run_step, wait_until
from ecs_ops.custom_resource import CustomResourceRequest, attributes, work_of
from ecs_ops.task_request import choose_container, client_token, run_task_arguments, started_by
from ecs_ops.verdict import (
    Sighting,
    Verdict,
    has_vanished,
    is_over,
    judge,
    look,
    overdue,
    task_id,
    vanished,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aws_durable_execution_sdk_python import DurableContext
    from aws_durable_execution_sdk_python.types import LambdaContext
    from mypy_boto3_ecs.type_defs import RunTaskRequestTypeDef

    from ecs_ops.custom_resource import Answer, RunTaskProperties
    from ecs_ops.task_request import ContainerDefinition
    from ecs_ops.verdict import TaskState


class Tasks(Protocol):
    """What `ecs_ops.aws.ecs_tasks.EcsTasks` does, and a fake can do."""

    def run(self, arguments: RunTaskRequestTypeDef) -> TaskState: ...
    def describe(self, cluster: str, task_arn: str) -> TaskState | None: ...
    def containers(self, task_definition: str) -> Sequence[ContainerDefinition]: ...


class Answers(Protocol):
    """What `ecs_ops.aws.cloudformation.CloudFormation` does, and a fake can do."""

    def answer(
        self, event: Mapping[str, Any], answer: Answer, lambda_context: LambdaContext | None
    ) -> None: ...


class _Started(TypedDict):
    """Result of the step that starts the task; the SDK stores it as JSON."""

    task: TaskState
    container: str
    log_group: str
    log_stream: str


def respond(
    event: Mapping[str, Any],
    context: DurableContext,
    tasks: Tasks,
    answers: Answers,
    clock: Callable[[], float] = time.time,
) -> Answer:
    """Do what the event asks, answer CloudFormation, and return the answer.

    Args:
        event: as CloudFormation sends it; a truthy `Test` in it means that nobody is answered.
        context: of the durable handler.
        tasks: where tasks run.
        answers: where answers go.
        clock: epoch seconds; read only inside steps.

    Raises:
        InvalidRequest: the event is no request that could be answered.
    """
    request = CustomResourceRequest.parse(event)
    answer = _answer_to(request, context, tasks, clock)
    if not request.is_test:
        run_step(context, "answer", lambda: answers.answer(event, answer, context.lambda_context))
    return answer


def _answer_to(
    request: CustomResourceRequest,
    context: DurableContext,
    tasks: Tasks,
    clock: Callable[[], float],
) -> Answer:
    # Whatever goes wrong becomes an answer: CloudFormation waits up to an hour for one that does
    # not come. What suspends the execution is a BaseException and passes.
    try:
        work = work_of(request)
        if work is None:
            return request.succeeded(attributes("Skipped"))
        return _run(request, work, context, tasks, clock)
    except InvocationError:
        # The SDK's own: this invocation cannot go on, and Lambda begins another.
        raise
    except Exception as error:
        context.logger.exception("No verdict on a task: answering FAILED")
        return request.failed(explain(error))


def _run(
    request: CustomResourceRequest,
    work: RunTaskProperties,
    context: DurableContext,
    tasks: Tasks,
    clock: Callable[[], float],
) -> Answer:
    began = run_step(context, "begin", clock)
    started = run_step(context, "start-task", lambda: _start(request, work, context, tasks))
    task, group, stream = started["task"], started["log_group"], started["log_stream"]
    if not work.wait_for_exit:
        return request.succeeded(
            attributes("Started", task=task, log_group=group, log_stream=stream)
        )
    at_start: Sighting = {"task": task, "missed": 0}
    waited = wait_until(
        context,
        "watch-task",
        lambda last: look(last or at_start, tasks.describe(task["clusterArn"], task["taskArn"])),
        is_over,
        deadline=began + work.patience,
        clock=clock,
    )
    last = waited.seen or at_start
    verdict = _verdict(last, work, started["container"])
    if not verdict.succeeded:
        return request.failed(verdict.sentence)
    code = verdict.exit_code
    return request.succeeded(
        attributes(
            "Succeeded", task=last["task"], exit_code=code, log_group=group, log_stream=stream
        )
    )


def _start(
    request: CustomResourceRequest,
    work: RunTaskProperties,
    context: DurableContext,
    tasks: Tasks,
) -> _Started:
    containers = tasks.containers(work.task.task_definition)
    container = choose_container(containers, work.container, blame="ContainerName")
    cause = [request.stack_id, request.logical_resource_id, request.request_id]
    if request.is_test:
        # A saved test event always has the same ids; each invocation is still to run a task.
        cause.append(context.execution_context.durable_execution_arn)
    task = tasks.run(
        run_task_arguments(
            work.task,
            container=container.name,
            token=client_token(*cause),
            origin=started_by("run_task", request.stack_name, request.logical_resource_id),
            blame="Environment",
        )
    )
    return {
        "task": task,
        "container": container.name,
        "log_group": container.log_group,
        "log_stream": container.log_stream(task_id(task["taskArn"])),
    }


def _verdict(last: Sighting, work: RunTaskProperties, container: str) -> Verdict:
    if has_vanished(last):
        return vanished(last["task"])
    if not is_over(last):
        return overdue(last["task"], work.patience)
    return judge(last["task"], container, work.success_exit_codes)
