"""A function's loggers write JSON, as Lambda's do with LogFormat JSON; ministack leaves them as is.

The shape is that of awslambdaric's JsonFormatter, with whatever attributes a record has besides.
"""

from __future__ import annotations

from ministack.core import lambda_runtime

_SETUP = """
import logging

class _JsonFormatter(logging.Formatter):
    converter = time.gmtime
    usual = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record):
        line = {
            "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["stackTrace"] = traceback.format_tb(record.exc_info[2])
            line["errorType"] = record.exc_info[0].__name__
            line["errorMessage"] = str(record.exc_info[1])
        rest = {name: value for name, value in vars(record).items() if name not in self.usual}
        return json.dumps({**line, **rest}, default=str)

_handler = logging.StreamHandler(sys.stderr)
_handler.setFormatter(_JsonFormatter())
logging.getLogger().addHandler(_handler)
logging.getLogger().setLevel("INFO")
"""


def install() -> None:
    """Set it up in every worker process, before the function is imported."""
    script, end = lambda_runtime._PYTHON_WORKER_SCRIPT, "\nrun()\n"
    if not script.endswith(end):
        raise RuntimeError("ministack's worker script ends otherwise than it did")
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.removesuffix(end) + _SETUP + end
