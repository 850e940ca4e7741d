"""What `ecs_ops.aws.durable` takes for granted of the durable SDK's inside."""

from aws_durable_execution_sdk_python import state

import ecs_ops.aws.durable  # noqa: F401 - changes the constant


def test_checkpoint_thread_is_not_waited_for_when_an_invocation_ends() -> None:
    # A name that the SDK no longer knows would be set without any effect.
    waits = state.ExecutionState._wait_for_first_operation.__code__.co_names

    assert "_STOP_SIGNAL_POLL_SECONDS" in waits
    assert state._STOP_SIGNAL_POLL_SECONDS <= 0.01
