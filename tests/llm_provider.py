"""A stand-in for OpenAI and Anthropic on loopback that answers from the request: a word of the prompt is a token, and so is each word of
the answer, of which there are as many as `max_tokens` says.

The shapes are those of https://platform.openai.com/docs/api-reference and https://docs.anthropic.com/en/api/messages.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = 20
"""Of an answer whose request sets no limit."""


@dataclass
class Seen:
    """A request that arrived."""

    path: str
    headers: Message
    body: dict[str, Any]


@dataclass
class Knobs:
    """What goes wrong."""

    holds_answers: bool = False
    """Nothing is answered until `released`."""
    cut_after_bytes: int | None = None
    """The connection ends after so many bytes of the answer's body."""
    hold_after_events: int | None = None
    """A stream pauses after so many events, until `released`."""
    fail_with: list[int] = field(default_factory=list)
    """Statuses of the next answers; then they succeed again."""
    knows_stream_options: bool = True
    released: threading.Event = field(default_factory=threading.Event)


class Provider:
    """The server. `seen` lists what arrived, oldest first."""

    def __init__(self) -> None:
        self.knobs = Knobs()
        self.seen: list[Seen] = []
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.knobs.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def tokens(value: Any) -> int:
    """The words of all texts in a prompt."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return sum(tokens(inner) for key, inner in value.items() if key in {"content", "text", "input"})
    return sum(tokens(inner) for inner in value) if isinstance(value, list) else 0


class _Handler(BaseHTTPRequestHandler):
    owner: Provider
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.owner.seen.append(Seen(self.path, self.headers, {}))
        self._json(200, {"object": "list", "data": []})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        is_json = self.headers.get("content-type", "").startswith("application/json")
        body: dict[str, Any] = json.loads(raw) if is_json and raw else {}
        knobs = self.owner.knobs
        self.owner.seen.append(Seen(self.path, self.headers, body))
        if knobs.holds_answers:
            knobs.released.wait()
        if knobs.fail_with:
            status = knobs.fail_with.pop(0)
            self._json(status, {"error": {"type": "server_error", "message": f"failing with {status}", "code": None, "param": None}})
            return
        if "stream_options" in body and not knobs.knows_stream_options:
            message = "Unrecognized request argument supplied: stream_options"
            self._json(400, {"error": {"type": "invalid_request_error", "message": message, "code": None, "param": None}})
            return
        path = self.path.partition("?")[0]
        for ending, answer in (
            ("/chat/completions", self._chat),
            ("/responses", self._responses),
            ("/embeddings", self._embeddings),
            ("/images/generations", self._images),
            ("/audio/transcriptions", self._transcription),
            ("/audio/speech", self._speech),
            ("/v1/messages", self._messages),
        ):
            if path.endswith(ending):
                answer(body)
                return
        self._json(404, {"error": {"type": "not_found", "message": path}})

    # --- OpenAI ----------------------------------------------------------------------------------------------------------------

    def _chat(self, body: dict[str, Any]) -> None:
        words = body.get("max_completion_tokens") or body.get("max_tokens") or WORDS
        usage = {"prompt_tokens": tokens(body["messages"]), "completion_tokens": words}
        usage["total_tokens"] = sum(usage.values())
        base = {"id": "chatcmpl-1", "created": 1_763_208_000, "model": f"{body['model']}-2024-08-06", "service_tier": "default"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "word " * words, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            self._json(200, {**base, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        asked = (body.get("stream_options") or {}).get("include_usage")
        chunk = {**base, "object": "chat.completion.chunk", **({"usage": None} if asked else {})}

        def events() -> Iterator[str]:
            for _ in range(words):
                yield f"data: {json.dumps({**chunk, 'choices': [{'index': 0, 'delta': {'content': 'word '}, 'finish_reason': None}]})}\n\n"
            yield f"data: {json.dumps({**chunk, 'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
            if asked:
                yield f"data: {json.dumps({**chunk, 'choices': [], 'usage': usage})}\n\n"
            yield "data: [DONE]\n\n"

        self._stream(events())

    def _responses(self, body: dict[str, Any]) -> None:
        words = body.get("max_output_tokens") or WORDS
        usage = {
            "input_tokens": tokens(body["input"]),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": words,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens(body["input"]) + words,
        }
        text = {"type": "output_text", "text": "word " * words, "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
        response = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_763_208_000,
            "model": body["model"],
            "status": "completed",
            "output": [message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
        }
        if not body.get("stream"):
            self._json(200, response)
            return

        def events() -> Iterator[str]:
            begun = {**response, "status": "in_progress", "output": [], "usage": None}
            yield _named("response.created", {"type": "response.created", "sequence_number": 0, "response": begun})
            for number in range(1, words + 1):
                place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "sequence_number": number, "logprobs": []}
                yield _named("response.output_text.delta", {"type": "response.output_text.delta", "delta": "word ", **place})
            yield _named("response.completed", {"type": "response.completed", "sequence_number": words + 1, "response": response})

        self._stream(events())

    def _embeddings(self, body: dict[str, Any]) -> None:
        count = tokens(body["input"])
        data = [{"object": "embedding", "index": 0, "embedding": [0.0, 1.0]}]
        usage = {"prompt_tokens": count, "total_tokens": count}
        self._json(200, {"object": "list", "data": data, "model": body["model"], "usage": usage})

    def _images(self, body: dict[str, Any]) -> None:
        self._json(200, {"created": 1_763_208_000, "data": [{"url": "https://example.org/1.png"} for _ in range(body.get("n", 1))]})

    def _transcription(self, _: dict[str, Any]) -> None:
        self._json(200, {"text": "hello", "usage": {"type": "duration", "seconds": 9}})

    def _speech(self, _: dict[str, Any]) -> None:
        self._answer(200, "audio/mpeg", [b"ID3sound"])

    # --- Anthropic -------------------------------------------------------------------------------------------------------------

    def _messages(self, body: dict[str, Any]) -> None:
        words = body["max_tokens"]
        usage = {"input_tokens": tokens(body["messages"]), "output_tokens": words}
        cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 10}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}
        if not body.get("stream"):
            content = [{"type": "text", "text": "word " * words}]
            self._json(200, {**message, "content": content, "stop_reason": "end_turn", "usage": {**usage, **cached}})
            return

        def events() -> Iterator[str]:
            begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, **cached, "output_tokens": 1}}
            yield _named("message_start", {"type": "message_start", "message": begun})
            start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
            yield _named("content_block_start", start)
            for _ in range(words):
                delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
                yield _named("content_block_delta", delta)
            yield _named("content_block_stop", {"type": "content_block_stop", "index": 0})
            ended = {"stop_reason": "end_turn", "stop_sequence": None}
            yield _named("message_delta", {"type": "message_delta", "delta": ended, "usage": {"output_tokens": words}})
            yield _named("message_stop", {"type": "message_stop"})

        self._stream(events())

    # --- bytes -----------------------------------------------------------------------------------------------------------------

    def _json(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self._answer(status, "application/json", [body], {"content-length": str(len(body))})

    def _stream(self, events: Iterator[str]) -> None:
        self._answer(200, "text/event-stream", (event.encode() for event in events))

    def _answer(self, status: int, content_type: str, parts: Any, headers: dict[str, str] | None = None) -> None:
        knobs = self.owner.knobs
        self.send_response(status)
        self.send_header("content-type", content_type)
        chunked = headers is None
        for name, value in (headers or {"transfer-encoding": "chunked"}).items():
            self.send_header(name, value)
        self.end_headers()
        sent = 0
        try:
            for number, part in enumerate(parts):
                if number == knobs.hold_after_events:
                    self.wfile.flush()
                    knobs.released.wait()
                if knobs.cut_after_bytes is not None and sent + len(part) > knobs.cut_after_bytes:
                    self.wfile.flush()
                    self.close_connection = True
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
                sent += len(part)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True  # the reader has left


def _named(name: str, event: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(event)}\n\n"
