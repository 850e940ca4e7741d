"""What the arithmetic is made of: our own measurements, and AWS's quotas and prices.

Measurements are those of docs/benchmarks.md; a test holds the two together. A quota or a price has
the page it is from, and how it was checked: that page, or a copy of it, was read in November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Range:
    """What is known of a figure: not below `low`, not above `high`. Neither is negative."""

    low: float
    high: float

    @classmethod
    def of(cls, figure: Range | float) -> Range:
        return figure if isinstance(figure, Range) else cls(figure, figure)

    def __add__(self, other: Range | float) -> Range:
        added = Range.of(other)
        return Range(self.low + added.low, self.high + added.high)

    def __mul__(self, factor: Range | float) -> Range:
        by = Range.of(factor)
        return Range(self.low * by.low, self.high * by.high)

    def __truediv__(self, divisor: Range | float) -> Range:
        by = Range.of(divisor)
        return Range(self.low / by.high, self.high / by.low)

    __radd__ = __add__
    __rmul__ = __mul__

    def at_least(self, least: float) -> Self:
        return type(self)(max(self.low, least), max(self.high, least))


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of docs/benchmarks.md."""

    section: str
    row: tuple[str, ...]
    """How the row's first cells begin."""
    column: str
    value: float
    """As the page shows it: a median, or a mean."""


LOG_CPU: Final = Measured("log_events", ("**log_events**",), "CPU", 2.6)
"""Seconds for 10,000 events in batches of 100, on a whole processor."""
LOG_WALL: Final = Measured("log_events", ("**log_events**",), "wall", 6.4)
"""Seconds, the same, with 6 ms for each answer of AWS."""
RECORD_BYTES: Final = Measured("log_events", ("**log_events**", "10,000"), "bytes of an item", 1886)
RECORD_UNITS: Final = Measured(
    "log_events", ("**log_events**", "10,000"), "write units, mean", 2.27
)
INDEXED: Final = Measured("log_events", ("taskDefinitionArn-eventKey-index",), "entries", 9_641)
"""Of 10,000 events; an entry is one write unit."""
FAILED: Final = Measured("log_events", ("failedClusterArn-eventKey-index",), "entries", 95)
"""Of 10,000 events; an entry is one write unit."""
RUN_BILLED: Final = Measured("run_task", ("10 min", "**run_task**"), "billed", 9.0)
"""Seconds of Lambda for one custom resource whose task takes ten minutes."""
RECYCLE_CALLS_100: Final = Measured(
    "recycle_service", ("100", "**recycle_service**"), "API calls", 3_132
)
RECYCLE_CALLS_1000: Final = Measured(
    "recycle_service", ("1,000", "**recycle_service**"), "API calls", 117_742
)
RECYCLE_HOURS_1000: Final = Measured(
    "recycle_service", ("1,000", "**recycle_service**"), "took", 21.2
)
RECYCLE_BILLED_100: Final = Measured(
    "recycle_service", ("100", "**recycle_service**"), "billed", 125
)
RECYCLE_BILLED_1000: Final = Measured(
    "recycle_service", ("1,000", "**recycle_service**"), "billed", 3_823
)
MEASURED: Final = (
    *(LOG_CPU, LOG_WALL, RECORD_BYTES, RECORD_UNITS, INDEXED, FAILED, RUN_BILLED),
    *(RECYCLE_CALLS_100, RECYCLE_CALLS_1000, RECYCLE_HOURS_1000),
    *(RECYCLE_BILLED_100, RECYCLE_BILLED_1000),
)

# What the template, the code and the realistic events say; a test reads it there.
MEMORY: Final = 256
"""MB of every function. Lambda gives a whole processor at 1,769."""
WHOLE_PROCESSOR: Final = 1_769
BATCH: Final = 100
"""Messages log_events gets at most."""
EVENTS_OF_A_TASK: Final = 9
LOOK_PAUSE: Final = 5
"""Seconds between two looks of run_task at its task."""
LOOKS_OF_TEN_MINUTES: Final = 122
OTHER_OPERATIONS: Final = 11
"""Of run_task's execution, besides the looks."""
OPERATIONS_OF_A_TASK: Final = Range(8.6, 14.4)
"""Of recycle_service, for each task; docs/benchmarks.md says it in a sentence."""
TASKS_OF_A_PAGE: Final = 100
"""Of ListTasks and of DescribeTasks."""
LATENCY: Final = 0.03
"""Seconds a call of AWS takes in recycle_service's benchmark."""
SURVEYED: Final = 34
"""Characters that recycle_service's first step stores of each task, packed."""
LARGEST_BATCH: Final = 100
"""Tasks that recycle_service replaces at once, at most."""
LISTED: Final = 1_000
"""Tasks GET /runs asks for: as many that run, and as many that have stopped."""
LONGEST_SUFFIX: Final = "-recycle-service"
"""What the longest function name adds to the stack's."""
RETENTION_DAYS: Final = 14


# What nobody has measured.
LAUNCH_ENTRY_UNITS: Final = Range(1, 2)
"""Write units of an entry in launcher-launchKey-index: 1 KB holds it, but for a long reason."""
INDEX_ENTRY_BYTES: Final = Range(400, 1_024)
LAUNCH_SECONDS: Final = Range(0.1, 0.5)
"""Of launch_task for one request, waiting for ECS included."""
LOGGED_BYTES: Final = Range(800, 2_000)
"""Of one invocation, with Lambda's own lines."""
STORED_BYTES: Final = Range(1_000, 4_000)
"""Of one look of run_task, in its execution."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What AWS allows."""

    name: str
    figure: Range
    """Where it differs by Region, or where AWS's pages differ, from the least to the most."""
    unit: str
    soft: str
    """How it can be raised; '' when it cannot."""
    source: str
    checked: str
    """`page`: read. `sources differ`: copies of different age, or the API and its SDK.
    `second hand`: somebody else quotes it."""


_DOCS: Final = "https://docs.aws.amazon.com"
_ECS_THROTTLING: Final = f"{_DOCS}/AmazonECS/latest/APIReference/request-throttling.html"
_LAMBDA: Final = f"{_DOCS}/lambda/latest/dg/gettingstarted-limits.html"
_PARTITION_PAGE: Final = (
    f"{_DOCS}/amazondynamodb/latest/developerguide/warm-throughput-scenarios.html"
)
_SUPPORT, _SERVICE_QUOTAS = "AWS Support", "Service Quotas"

INVOCATIONS: Final = Quota(
    "EventBridge: events to targets",
    Range(750, 18_750),
    "a second and Region",
    _SERVICE_QUOTAS,
    f"{_DOCS}/eventbridge/latest/userguide/eb-quota.html",
    "page",
)
FARGATE: Final = Quota(
    "Fargate: launches, On-Demand and Spot each",
    Range.of(20),
    "a second, and 100 at once",
    _SUPPORT,
    f"{_DOCS}/AmazonECS/latest/developerguide/throttling.html",
    "page",
)
READS: Final = Quota(
    "ECS: DescribeTasks and ListTasks together",
    Range.of(20),
    "a second, and 100 at once",
    _SUPPORT,
    _ECS_THROTTLING,
    "page",
)
DEFINITION_READS: Final = Quota(
    "ECS: DescribeTaskDefinition",
    Range.of(20),
    "a second, and 50 at once",
    _SUPPORT,
    _ECS_THROTTLING,
    "page",
)
TASKS_OF_A_SERVICE: Final = Quota(
    "ECS: tasks of a service",
    Range.of(5_000),
    "",
    _SERVICE_QUOTAS,
    f"{_DOCS}/general/latest/gr/ecs-service.html",
    "second hand",
)
SERVICE_LAUNCHES: Final = Quota(
    "ECS: tasks a service launches on Fargate",
    Range.of(500),
    "a minute",
    "sources differ",
    f"{_DOCS}/AmazonECS/latest/developerguide/service-quotas.html",
    "page",
)
PARTITION: Final = Quota(
    "DynamoDB: write units of a partition",
    Range.of(1_000),
    "a second",
    "",
    _PARTITION_PAGE,
    "page",
)
NEW_TABLE: Final = Quota(
    "DynamoDB: write units of a new table or index",
    Range.of(4_000),
    "a second; grows with use",
    "grows by itself",
    _PARTITION_PAGE,
    "page",
)
TABLE: Final = Quota(
    "DynamoDB: write units of a table or index",
    Range.of(40_000),
    "a second",
    _SERVICE_QUOTAS,
    f"{_DOCS}/amazondynamodb/latest/developerguide/ServiceQuotas.html",
    "page",
)
IN_FLIGHT: Final = Quota(
    "SQS: messages in flight in a queue",
    Range.of(120_000),
    "",
    _SUPPORT,
    f"{_DOCS}/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html",
    "page",
)
MAPPING: Final = Quota(
    "Lambda: batches of one queue at once",
    Range(1_000, 1_250),
    "; 300 more each minute",
    "provisioned mode",
    f"{_DOCS}/lambda/latest/dg/services-sqs-scaling.html",
    "sources differ",
)
CONCURRENCY: Final = Quota(
    "Lambda: invocations at once, of the whole account",
    Range.of(1_000),
    "; less in a new account",
    _SERVICE_QUOTAS,
    _LAMBDA,
    "page",
)
URL_RATE: Final = Quota(
    "Lambda: synchronous requests", Range.of(10), "a second for each of these", "", _LAMBDA, "page"
)
STARTS: Final = Quota(
    "Lambda: durable executions started",
    Range.of(300),
    "a second",
    "not said",
    _LAMBDA,
    "second hand",
)
CHECKPOINTS: Final = Quota(
    "Lambda: checkpoints", Range(1_000, 20_000), "a second", "not said", _LAMBDA, "sources differ"
)
OPERATIONS: Final = Quota(
    "Lambda: operations of a durable execution", Range.of(3_000), "", "", _LAMBDA, "page"
)
STEP_BYTES: Final = Quota(
    "Lambda: bytes one durable step may store",
    Range(256 * 1024, 6 * 1024 * 1024),
    "",
    "",
    f"{_DOCS}/lambda/latest/api/API_OperationUpdate.html",
    "sources differ",
)
FUNCTION_NAME: Final = Quota(
    "Lambda: characters of a function's name",
    Range.of(64),
    "",
    "",
    f"{_DOCS}/lambda/latest/api/API_CreateFunction.html",
    "page",
)
MAILS: Final = Quota(
    "SNS: mails to one subscription",
    Range.of(10),
    "a second; more, and SNS ends the subscription",
    "",
    "https://repost.aws/knowledge-center/sns-email-subscription-disabled",
    "page",
)
RESOURCES: Final = Quota(
    "CloudFormation: resources of a template",
    Range(200, 500),
    "",
    "",
    f"{_DOCS}/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html",
    "sources differ",
)
QUOTAS: Final = (
    *(INVOCATIONS, FARGATE, READS, DEFINITION_READS, TASKS_OF_A_SERVICE, SERVICE_LAUNCHES),
    *(PARTITION, NEW_TABLE, TABLE, IN_FLIGHT, MAPPING, CONCURRENCY, URL_RATE),
    *(STARTS, CHECKPOINTS, OPERATIONS, STEP_BYTES, FUNCTION_NAME, MAILS, RESOURCES),
)

READ_BURST: Final = 100
DEFINITION_BURST: Final = 50
FARGATE_BURST: Final = 100


@dataclass(frozen=True, slots=True)
class Price:
    """What AWS asks for, in US East (N. Virginia), without free tiers and discounts."""

    name: str
    dollars: float
    per: float
    unit: str
    source: str
    checked: str
    """As in `Quota`."""

    @property
    def each(self) -> float:
        return self.dollars / self.per


_MILLION: Final = 1e6
_GB: Final = 1024**3
_PRICES: Final = "https://aws.amazon.com"
WRITES: Final = Price(
    "DynamoDB: on-demand write units",
    0.625,
    _MILLION,
    "million",
    f"{_PRICES}/dynamodb/pricing/on-demand/",
    "second hand",
)
STORAGE: Final = Price(
    "DynamoDB: storage", 0.25, _GB, "GB and month", f"{_PRICES}/dynamodb/pricing/", "page"
)
REQUESTS: Final = Price(
    "SQS: requests", 0.40, _MILLION, "million", f"{_PRICES}/sqs/pricing/", "second hand"
)
INVOKED: Final = Price(
    "Lambda: requests", 0.20, _MILLION, "million", f"{_PRICES}/lambda/pricing/", "second hand"
)
SECONDS: Final = Price(
    "Lambda: GB-seconds, arm64",
    13.3334,
    _MILLION,
    "million",
    f"{_PRICES}/lambda/pricing/",
    "second hand",
)
STEPS: Final = Price(
    "Lambda: durable operations",
    8.00,
    _MILLION,
    "million",
    f"{_PRICES}/lambda/pricing/",
    "second hand",
)
STORED: Final = Price(
    "Lambda: durable data written", 0.25, _GB, "GB", f"{_PRICES}/lambda/pricing/", "second hand"
)
LOGGED: Final = Price(
    "CloudWatch Logs: written", 0.50, _GB, "GB", f"{_PRICES}/cloudwatch/pricing/", "second hand"
)
FORWARDED: Final = Price(
    "EventBridge: events to another account's bus",
    1.00,
    _MILLION,
    "million",
    f"{_PRICES}/eventbridge/pricing/",
    "second hand",
)
PRICES: Final = (WRITES, STORAGE, REQUESTS, INVOKED, SECONDS, STEPS, STORED, LOGGED, FORWARDED)
