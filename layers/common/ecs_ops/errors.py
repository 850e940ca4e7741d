"""What can go wrong, as types.

    EcsOpsError
    ├── InvalidRequest   the caller's input is wrong; says which field and what is allowed
    ├── NotFound         a resource the caller named does not exist
    ├── Conflict         the request contradicts an earlier one or the state of a resource
    ├── Transient        the same call may succeed in a moment: capacity, 5xx
    │   └── Throttled    AWS is throttling: ask less often
    └── AwsFailure       AWS refused for a reason that no retry mends

Adapters in `ecs_ops.aws` raise these and nothing else; rules raise `InvalidRequest`.
"""


class EcsOpsError(Exception):
    """Base of every error this package raises; its text is fit for a person."""


class InvalidRequest(EcsOpsError):
    """The input is wrong. `field` names the culprit as the caller wrote it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class NotFound(EcsOpsError):
    """A resource the caller named does not exist."""


class Conflict(EcsOpsError):
    """The request contradicts an earlier one, or the present state of a resource."""


class Transient(EcsOpsError):
    """The same call may succeed in a moment."""


class Throttled(Transient):
    """AWS is throttling: the same call may succeed if it is made less often."""


class AwsFailure(EcsOpsError):
    """AWS refused. `operation` is the API action, `code` the service's error code."""

    def __init__(self, operation: str, code: str, message: str) -> None:
        super().__init__(f"{operation} failed: {code}: {message}")
        self.operation = operation
        self.code = code
