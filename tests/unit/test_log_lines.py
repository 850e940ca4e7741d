"""Every line of a run has its correlation id, whichever logger writes it."""

from __future__ import annotations

import io
import json
import logging

from aws_lambda_powertools import Logger

from ecs_ops.aws.log_lines import correlate


def test_id_is_in_the_lines_of_our_logger_when_a_run_is_under_way() -> None:
    stream = io.StringIO()
    logger = Logger(service="log-lines", stream=stream)

    correlate("first")
    logger.info("one", extra={"messages": 1})
    correlate("second")
    logger.info("two")

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["correlation_id"] for line in lines] == ["first", "second"]


def test_id_is_an_attribute_of_every_record_when_a_run_is_under_way() -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    module = logging.getLogger("ecs_ops.aws.some_module")
    module.addHandler(handler)

    correlate("third")
    module.warning("something of %s", "theirs")

    module.removeHandler(handler)
    # Lambda's formatter writes the attributes that it does not know.
    assert records[0].__dict__["correlation_id"] == "third"
