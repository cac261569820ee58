"""How many tokens a request may send: an upper bound for text, from its bytes, without a tokenizer.

A token of a byte-level vocabulary, as OpenAI's and Anthropic's are, covers at least one byte of UTF-8, and about four of English prose
(https://help.openai.com/en/articles/4936856). Source code comes to three, Chinese and Japanese to two or three, long numbers and hashes to
one and a half or two. So two bytes a token are enough for anything that people write, without setting four times the money aside.
"""

import math
from decimal import Decimal
from typing import Any, NamedTuple

BYTES_PER_TOKEN = 2

IMAGE_TOKENS = 5_000
"""Above what an image costs with OpenAI's (1,536 patches × 2.46, https://platform.openai.com/docs/guides/images-vision) and Anthropic's
models (https://docs.anthropic.com/en/docs/build-with-claude/vision); gpt-4o-mini counts more tokens an image, for as many dollars."""

AUDIO_BYTES_PER_SECOND = 4_000
"""32 kbit/s, about the least that speech is recorded with: an hour of it fits into 14 MB."""
AUDIO_TOKENS_PER_SECOND = 10
"""https://platform.openai.com/docs/guides/realtime-costs: one token for 100 ms of what the user says."""

_IMAGES = {"image", "image_url", "input_image", "image_file"}
_PROMPTS = {"messages", "input", "system", "prompt"}
"""Where a request says what the model reads. Elsewhere, in the schema of a tool say, nothing is an image."""
_PARTS = {"content", "input", "output"}
"""The lists in there whose members are parts of a message: https://platform.openai.com/docs/api-reference/responses/create."""
_OF_TOOLS = {"input", "arguments", "action"}
"""What a model has given to a tool: any JSON."""
_ELSEWHERE = {"previous_response_id", "conversation", "file_id", "file_url", "container"}
"""Keys whose value names text that the provider has already, and that this side does not see."""


class Prompt(NamedTuple):
    """The size of what is sent; `tokens` is None where part of it lies with the provider."""

    tokens: int | None
    """Those that are written to a cache count as often as they cost the price of input, and all that are before them."""
    audio_seconds: Decimal | None


def measure(fields: dict[str, Any]) -> Prompt:
    """The size of a request's prompt, with everything that is sent counted as text unless it is known to be something else."""
    size = _Size()
    # What the model reads; everywhere else, nothing is an image.
    prompts = {name: fields[name] for name in _PROMPTS if name in fields}
    for name, value in prompts.items():
        size.text += len(name)
        size.add(value, prompt=True, parts=True)
    size.add({name: value for name, value in fields.items() if name not in prompts})
    seconds = Decimal(size.audio) / AUDIO_BYTES_PER_SECOND if size.audio else None
    tokens = -(-size.text // BYTES_PER_TOKEN) + size.images * IMAGE_TOKENS + int((seconds or 0) * AUDIO_TOKENS_PER_SECOND)
    return Prompt(None if size.elsewhere else math.ceil(tokens * size.cached), seconds)


class _Size:
    """Bytes of text and sound, and images, of the values that were added."""

    def __init__(self) -> None:
        self.text = self.images = self.audio = 0
        self.elsewhere = False
        self.cached = Decimal(1)
        self._pending: list[tuple[Any, bool, bool]] = []
        """Values, whether each is of the prompt, and whether it is a part of a message."""

    def add(self, value: Any, *, prompt: bool = False, parts: bool = False) -> None:
        """`parts`: where `value` is a list, its members are parts of a message."""
        self._push(value, prompt=prompt, parts=parts)
        while self._pending:
            value, prompt, part = self._pending.pop()
            if isinstance(value, str):
                self.text += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
            elif isinstance(value, dict):
                self._add_object(value, prompt=prompt, part=part)
            elif isinstance(value, list):
                self._push(value, prompt=prompt, parts=False)
            else:
                self.text += BYTES_PER_TOKEN  # a number: in a prompt that is given as tokens, each is one

    def _push(self, value: Any, *, prompt: bool, parts: bool) -> None:
        if isinstance(value, list):
            self._pending.extend((member, prompt, parts) for member in value)
        else:
            self._pending.append((value, prompt, False))

    def _add_object(self, value: dict[str, Any], *, prompt: bool, part: bool) -> None:
        kind = value.get("type")
        if part and kind in _IMAGES and _is_image(value):
            self.images += 1
            self.cached = max(self.cached, _written(value.get("cache_control")))
            return
        if kind == "input_audio" and isinstance(sound := value.get("input_audio"), dict):
            self.audio += len(str(sound.get("data", ""))) * 3 // 4
            return
        if kind == "url":  # https://docs.anthropic.com/en/docs/build-with-claude/pdf-support: a document that lies elsewhere
            self.elsewhere = True
        for key, inner in value.items():
            self.text += len(key)
            if inner and key in _ELSEWHERE:
                self.elsewhere = True
            elif key == "cache_control":
                self.cached = max(self.cached, _written(inner))
            elif key == "file_data" or (key == "data" and kind == "base64"):
                self.text += len(str(inner)) * 3 // 4
            elif prompt and key in _PARTS and isinstance(inner, list):
                self._push(inner, prompt=True, parts=True)
            else:
                self._push(inner, prompt=prompt and key not in _OF_TOOLS, parts=False)


def _written(control: Any) -> Decimal:
    """Price of what is written to the cache, in prices of input: https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching."""
    if not isinstance(control, dict):
        return Decimal(1)
    return Decimal(2) if control.get("ttl") not in (None, "5m") else Decimal("1.25")


def _is_image(part: dict[str, Any]) -> bool:
    """Whether there is an image behind a part that is called one."""
    source, url = part.get("source"), part.get("image_url")
    if isinstance(source, dict) and source.get("type") in {"base64", "url", "file"}:
        return True
    if isinstance(url, dict):
        url = url.get("url")
    if isinstance(url, str):
        return url.startswith(("data:image/", "https://", "http://"))
    return bool(part.get("file_id")) or isinstance(part.get("image_file"), dict)
