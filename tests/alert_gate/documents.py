"""YAML by the parser in C, where there is one: the cases are 20,000 lines, and every worker reads them."""

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load(text: str) -> Any:
    """What a document says."""
    return yaml.load(text, Loader=_LOADER)


def dump(document: Any) -> str:
    """A document that says it, in the order given."""
    return yaml.dump(document, Dumper=_DUMPER, sort_keys=False)
