"""How the server logs: structlog, for people or machines, on standard error; other libraries' entries go through it."""

import logging
import sys

import structlog

from costwarden.config import LogSettings

PROVIDERS_LIBRARIES = ("azure", "boto3", "botocore", "google", "httpx", "httpx2", "urllib3")
"""What logs every request with its address, and where it found its credentials."""


def configure_logs(settings: LogSettings) -> None:
    """Log as `settings` says from now on."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    if settings.format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        # Plain tracebacks: rich ones print local variables, and a secret may be one.
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=shared
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    # Each migration step is a debugging matter, and so is each request of a provider's library.
    for name in ("alembic", *PROVIDERS_LIBRARIES):
        logging.getLogger(name).setLevel(logging.WARNING if settings.level != "debug" else logging.NOTSET)
