"""How many tokens a request may send: an upper bound for text, from its bytes, without a tokenizer.

A token of a byte-level vocabulary, as OpenAI's and Anthropic's are, covers at least one byte of UTF-8, and about four of English prose
(https://help.openai.com/en/articles/4936856). Source code comes to three, Chinese and Japanese to two or three, long numbers and hashes to
one and a half or two. So two bytes a token are enough for anything that people write, without setting four times the money aside.
"""

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
_ELSEWHERE = {"previous_response_id", "conversation", "file_id", "file_url", "container"}
"""Keys whose value names text that the provider has already, and that this side does not see."""


class Prompt(NamedTuple):
    """The size of what is sent; `tokens` is None where part of it lies with the provider."""

    tokens: int | None
    audio_seconds: Decimal | None


def measure(fields: dict[str, Any]) -> Prompt:
    """The size of a request's prompt, with everything that is sent counted as text unless it is known to be something else."""
    text = images = audio = 0
    elsewhere = False
    pending: list[Any] = [fields]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            text += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, dict):
            kind = value.get("type")
            if kind in _IMAGES:
                images += 1
                continue
            if kind == "input_audio" and isinstance(sound := value.get("input_audio"), dict):
                audio += len(str(sound.get("data", ""))) * 3 // 4
                continue
            if kind == "url":  # https://docs.anthropic.com/en/docs/build-with-claude/pdf-support: a document that lies elsewhere
                elsewhere = True
            for key, inner in value.items():
                text += len(key)
                if inner and key in _ELSEWHERE:
                    elsewhere = True
                elif key == "file_data" or (key == "data" and kind == "base64"):
                    text += len(str(inner)) * 3 // 4
                else:
                    pending.append(inner)
        elif isinstance(value, list):
            pending.extend(value)
        else:
            text += BYTES_PER_TOKEN  # a number: in a prompt that is given as tokens, each is one
    seconds = Decimal(audio) / AUDIO_BYTES_PER_SECOND if audio else None
    tokens = -(-text // BYTES_PER_TOKEN) + images * IMAGE_TOKENS + int((seconds or 0) * AUDIO_TOKENS_PER_SECOND)
    return Prompt(None if elsewhere else tokens, seconds)
