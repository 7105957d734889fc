"""The package's structured logger: silent until a run has a file for it, and never on stdout."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog

__all__ = ["LOGGER_NAME", "get_logger"]

LOGGER_NAME = "spec_kitty_orchestrator"


def get_logger() -> "structlog.stdlib.BoundLogger":
    """Return the package's structured logger."""
    # They take long to load, and a command that only reads logs nothing.
    import logging

    import structlog

    silent = logging.getLogger(LOGGER_NAME)
    if not any(isinstance(one, logging.NullHandler) for one in silent.handlers):
        silent.addHandler(logging.NullHandler())
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        silent,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger
