"""The package's structured logger: silent until a run has a file for it, and never on stdout."""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog

LOGGER_NAME = "spec_kitty_orchestrator"

logging.getLogger(LOGGER_NAME).addHandler(logging.NullHandler())


def get_logger() -> "structlog.stdlib.BoundLogger":
    """Return the package's structured logger."""
    # It takes long to load, and a command that only reads logs nothing.
    import structlog

    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(LOGGER_NAME),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger
