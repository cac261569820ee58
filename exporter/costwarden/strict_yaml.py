"""YAML files that people write: read strictly, and told of their mistakes by file, key, value and rule."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError


class YamlError(Exception):
    """The file cannot be used; the message has a line for each mistake, each beginning with the file."""


def read_yaml(path: Path) -> tuple[Any, yaml.Node | None]:
    """What `path` says, and its node tree, which knows the lines. Raises `YamlError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise YamlError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise YamlError(f"{path}: is not UTF-8 text") from None
    try:
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
            return (None if node is None else loader.construct_document(node)), node
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise YamlError(f"{path}: {_one_line(error, text)}") from None
    except RecursionError:
        raise YamlError(f"{path}: lists and mappings are nested too deeply") from None


def line_of(node: yaml.Node | None, location: Sequence[int | str]) -> int:
    """The line, from 1, on which what stands at `location` begins, or the nearest that is there."""
    line = 1
    for part in (*location, None):
        if node is None:
            break
        line = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        else:
            node = None
    return line


_BOOL = "tag:yaml.org,2002:bool"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys: the second of two limits must not win in silence."""

    # YAML 1.1 also reads off, on, no and yes as booleans: `mode: off` would be False, which is no mode. And 0100 as 64, and 1:30 as 90.
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _INT, _FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(None, None, f"the key `{key.value}` stands twice", key.start_mark)
                seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        # PyYAML lets these through: 2025-02-30 looks like a date and is none.
        except ValueError:
            raise yaml.constructor.ConstructorError(None, None, "looks like a date or a number and is none", node.start_mark) from None


_StrictLoader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
# Numbers in decimal digits, with underscores between them. `.inf` and `.nan` stay, to be told of by their names.
_StrictLoader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)$"), list("-+0123456789"))
_StrictLoader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)

# A secret may begin with `*` or `!`, and then it is an alias or a tag to YAML.
_GIVEN_NAME = re.compile(r"(alias|anchor|handle|tag) (['\"]).*\2")


def _one_line(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        lines = text[: error.position].split("\n")
        line, column, problem = len(lines), len(lines[-1]) + 1, f"the character {error.character:#x} is not allowed"
    elif isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
        problem = _GIVEN_NAME.sub(r"\1", ", ".join(part for part in (error.context, error.problem) if part))
    else:
        return " ".join(str(error).split())
    return f"line {line}, column {column}: {problem}"


# A URL may carry a password; `assumed_input_tokens` are no secret.
_SECRET_KEY = re.compile(r"secret|token(?!s$)|password|key|credential|url", re.IGNORECASE)

_MESSAGES = {
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
}
"""Instead of pydantic's, which speak of Python."""


def sentences(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """A sentence for each mistake in what was meant to be `model`."""
    return [sentence for _, sentence in located_sentences(error, model)]


def located_sentences(error: ValidationError, model: type[BaseModel]) -> list[tuple[tuple[int | str, ...], str]]:
    """As `sentences`, each with where the mistake stands."""
    items: list[Any] = [
        dict(item, loc=_without_tags(model, location), tagged=location)
        for item in error.errors(include_url=False)
        for location in [tuple(part for part in item["loc"] if part != "[key]")]
    ]
    # Of a list whose entries are wrong pydantic also says that it is too short.
    wrong_inside = {item["loc"][:length] for item in items for length in range(len(item["loc"]))}
    return [(item["loc"], _sentence(item, model)) for item in items if item["type"] != "too_short" or item["loc"] not in wrong_inside]


def _without_tags(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Where it stands in the file. Of an entry that is told apart by its `type`, pydantic puts that type behind the entry's number."""
    return tuple(
        part
        for position, part in enumerate(location)
        if not (position and isinstance(location[position - 1], int) and _of_kind(_models_at(model, location[:position]), part))
    )


def _sentence(item: Any, model: type[BaseModel]) -> str:
    location: tuple[int | str, ...] = item["loc"]
    key = _dotted(location)
    is_secret = location[:1] == ("auth",) or any(isinstance(part, str) and _SECRET_KEY.search(part) for part in location)
    if item["type"] == "extra_forbidden":
        known = _keys_at(model, item["tagged"][:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f", did you mean `{near[0]}`?" if near else f"; known here: {', '.join(f'`{name}`' for name in known)}"
        # `secret: {hunter2}` is a mapping with the secret for a key.
        return f"`{_dotted(location[:-1])}`: unknown key{hint}" if is_secret and not near else f"unknown key `{key}`{hint}"
    if item["type"] == "union_tag_invalid":
        return f"`{key}.type`: {item['ctx']['tag']!r}: input should be {item['ctx']['expected_tags']}"
    if item["type"] == "missing":
        return f"`{key}`: is missing"
    message = _MESSAGES.get(item["type"]) or item["msg"].removeprefix("Value error, ")
    if not location:
        return str(message)
    if is_secret or isinstance(item["input"], dict | list):
        return f"`{key}`: {_lower(message)}"
    return f"`{key}`: {item['input']!r}: {_lower(message)}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at `location`."""
    return sorted({name for found in _models_at(model, location) for name in found.model_fields})


def _models_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """The models of the section at `location`: walks them as pydantic did, through lists, options and tagged unions."""
    models = [model]
    for position, part in enumerate(location):
        # First, because a kind may be named as a key of another one is.
        if position and isinstance(location[position - 1], int) and (of_kind := _of_kind(models, part)):
            models = of_kind
        elif fields := [found.model_fields[part].annotation for found in models if isinstance(part, str) and part in found.model_fields]:
            models = [inner for annotation in fields for inner in models_in(annotation)]
    return models


def _of_kind(models: list[type[BaseModel]], tag: int | str) -> list[type[BaseModel]]:
    """Those of several models whose `type` is `tag`."""
    typed = [found for found in models if "type" in found.model_fields]
    return [found for found in typed if tag in get_args(found.model_fields["type"].annotation)] if len(typed) > 1 else []


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type names, through lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is not None or isinstance(annotation, UnionType):
        return [model for argument in get_args(annotation) for model in models_in(argument)]
    return []
