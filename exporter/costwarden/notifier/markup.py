"""How text is written so that it is only shown: plainly, as HTML, as Markdown, and within one segment of an SMS."""

import html
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from urllib.parse import quote


def one_line(text: str) -> str:
    """`text` as one line: white space becomes a blank; what a terminal, a mail or a reader would obey is left out."""
    shown = "".join(char if unicodedata.category(char) not in _OBEYED else " " for char in text)
    return " ".join(shown.split())


_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Control and format characters (those that turn the direction of writing among them), halves of surrogate pairs, separators of lines."""


def cut(text: str, limit: int) -> str:
    """The first `limit` characters; the last is `…` where more were there."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"[:limit]


_MENTION = re.compile(r"@(?=\w)")

_MASKED_LINK = re.compile(r"\](?=\()")


def _broken_up(text: str) -> str:
    """`text` that calls nobody and hides no link: a character without width stands where a service looks for its syntax."""
    # https://support.discord.com, Mattermost, Rocket.Chat and Slack find `@here`, `@channel`, `@everyone` and names in plain text too.
    return _MASKED_LINK.sub("]\u200b", _MENTION.sub("@\u200b", text))


class Markup(ABC):
    """One way to write lines. Every argument is raw text; what is given back is escaped."""

    @abstractmethod
    def escape(self, text: str) -> str:
        """`text` so that it is shown as it is."""

    def plain_title(self, text: str) -> str:
        """A title that the service shows beside the body."""
        return text

    def heading(self, text: str) -> str:
        """A line that stands out."""
        return self.escape(text)

    def line(self, text: str) -> str:
        """A line of its own."""
        return self.escape(text)

    def item(self, name: str, text: str) -> str:
        """The first line of an alert."""
        return f"{self.escape(name)}: {self.escape(text)}"

    def detail(self, text: str) -> str:
        """A further line of an alert."""
        return self.escape(text)

    @abstractmethod
    def link(self, title: str, address: str) -> str:
        """A line with an address to follow; `address` is http or https."""

    def joined(self, lines: Sequence[str]) -> str:
        """The body."""
        return "\n".join(lines)

    def length(self, lines: Sequence[str]) -> int:
        """Characters that `lines` take in a body."""
        return len(self.joined(lines)) + (1 if lines else 0)


class Plain(Markup):
    """Text."""

    def escape(self, text: str) -> str:
        """Nothing but mentions and hidden links, which some services find in text."""
        return _broken_up(text)

    def plain_title(self, text: str) -> str:
        """As the body."""
        return _broken_up(text)

    def item(self, name: str, text: str) -> str:
        """With a dash before it."""
        return f"- {super().item(name, text)}"

    def detail(self, text: str) -> str:
        """Set in, so that no value looks like an alert."""
        return f"  {self.escape(text)}"

    def link(self, title: str, address: str) -> str:
        """The address itself."""
        return f"  {self.escape(title)}: {_harmless(address)}"


class Html(Markup):
    """HTML for mail."""

    def escape(self, text: str) -> str:
        """With `&`, `<`, `>` and both quotes as entities."""
        return html.escape(text)

    def heading(self, text: str) -> str:
        """In bold."""
        return f"<p><b>{self.escape(text)}</b></p>"

    def line(self, text: str) -> str:
        """A paragraph."""
        return f"<p>{self.escape(text)}</p>"

    def item(self, name: str, text: str) -> str:
        """With the name in bold."""
        return f"<p><b>{self.escape(name)}</b>: {self.escape(text)}</p>"

    def detail(self, text: str) -> str:
        """A division."""
        return f"<div>{self.escape(text)}</div>"

    def link(self, title: str, address: str) -> str:
        """A link."""
        return f'<div><a href="{self.escape(address)}">{self.escape(title)}</a></div>'


class Markdown(Markup):
    """CommonMark; Apprise turns it into the service's own kind, as Slack's."""

    _SPECIAL = re.compile(r"([\\`*_\[\]()<>#~|!{}])")

    def escape(self, text: str) -> str:
        """With a backslash before what CommonMark gives a meaning."""
        return self._SPECIAL.sub(r"\\\1", _broken_up(text))

    def heading(self, text: str) -> str:
        """In bold."""
        return f"**{self.escape(text)}**"

    def item(self, name: str, text: str) -> str:
        """With the name in bold."""
        return f"**{self.escape(name)}**: {self.escape(text)}"

    def link(self, title: str, address: str) -> str:
        """A link; its address has no character that could end it."""
        return f"[{self.escape(title)}](<{_harmless(address)}>)"

    def joined(self, lines: Sequence[str]) -> str:
        """With an empty line between two: one alone is a blank in Markdown."""
        return "\n\n".join(lines)

    def length(self, lines: Sequence[str]) -> int:
        """Characters that `lines` take in a body."""
        return len(self.joined(lines)) + (2 if lines else 0)


def _harmless(address: str) -> str:
    """An address without a character that could end it where it stands, or mention anybody."""
    return quote(address, safe="%/:?#!$&'*+,;=~[]-._")


MARKUPS: dict[str, Markup] = {"text": Plain(), "html": Html(), "markdown": Markdown()}
"""By Apprise's names."""


# GSM 03.38: 160 of the first fit a segment, those of the second count twice; with any other character a segment has 70 UTF-16 units.
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_TWICE = frozenset("^{}\\[~]|€")

SEGMENT = 160


def segment(head: str, text: str, tail: str, limit: int) -> str:
    """`head`, as much of `text` as fits, and `tail` in one segment of an SMS, of at most `limit` characters."""
    text = text.translate(_SPELT_OUT)
    for kept in range(min(len(text), limit), -1, -1):
        shown = text if kept == len(text) else f"{text[:kept].rstrip()}..."
        if _fits(whole := f"{head}{shown}{tail}", limit):
            return whole
    return cut(head, limit)


_SPELT_OUT = str.maketrans({"…": "...", "\u2013": "-", "\u2014": "-", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})


def _fits(text: str, limit: int) -> bool:
    if all(char in _GSM or char in _GSM_TWICE for char in text):
        return len(text) + sum(char in _GSM_TWICE for char in text) <= min(limit, SEGMENT)
    return len(text.encode("utf-16-le")) // 2 <= min(limit, 70)
