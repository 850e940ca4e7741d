"""Services that are recycled, many at once, and what became of each."""

from __future__ import annotations

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.e2e.faults import Faults
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    import pytest

    from tests.sandbox.account import Account

SLOW = "recycled-slowly"
"""Family of a task definition with a health check that passes only after some seconds."""
ON_INSTANCES = "recycled-on-instances"
"""Family of a task definition whose tasks are reached by the ports of EC2 instances."""
STOP_REASON = "Recycled by ecs-ops"
# Long for a recycle of two tasks, short for a machine with much else to do.
PATIENCE = 150
_AT_ONCE = 14
_PAUSE = 0.3
type Story = Callable[[World], None]
_ECS_DIMENSION = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}


def patiently[T](probe: Callable[[], T | None], what: str) -> T:
    """Look again and again, but not so often that many of these keep the account busy."""

    def look() -> T | None:
        seen = probe()
        if not seen:
            time.sleep(_PAUSE)
        return seen

    return eventually(look, what, within=PATIENCE)


class Reports:
    """What a queue got that is subscribed to the topic of the alerts."""

    def __init__(self, account: Account, outputs: dict[str, str]) -> None:
        self._sqs, topic = account.client("sqs"), outputs["AlertTopicArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "*",
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._url = self._sqs.create_queue(
            QueueName=f"reports-{uuid.uuid4().hex[:8]}", Attributes={"Policy": policy}
        )["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        account.client("sns").subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"]
        )
        self._letters: list[dict[str, Any]] = []
        self._reading = threading.Lock()

    def about(self, service: str) -> list[dict[str, Any]]:
        """Return the reports so far on this service."""
        with self._reading:
            # All of them: those on other services come by the same queue.
            while letters := self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10
            ).get("Messages"):
                for letter in letters:
                    self._sqs.delete_message(
                        QueueUrl=self._url, ReceiptHandle=letter["ReceiptHandle"]
                    )
                    self._letters.append(json.loads(letter["Body"]))
            return [one for one in self._letters if _attribute(one, "service") == service]


def _attribute(letter: dict[str, Any], name: str) -> str:
    return str(letter.get("MessageAttributes", {}).get(name, {}).get("Value", ""))


class World:
    """The account with the stack in it, and one client of each service for all threads."""

    def __init__(self, account: Account, outputs: dict[str, str]) -> None:
        self.account = account
        self.function = outputs["RecycleFunctionName"]
        names = (
            *("application-autoscaling", "cloudwatch", "dynamodb", "ecs", "elbv2", "iam"),
            *("lambda", "secretsmanager", "sts"),
        )
        self._clients = {name: account.client(name) for name in names}
        self.reports = Reports(account, outputs)
        found = account.client("cloudformation").describe_stack_resource(
            StackName=account.env["ECS_OPS_STACK"], LogicalResourceId="RecycleLeaseTable"
        )
        self.lease_table = found["StackResourceDetail"]["PhysicalResourceId"]
        self._define("recycled", "exec sleep 1000")
        self._define(ON_INSTANCES, "exec sleep 1000", network="bridge")
        # Its tasks are healthy some seconds after they run, as most are in AWS.
        check = {"command": ["CMD-SHELL", "test -e ready"], "interval": 5, "startPeriod": 300}
        self._define(SLOW, "sleep 5; touch ready; exec sleep 1000", healthCheck=check)

    def _define(
        self, family: str, command: str, *, network: str = "awsvpc", **container: Any
    ) -> None:
        app = {
            "name": "app",
            "image": "busybox",
            "command": ["sh", "-c", command],
            "portMappings": [{"containerPort": 80}],
        }
        self.client("ecs").register_task_definition(
            family=family,
            requiresCompatibilities=["FARGATE" if network == "awsvpc" else "EC2"],
            networkMode=network,
            cpu="256",
            memory="512",
            containerDefinitions=[{**app, **container}],
        )

    def client(self, service: str) -> Any:
        return self._clients[service]


class Service:
    """A service in a cluster of its own, both of one name: bad luck with it is its alone."""

    def __init__(
        self,
        world: World,
        count: int = 1,
        *,
        bounds: tuple[int, int] | None = None,
        target_group: bool = False,
        family: str = "recycled",
    ) -> None:
        """Create it, and wait until its tasks are in service.

        Args:
            world: where.
            count: of its tasks.
            bounds: minimum and maximum of Auto Scaling, if it is registered.
            target_group: whether it is registered with one.
            family: of its task definition; the tasks of SLOW take their time, those of ON_INSTANCES
                are on instances.
        """
        self._world = world
        self.ecs, self._lambda = world.client("ecs"), world.client("lambda")
        self.name = f"svc-{uuid.uuid4().hex[:8]}"
        self.count, self._family = count, family
        self.faults = Faults(world.account, self.name)
        self.ecs.create_cluster(clusterName=self.name)
        self._scaling = world.client("application-autoscaling")
        self._resource = {"ResourceId": f"service/{self.name}/{self.name}", **_ECS_DIMENSION}
        on_instances = family == ON_INSTANCES
        kind = "instance" if on_instances else "ip"
        balancers = [_balancer(world, self.name, kind)] if target_group else []
        subnets = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
        created = self.ecs.create_service(
            cluster=self.name,
            serviceName=self.name,
            taskDefinition=family,
            desiredCount=count,
            launchType="EC2" if on_instances else "FARGATE",
            loadBalancers=balancers,
            **({} if on_instances else {"networkConfiguration": subnets}),
        )
        self.arn = created["service"]["serviceArn"]
        if bounds:
            self.scale_between(*bounds)
        self.bounds_at_first = bounds
        patiently(self._is_steady, f"{count} tasks of {self.name}")
        self.old = self.kept()

    def start(self, **wishes: Any) -> str:
        """Begin to recycle it; return the execution's ARN."""
        event = {"cluster_name": self.name, "service_name": self.name, "wait_time": 0, **wishes}
        answer = self._lambda.invoke(
            FunctionName=self._world.function, InvocationType="Event", Payload=json.dumps(event)
        )
        return str(answer["DurableExecutionArn"])

    def end(self, execution: str) -> dict[str, Any]:
        """Wait for an execution's end; return what Lambda says of it, `Result` as an object."""

        def ended() -> dict[str, Any] | None:
            found = self._lambda.get_durable_execution(DurableExecutionArn=execution)
            return None if found["Status"] == "RUNNING" else dict(found)

        found = patiently(ended, f"the end of recycling {self.name}")
        return {**found, "Result": json.loads(found.get("Result") or "null")}

    def recycle(self, **wishes: Any) -> dict[str, Any]:
        """Recycle it; return the report."""
        execution = self.end(self.start(**wishes))
        assert execution["Status"] == "SUCCEEDED", execution
        return dict(execution["Result"])

    def reach(self, execution: str, operation: str) -> None:
        """Wait until an operation of the execution has begun."""
        patiently(
            lambda: operation in self.operations(execution),
            f"{operation} of {self.name}",
        )

    def operations(self, execution: str) -> list[str]:
        """Return the names of the operations so far, each once."""
        history = self._lambda.get_durable_execution_history(DurableExecutionArn=execution)
        names = (event.get("Name") for event in history["Events"])
        return list(dict.fromkeys(name for name in names if name))

    def describe(self) -> dict[str, Any]:
        found = self.ecs.describe_services(cluster=self.name, services=[self.name])
        return dict(found["services"][0])

    def resize(self, count: int) -> None:
        """Set the desired count, as a person does."""
        self.ecs.update_service(cluster=self.name, service=self.name, desiredCount=count)

    def scale_between(self, lowest: int, highest: int) -> None:
        """Set the bounds of Auto Scaling, as a person does."""
        self._scaling.register_scalable_target(
            **self._resource, MinCapacity=lowest, MaxCapacity=highest
        )

    def change_health_check(self, path: str) -> None:
        """Change the path of its target group's health check: under /unhealthy all fail it."""
        balancer = self.describe()["loadBalancers"][0]
        self._world.client("elbv2").modify_target_group(
            TargetGroupArn=balancer["targetGroupArn"], HealthCheckPath=path
        )

    @property
    def desired_count(self) -> int:
        return int(self.describe()["desiredCount"])

    @property
    def bounds(self) -> tuple[int, int] | None:
        found = self._scaling.describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[self._resource["ResourceId"]]
        )["ScalableTargets"]
        return (found[0]["MinCapacity"], found[0]["MaxCapacity"]) if found else None

    @property
    def lease(self) -> dict[str, Any] | None:
        item = (
            self._world.client("dynamodb")
            .get_item(TableName=self._world.lease_table, Key={"serviceArn": {"S": self.arn}})
            .get("Item")
        )
        return item and {name: next(iter(value.values())) for name, value in item.items()}

    def kept(self) -> set[str]:
        """Return the ARNs of the tasks that ECS means to keep."""
        found = self.ecs.list_tasks(cluster=self.name, desiredStatus="RUNNING")
        return set(found["taskArns"])

    def recycled(self) -> list[str]:
        """Return the ARNs of all tasks that were stopped by a recycle."""
        arns = self.ecs.list_tasks(cluster=self.name, desiredStatus="STOPPED")["taskArns"]
        tasks = self.ecs.describe_tasks(cluster=self.name, tasks=arns)["tasks"] if arns else []
        return [task["taskArn"] for task in tasks if task.get("stoppedReason") == STOP_REASON]

    def reports(self, *outcomes: str) -> list[dict[str, Any]]:
        """Wait until there are reports of just these outcomes, a repeated one counted once."""

        def arrived() -> list[dict[str, Any]] | None:
            letters = self._world.reports.about(self.name)
            return (
                letters if {_attribute(one, "outcome") for one in letters} == {*outcomes} else None
            )

        return patiently(arrived, f"reports {outcomes} on {self.name}")

    def assert_put_back(self, desired_count: int | None = None) -> None:
        """See that nothing of a recycle is left but new tasks."""
        assert self.desired_count == (self.count if desired_count is None else desired_count)
        assert self.bounds == self.bounds_at_first
        assert self.lease is None

    def assert_all_replaced(self) -> None:
        """See that each task was stopped, once, and that others are there instead."""
        assert sorted(self.recycled()) == sorted(self.old)
        wanted = self.desired_count
        patiently(lambda: len(self.kept()) == wanted, f"{wanted} tasks of {self.name}")
        assert not self.kept() & self.old

    def _is_steady(self) -> bool:
        service = self.describe()
        completed = service["deployments"][0]["rolloutState"] == "COMPLETED"
        running = service["runningCount"] == self.count
        return bool(completed and running and self._is_healthy(service))

    def _is_healthy(self, service: dict[str, Any]) -> bool:
        found = self.ecs.describe_tasks(cluster=self.name, tasks=[*self.kept()])["tasks"]
        wanted = "HEALTHY" if self._family == SLOW else "UNKNOWN"
        targets = [
            one["TargetHealth"]["State"]
            for balancer in service["loadBalancers"]
            for one in self._world.client("elbv2").describe_target_health(
                TargetGroupArn=balancer["targetGroupArn"]
            )["TargetHealthDescriptions"]
        ]
        return {one["healthStatus"] for one in found} == {wanted} and {*targets} <= {"healthy"}


def _balancer(world: World, name: str, kind: str) -> dict[str, Any]:
    elb = world.client("elbv2")
    created = elb.create_target_group(
        Name=name, Protocol="HTTP", Port=80, VpcId="vpc-1", TargetType=kind
    )
    arn = created["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "2"}
    elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
    return {"targetGroupArn": arn, "containerName": "app", "containerPort": 80}


class Stories:
    """What is done with services: the stories of a module's tests, told side by side."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._told: dict[Story, Future[None]] = {}

    def begin(self, story: Story) -> Future[None]:
        """Let a story begin, unless it has begun."""
        if story not in self._told:
            self._told[story] = self._pool.submit(story, self._world)
        return self._told[story]

    def end(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def begin_all(world: World, request: pytest.FixtureRequest) -> Iterator[Stories]:
    """Let the stories of all selected tests of a module begin: they are their parameter `story`."""
    stories = Stories(world)
    for item in request.session.items:
        call: Any = getattr(item, "callspec", None)
        if item.path == request.path and call and "story" in call.params:
            stories.begin(call.params["story"])
    yield stories
    stories.end()
