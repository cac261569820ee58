"""Which format and which encoding a scrape asks for."""

from collections.abc import Iterator
from functools import lru_cache

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Prometheus 2.42 asks `application/openmetrics-text;version=1.0.0,…;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1`,
# 3.x `application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,…,text/plain;version=1.0.0;escaping=…;q=0.3,…`
# (scrape/scrape.go, acceptHeader). A browser's or curl's `*/*` gets text.
_OPENMETRICS_VERSIONS = ("", "1.0.0")
_TEXT_VERSIONS = ("", "0.0.4", "1.0.0")


@lru_cache(maxsize=64)  # every scrape of a Prometheus sends the same headers
def choose(accept: str, accept_encoding: str) -> tuple[bool, bool]:
    """(OpenMetrics, gzip) as the two request headers ask; (False, False), plain text, where they ask for nothing that there is."""
    openmetrics = text = 0.0
    for media_type, parameters in _elements(accept):
        version = parameters.get("version", "")
        if media_type == "application/openmetrics-text" and version in _OPENMETRICS_VERSIONS:
            openmetrics = max(openmetrics, _weight(parameters))
        elif media_type in ("text/*", "*/*") or (media_type == "text/plain" and version in _TEXT_VERSIONS):
            text = max(text, _weight(parameters))
    gzip = any(coding == "gzip" and _weight(parameters) > 0 for coding, parameters in _elements(accept_encoding))
    return openmetrics > 0 and openmetrics >= text, gzip


def _elements(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for element in header.lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        yield name, {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _weight(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
