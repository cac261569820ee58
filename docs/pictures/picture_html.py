"""Elements of a page. Text is escaped wherever it stands: labels are data, and only an element is markup."""

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already, because `element` made it."""

    __slots__ = ()


Content = str | Markup | Iterable["Content"]
Attribute = str | float | bool | None

VOID = {"meta", "path", "rect", "line", "circle"}
"""Elements without content; those of SVG close themselves."""


def element(name: str, content: Content = "", **attributes: Attribute) -> Markup:
    """`<name attribute="…">content</name>`; `_` in the name of an attribute stands for `-`, a final one is dropped: `class_`, `data_id`."""
    written = "".join(f' {_attribute_name(key)}="{_attribute_text(value)}"' for key, value in attributes.items() if value is not None)
    if name in VOID:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{markup(content)}</{name}>")


def markup(content: Content) -> Markup:
    """The pieces one after the other, those that are plain text escaped."""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(html.escape(content))
    return Markup("".join(markup(piece) for piece in content))


def _attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _attribute_text(value: Attribute) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return html.escape(str(value))
