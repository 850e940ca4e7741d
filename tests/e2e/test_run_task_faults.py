"""Whatever goes wrong, CloudFormation gets one true answer, and one task ran where one should.

Every cell is a stack. They all live at once, and each has a test that looks at what became of it.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import WaiterError

from tests.e2e.faults import ANSWER, REQUEST, Faults
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from tests.sandbox.account import Account

FUNCTION = "ecs-ops-run-task"
# Long for a task of a second, short for a machine with much else to do.
SERVICE_TIMEOUT = 120
# More calls than a boto3 client of the functions makes before it gives up.
MANY = 4
AT_ONCE = 8
_CHECKPOINT = "lambda:CheckpointDurableExecution"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What goes wrong, and what has to come of it."""

    name: str
    faults: tuple[dict[str, Any], ...] = ()
    story: Callable[[Stack], None] = lambda stack: stack.create()
    """What is done with the stack."""
    properties: dict[str, Any] = field(default_factory=dict)
    image: str = "busybox"
    request: str = "Create"
    """Type of the request whose answer is judged, the first of its type."""
    status: str = "SUCCESS"
    says: str = ""
    """Part of the reason."""
    tasks: int = 1
    """How many were started."""
    answers: int = 1
    """How many each request gets at least: one for each delivery."""
    repeated: bool = False
    """Whether an answer may be put more than once; what it says must not change."""


class Stack:
    """The stack of one cell, and the cluster, task definition and log group of its name."""

    def __init__(self, account: Account, clients: dict[str, Any], token: str, cell: Cell) -> None:
        self.cell, self.token = cell, token
        self.name = f"fault-{uuid.uuid4().hex[:8]}"
        self.ecs, self.lambda_, self.cloudformation = (
            clients[service] for service in ("ecs", "lambda", "cloudformation")
        )
        self.faults = Faults(account, self.name)

    def live(self) -> Stack:
        """Do what the cell says, and wait until all is over."""
        self.ecs.create_cluster(clusterName=self.name)
        self._define()
        self.cell.story(self)
        self.answers()
        return self

    def create(self, meddle: Callable[[Stack], None] | None = None, **others: Any) -> None:
        """Create the stack, with the cell's faults unless they are for later.

        Args:
            meddle: is called once the task runs.
            others: properties of further resources, by name; each waits for the one before.
        """
        if self.cell.request == "Create":
            self.inject()
        self.begin(**others)
        if meddle:
            self.running_task()
            meddle(self)
        self.wait("stack_create_complete")

    def begin(self, **others: Any) -> None:
        """Begin to create the stack."""
        template = self._template({"Run": self.cell.properties, **others})
        self.cloudformation.create_stack(StackName=self.name, TemplateBody=template)

    def update(self, **others: Any) -> None:
        """Update the stack such that its task runs again."""
        self.inject()
        run = {**self.cell.properties, "Iteration": "2"}
        template = self._template({"Run": run, **others})
        self.cloudformation.update_stack(StackName=self.name, TemplateBody=template)
        self.wait("stack_update_complete")

    def wait(self, state: str) -> None:
        """Wait for the end of an operation, good or bad."""
        waiter = self.cloudformation.get_waiter(state)
        with contextlib.suppress(WaiterError):
            waiter.wait(StackName=self.name, WaiterConfig={"Delay": 0.5, "MaxAttempts": 300})

    def answers(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Return every request with the answers to it, once all have one."""

        def all_answered() -> list[tuple[dict[str, Any], list[dict[str, Any]]]] | None:
            report = self.faults.report()
            pairs = [
                (
                    request,
                    [a for a in report["answers"] if a["RequestId"] == request["RequestId"]],
                )
                for request in ({**r["Event"], "At": r["At"]} for r in report["requests"])
            ]
            enough = all(len(answers) >= self.cell.answers for _, answers in pairs)
            return pairs if enough else None

        return eventually(
            all_answered, f"an answer to each request of {self.name}", within=SERVICE_TIMEOUT
        )

    def tasks(self) -> list[dict[str, Any]]:
        """Return all tasks that were ever started."""
        arns = [
            arn
            for status in ("RUNNING", "STOPPED")
            for arn in self.ecs.list_tasks(cluster=self.name, desiredStatus=status)["taskArns"]
        ]
        found = self.ecs.describe_tasks(cluster=self.name, tasks=arns)["tasks"] if arns else []
        return list(found)

    def running_task(self) -> str:
        """Wait until the task runs; return its ARN."""

        def running() -> str | None:
            arns = [task["taskArn"] for task in self.tasks() if task["lastStatus"] == "RUNNING"]
            return arns[0] if arns else None

        return eventually(running, f"a running task of {self.name}", within=100)

    def execution(self) -> str:
        """Return the ARN of the durable execution that handles the request."""
        return str(self.faults.report()["executions"][0])

    def _define(self) -> None:
        options = {
            "awslogs-group": self.name,
            "awslogs-create-group": "true",
            "awslogs-region": "us-east-1",
            "awslogs-stream-prefix": "fault",
        }
        self.ecs.register_task_definition(
            family=self.name,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[
                {
                    "name": "app",
                    "image": self.cell.image,
                    "command": ["sh", "-c", "exit 0"],
                    "logConfiguration": {"logDriver": "awslogs", "options": options},
                }
            ],
        )

    def inject(self) -> None:
        """Let the cell's faults begin."""
        for rule in self.cell.faults:
            self.faults.inject(**rule)

    def _template(self, resources: dict[str, dict[str, Any]]) -> str:
        names = list(resources)
        common = {
            "ServiceToken": self.token,
            "ServiceTimeout": SERVICE_TIMEOUT,
            "Cluster": self.name,
            "TaskDefinition": self.name,
            "LaunchType": "FARGATE",
            "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": ["subnet-demo"]}},
        }
        declared = {
            name: {
                "Type": "Custom::ECSRunTask",
                "DependsOn": names[: names.index(name)],
                "Properties": {**common, **properties},
            }
            for name, properties in resources.items()
        }
        return json.dumps({"Resources": declared})


def _sh(command: str) -> dict[str, Any]:
    return {"Command": ["sh", "-c", command]}


def _refuse(action: str, code: str, status: int = 400, **more: Any) -> dict[str, Any]:
    own = {"function": FUNCTION} if action != ANSWER else {}
    return {"action": action, "fault": "refuse", "code": code, "status": status, **own, **more}


def _throttle(action: str, times: int = MANY) -> dict[str, Any]:
    return _refuse(action, "ThrottlingException", times=times)


def _down(action: str, times: int = MANY) -> dict[str, Any]:
    return _refuse(action, "ServiceUnavailable", 503, times=times)


def _failures(reason: str, times: int | None) -> dict[str, Any]:
    body = {"tasks": [], "failures": [{"arn": "arn:aws:ecs:here", "reason": reason}]}
    return {"action": "ecs:RunTask", "fault": "answer", "body": body, "times": times}


def _kill(action: str, moment: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "fault": f"kill {moment}", **more}


def _while_it_runs(meddle: Callable[[Stack], None]) -> Callable[[Stack], None]:
    return lambda stack: stack.create(meddle)


def _interrupt_spot(stack: Stack) -> None:
    stack.faults.interrupt_spot(stack.running_task())


def _stop_execution(stack: Stack) -> None:
    error = {"ErrorType": "Operator", "ErrorMessage": "enough"}
    stack.lambda_.stop_durable_execution(DurableExecutionArn=stack.execution(), Error=error)


def _time_out_execution(stack: Stack) -> None:
    stack.faults.time_out(stack.execution())


def _deliver_again(stack: Stack) -> None:
    event = json.dumps(stack.faults.report()["requests"][0]["Event"])
    stack.lambda_.invoke(FunctionName=stack.token, InvocationType="Event", Payload=event)


def _delete(stack: Stack) -> None:
    stack.create()
    stack.running_task()
    stack.cloudformation.delete_stack(StackName=stack.name)
    stack.wait("stack_delete_complete")


def _delete_meanwhile(stack: Stack) -> None:
    stack.inject()
    stack.begin()
    (refusal,) = stack.cell.faults

    def refused() -> bool:
        return any(rule["happened"] for rule in stack.faults.report()["rules"])

    eventually(refused, f"{refusal['action']} refused for {stack.name}")
    stack.cloudformation.delete_stack(StackName=stack.name)


def _update(stack: Stack) -> None:
    stack.create()
    stack.update()


def _roll_back(stack: Stack) -> None:
    stack.create(Sibling=_sh("exit 0"))
    stack.update(Sibling=_sh("exit 3"))


_MISSING = {
    "action": "ecs:DescribeTasks",
    "fault": "answer",
    "function": FUNCTION,
    "body": {"tasks": [], "failures": [{"arn": "arn:aws:ecs:here", "reason": "MISSING"}]},
}
_LONG = _sh("sleep 60")
_OVERDUE: dict[str, Any] = {
    "properties": {**_LONG, "Timeout": 3},
    "status": "FAILED",
    "says": "within 3 seconds",
}

CLEAN = Cell(name="nothing goes wrong")
ROLLBACK = Cell(name="update is rolled back", story=_roll_back, request="Update", tasks=4)
CELLS = [
    # The task.
    Cell(
        name="task exits with 3",
        properties=_sh("echo no such table; exit 3"),
        status="FAILED",
        says="exited with 3",
    ),
    Cell(
        name="container cannot start",
        properties={"Command": ["/no/such/command"]},
        status="FAILED",
        says="failed to start",
    ),
    Cell(name="image cannot be pulled", image="x:unpullable", status="FAILED", says="CannotPull"),
    Cell(
        name="Spot takes the task back",
        properties=_LONG,
        story=_while_it_runs(_interrupt_spot),
        status="FAILED",
        says="Spot",
    ),
    Cell(name="task outlives its timeout", **_OVERDUE),
    # RunTask.
    Cell(name="RunTask is throttled twice", faults=(_throttle("ecs:RunTask", 2),)),
    Cell(name="RunTask is throttled for longer", faults=(_throttle("ecs:RunTask"),)),
    Cell(name="RunTask is down", faults=(_down("ecs:RunTask"),)),
    Cell(
        name="RunTask's answer is lost",
        faults=({"action": "ecs:RunTask", "fault": "lose"},),
    ),
    Cell(
        name="RunTask's answer is lost again and again",
        faults=({"action": "ecs:RunTask", "fault": "lose", "times": MANY},),
    ),
    Cell(name="no capacity at first", faults=(_failures("RESOURCE:CPU", 2),)),
    Cell(name="no agent at first", faults=(_failures("AGENT", 2),)),
    Cell(
        name="no capacity at all",
        faults=(_failures("RESOURCE:MEMORY", None),),
        properties={"Timeout": 4},
        status="FAILED",
        says="RESOURCE:MEMORY",
        tasks=0,
    ),
    Cell(
        name="stack is deleted while there is no capacity",
        faults=(_failures("RESOURCE:CPU", None),),
        story=_delete_meanwhile,
        status="FAILED",
        says="Nothing was run|there is no stack",
        tasks=0,
    ),
    Cell(
        name="no instance will ever do",
        faults=(_failures("ATTRIBUTE", None),),
        status="FAILED",
        says="ATTRIBUTE",
        tasks=0,
    ),
    Cell(
        name="cluster's instance is missing",
        faults=(_failures("MISSING", None),),
        status="FAILED",
        says="MISSING",
        tasks=0,
    ),
    Cell(
        name="RunTask is refused",
        faults=(_refuse("ecs:RunTask", "InvalidParameterException", times=None),),
        status="FAILED",
        says="InvalidParameterException",
        tasks=0,
    ),
    Cell(
        name="RunTask is denied",
        faults=(_refuse("ecs:RunTask", "AccessDeniedException", times=None),),
        status="FAILED",
        says="RunTask failed: AccessDenied",
        tasks=0,
    ),
    # The other calls.
    Cell(name="DescribeTasks is throttled", faults=(_throttle("ecs:DescribeTasks"),)),
    Cell(name="DescribeTasks is down", faults=(_down("ecs:DescribeTasks"),)),
    Cell(name="DescribeTasks misses the task once", faults=(_MISSING,)),
    Cell(
        name="DescribeTaskDefinition is throttled",
        faults=(_throttle("ecs:DescribeTaskDefinition"),),
    ),
    Cell(
        name="DescribeTaskDefinition is down",
        faults=(_down("ecs:DescribeTaskDefinition"),),
    ),
    Cell(
        name="StopTask is throttled at the deadline",
        faults=(_throttle("ecs:StopTask"),),
        **_OVERDUE,
    ),
    Cell(
        name="StopTask's answer is lost at the deadline",
        faults=({"action": "ecs:StopTask", "fault": "lose"},),
        **_OVERDUE,
    ),
    Cell(
        name="DescribeStacks is throttled",
        faults=(_refuse("cloudformation:DescribeStacks", "Throttling", times=MANY),),
        story=_update,
        request="Update",
        tasks=2,
    ),
    Cell(
        name="DescribeStacks is denied",
        faults=(_refuse("cloudformation:DescribeStacks", "AccessDenied", 403),),
        story=_update,
        request="Update",
        status="FAILED",
        says="cloudformation:DescribeStacks",
    ),
    Cell(
        name="log cannot be read",
        faults=(_refuse("logs:*", "AccessDeniedException", times=None),),
        properties=_sh("echo no such table; exit 3"),
        status="FAILED",
        says="exited with 3",
    ),
    Cell(
        name="log is throttled",
        faults=(_refuse("logs:*", "ThrottlingException", times=None),),
        properties=_sh("echo no such table; exit 3"),
        status="FAILED",
        says="exited with 3",
    ),
    Cell(name="answer is refused twice", faults=(_down(ANSWER, 2),)),
    # The function.
    Cell(name="function is killed before RunTask", faults=(_kill("ecs:RunTask", "before"),)),
    Cell(name="function is killed after RunTask", faults=(_kill("ecs:RunTask", "after"),)),
    Cell(
        name="function is killed before StopTask",
        faults=(_kill("ecs:StopTask", "before"),),
        **_OVERDUE,
    ),
    Cell(
        name="function is killed after StopTask",
        faults=(_kill("ecs:StopTask", "after"),),
        **_OVERDUE,
    ),
    Cell(name="function is killed before it answers", faults=(_kill(ANSWER, "before"),)),
    Cell(
        name="function is killed when it has answered",
        faults=(_kill(ANSWER, "after"),),
        repeated=True,
    ),
    Cell(
        name="function is killed again and again",
        faults=(
            _kill(_CHECKPOINT, "before", operation="start-task", updates=["SUCCEED"], times=5),
        ),
        properties=_LONG,
        status="FAILED",
    ),
    # The request and its execution.
    Cell(
        name="request is delivered twice at once",
        faults=({"action": REQUEST, "fault": "repeat"},),
        properties=_sh("sleep 1"),
        answers=2,
        repeated=True,
    ),
    Cell(
        name="request is delivered twice at once and there is no capacity at first",
        faults=({"action": REQUEST, "fault": "repeat"}, _failures("RESOURCE:CPU", 1)),
        properties=_sh("sleep 1"),
        answers=2,
        repeated=True,
    ),
    Cell(
        name="request is delivered again while the task runs",
        properties=_sh("sleep 10"),
        story=_while_it_runs(_deliver_again),
        answers=2,
        repeated=True,
    ),
    Cell(
        name="execution is stopped",
        properties=_LONG,
        story=_while_it_runs(_stop_execution),
        status="FAILED",
        says="(?i)stopped",
    ),
    Cell(
        name="execution times out",
        properties=_LONG,
        story=_while_it_runs(_time_out_execution),
        status="FAILED",
        says="(?i)timed.out",
    ),
    Cell(
        name="execution is stopped while GetDurableExecution is throttled",
        faults=(_throttle("lambda:GetDurableExecution"),),
        properties=_LONG,
        story=_while_it_runs(_stop_execution),
        status="FAILED",
        says="(?i)stopped",
    ),
    Cell(
        name="stack is deleted while the task runs",
        properties={**_LONG, "WaitForExit": False},
        story=_delete,
    ),
]


class Matrix:
    """The stacks of many cells, a few alive at a time."""

    def __init__(self, account: Account, outputs: dict[str, str]) -> None:
        services = "ecs", "lambda", "cloudformation"
        self._clients = {service: account.client(service) for service in services}
        self._account, self._token = account, outputs["RunTaskServiceToken"]
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._lives: dict[str, Future[Stack]] = {}
        self._kills: Future[list[Cell]] | None = None

    def begin(self, cell: Cell) -> Future[Stack]:
        """Let the cell's story begin as soon as there is room, unless it has begun."""
        if cell.name not in self._lives:
            stack = Stack(self._account, self._clients, self._token, cell)
            self._lives[cell.name] = self._pool.submit(stack.live)
        return self._lives[cell.name]

    def begin_kills(self) -> Future[list[Cell]]:
        """Let begin, after a clean run, what that suggests."""
        self.begin(CLEAN)
        self._kills = self._kills or self._pool.submit(self._kill_everywhere)
        return self._kills

    def _kill_everywhere(self) -> list[Cell]:
        cells = _kills(self.begin(CLEAN).result())
        for cell in cells:
            self.begin(cell)
        return cells

    def end(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _kills(clean: Stack) -> list[Cell]:
    """Return the moments around the end of each operation of a run where nothing went wrong."""
    history = clean.lambda_.get_durable_execution_history(DurableExecutionArn=clean.execution())
    ended = (e["Name"] for e in history["Events"] if e["EventType"] == "StepSucceeded")
    return [
        Cell(
            name=f"function is killed {moment} {operation} is recorded",
            faults=(_kill(_CHECKPOINT, moment, operation=operation, updates=["SUCCEED", "RETRY"]),),
            # Steps are at least once: what the last one did is done again.
            repeated=moment == "before",
        )
        for operation in dict.fromkeys(ended)
        for moment in ("before", "after")
    ]


@pytest.fixture(scope="module")
def matrix(
    account: Account, outputs: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[Matrix]:
    """Let the cells of all tests that were selected begin."""
    matrix = Matrix(account, outputs)
    for item in request.session.items:
        call: Any = getattr(item, "callspec", None)
        if call and isinstance(cell := call.params.get("cell"), Cell):
            matrix.begin(cell)
        if item.name.endswith("_killed_at_any_step"):
            matrix.begin_kills()
    yield matrix
    matrix.end()


def _said(answer: dict[str, Any]) -> str:
    """Return all of an answer that CloudFormation goes by."""
    return json.dumps({k: v for k, v in answer.items() if k not in {"Accepted", "At"}})


def _check(stack: Stack) -> None:
    """Hold what became of a stack against its cell."""
    cell = stack.cell
    stack.faults.check()
    answered = stack.answers()
    for request, answers in answered:
        assert len({_said(answer) for answer in answers}) == 1, answers
        assert len(answers) == 1 or cell.repeated, answers
        assert answers[0]["Accepted"]
        assert answers[0]["At"] - request["At"] < SERVICE_TIMEOUT
    judged = next(
        answers[0] for request, answers in answered if request["RequestType"] == cell.request
    )
    assert judged["Status"] == cell.status, judged
    assert re.search(cell.says, judged["Reason"]), judged

    def none_runs() -> bool:
        return all(task["lastStatus"] == "STOPPED" for task in stack.tasks())

    eventually(none_runs, f"no task of {stack.name} running")
    assert len(stack.tasks()) == cell.tasks


@pytest.mark.parametrize("cell", [CLEAN, ROLLBACK, *CELLS], ids=lambda cell: cell.name)
def test_one_true_answer_is_given_when(
    cell: Cell, matrix: Matrix, record_property: Callable[[str, object], None]
) -> None:
    record_property("cell", cell.name)

    _check(matrix.begin(cell).result())


def test_old_properties_are_not_run_again_when_an_update_is_rolled_back(matrix: Matrix) -> None:
    stack = matrix.begin(ROLLBACK).result()

    rolled_back = [
        answers[0]
        for request, answers in stack.answers()
        if request["RequestType"] == "Update"
        and request["ResourceProperties"].get("Iteration") != "2"
        and request["LogicalResourceId"] == "Run"
    ]
    assert [answer["Data"]["Outcome"] for answer in rolled_back] == ["Skipped"]


def test_one_true_answer_is_given_when_the_function_is_killed_at_any_step(
    matrix: Matrix, subtests: pytest.Subtests, record_property: Callable[[str, object], None]
) -> None:
    for cell in matrix.begin_kills().result():
        record_property("cell", cell.name)
        with subtests.test(cell.name):
            _check(matrix.begin(cell).result())
