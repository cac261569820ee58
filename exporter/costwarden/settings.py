"""What every section of `costwarden.yaml` is made of.

A section is a subclass of `Settings`, defined beside the code that it configures; `config.py` puts them together.
This module knows no key of its own.
"""

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    try:
        expanded = path.expanduser()
    except RuntimeError:
        raise ValueError("there is no such home directory") from None
    return (info.context["directory"] if info.context else Path.cwd()) / expanded


ConfigPath = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path; a relative one is meant from the directory of the configuration file, wherever the program was started."""


class Settings(BaseModel):
    """A strict, immutable section: an unknown key is an error, because a misspelt budget must not become an unlimited one."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes `true` for 1, and pydantic reads text, which a number with a leading zero or a colon is by now.
        if isinstance(value, bool | str) and info.field_name and cls.model_fields[info.field_name].annotation in (int, int | None):
            raise ValueError("must be a whole number, in digits without a leading zero")
        return value


class Secret(Settings):
    """A secret that is named in the configuration and kept out of it: `{file: PATH}` or `{env: NAME}`.

    `reveal` reads it; nothing else does, so that a dump of the configuration cannot print it.
    """

    file: ConfigPath | None = None
    """File that holds the secret; white space at both ends is dropped. Read anew at every use, so that a rotation needs no restart."""
    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Environment variable that holds the secret."""

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, data: Any) -> Any:
        if not isinstance(data, dict | Secret):
            raise ValueError("must be `{file: PATH}` or `{env: NAME}`, not the secret itself")
        return data

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("name exactly one origin of the secret: `file` or `env`")
        return self


_LEADING_ZERO = re.compile(r"\s*[-+]?0[0-9]")


def _money(value: Any) -> Any:
    # YAML hands 0.1 over as a float; its shortest repr is what the user typed.
    if isinstance(value, bool):
        raise ValueError("an amount of money is a number")
    if isinstance(value, str) and _LEADING_ZERO.match(value):
        raise ValueError("has a leading zero, which may mean an octal number: leave it out")
    return repr(value) if isinstance(value, float) else value


def _not_negative(value: Decimal) -> Decimal:
    if not value.is_finite() or value < 0:
        raise ValueError("must be a finite amount of at least 0")
    return value


def _whole_nanos(value: Decimal) -> Decimal:
    if value > MOST_USD:
        raise ValueError(f"must be at most {MOST_USD}")
    # A float reads 0.1 as 0.1, but 1e-10 would silently round to nothing in the ledger.
    if value != value.quantize(Decimal("1e-9")):
        raise ValueError("is finer than a nano-dollar (9 decimal places)")
    return value


MOST_USD = 1_000_000_000
"""A billion dollars: nine times as much fits the ledger's 64-bit nano-dollars."""

Usd = Annotated[Decimal, BeforeValidator(_money), AfterValidator(_not_negative), AfterValidator(_whole_nanos)]
"""An amount in US dollars, from 0 to `MOST_USD`, at most 9 decimal places."""

Price = Annotated[Decimal, BeforeValidator(_money), AfterValidator(_not_negative)]
"""A price or an exchange rate: at least 0, any number of decimal places."""
