"""Reading a stream as it passes: the same figures in any chunking, and what is known where it breaks off."""

import time

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st
from provider_streams import ANTHROPIC, BEDROCK_CONVERSE, OPENAI_CHAT, STREAMS, chat_chunk, events, message

from costwarden.metering import frames
from costwarden.metering.responses import Consumed, StreamReader


def read(stream: bytes, size: int = 1 << 20) -> StreamReader:
    """A reader that was fed `stream` in chunks of `size` bytes."""
    reader = StreamReader()
    for start in range(0, len(stream), size):
        reader.feed(stream[start : start + size])
    return reader


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("name", STREAMS)
def test_a_whole_stream_tells_what_it_consumed(name, size):
    stream, expected, characters = STREAMS[name]
    reader = read(stream, size)
    assert reader.consumed() == Consumed(**expected)
    assert (reader.complete, reader.delivered_characters) == (True, characters)


@given(st.sampled_from(sorted(STREAMS)), st.data())
def test_no_chunking_changes_what_is_read_nor_does_asking_in_between(name, data):
    stream, expected, characters = STREAMS[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=20)))
    reader = StreamReader()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        if data.draw(st.booleans()):
            reader.consumed()
    assert (reader.consumed(), reader.complete, reader.delivered_characters) == (Consumed(**expected), True, characters)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_breaks_at_any_byte_never_tells_more_than_the_whole_one(name):
    stream, expected, characters = STREAMS[name]
    whole = Consumed(**expected)
    reader = StreamReader()
    delivered = 0
    for byte in range(len(stream)):
        reader.feed(stream[byte : byte + 1])
        consumed = reader.consumed()
        assert delivered <= reader.delivered_characters <= characters
        delivered = reader.delivered_characters
        if consumed is not None:
            assert consumed.input_tokens <= whole.input_tokens
            assert consumed.output_tokens <= whole.output_tokens
        if reader.complete:
            assert consumed == whole


def test_a_stream_that_breaks_before_its_blank_line_has_lost_nothing():
    reader = read(OPENAI_CHAT.partition(b"\n\ndata: [DONE]")[0])
    assert reader.consumed().output_tokens == 30
    assert reader.complete


def test_anthropics_stream_cut_short_tells_the_input_and_the_last_figure_of_the_output():
    reader = read(ANTHROPIC.partition(b"event: message_delta")[0])
    consumed = reader.consumed()
    assert (consumed.input_tokens, consumed.output_tokens) == (25 + 300 + 4_000, 1)
    assert (reader.complete, reader.delivered_characters) == (False, len("HmHello"))


def test_a_chat_without_include_usage_is_never_complete_and_counts_what_it_delivered():
    stream = events(chat_chunk(choices=[{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]), "[DONE]")
    reader = read(stream)
    assert reader.consumed() == Consumed(provider="openai", operation="chat", model="gpt-4o-2024-08-06", response_id="chatcmpl-9")
    assert (reader.complete, reader.delivered_characters) == (False, 5)


def test_counts_in_every_chunk_are_cumulative():
    usage = [{"prompt_tokens": 10, "completion_tokens": done, "total_tokens": 10 + done} for done in (1, 2, 3)]
    choices = [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]
    reader = read(events(*(chat_chunk(choices=choices, usage=so_far) for so_far in usage)))
    assert (reader.consumed().input_tokens, reader.consumed().output_tokens, reader.complete) == (10, 3, False)


def test_groq_puts_the_usage_of_a_stream_in_a_place_of_its_own():
    last = chat_chunk(model="llama-3.3-70b", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    last["x_groq"] = {"id": "req_1", "usage": {"prompt_tokens": 8, "completion_tokens": 9, "total_tokens": 17}}
    reader = read(events(last, "[DONE]"))
    assert (reader.consumed().input_tokens, reader.consumed().output_tokens, reader.complete) == (8, 9, True)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_every_line_end_of_the_standard_is_one_and_comments_are_none_of_our_business(end, size):
    stream = b"\xef\xbb\xbf: keep-alive\n\n" + OPENAI_CHAT.replace(b"data: ", b"id: 7\nretry: 10\n: comment\ndata:")
    reader = read(stream.replace(b"\n", end), size)
    assert (reader.consumed().output_tokens, reader.complete) == (30, True)


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_an_event_may_spread_its_data_over_lines(size):
    lines = ('{"choices": [{"index": 0, "delta": {"content": "Hi"}}],', '"usage": {"prompt_tokens": 1,', '"completion_tokens": 2}}')
    stream = "".join(f"data: {line}\n" for line in lines).encode() + b"\n"
    reader = read(stream, size)
    assert (reader.consumed().input_tokens, reader.consumed().output_tokens, reader.delivered_characters) == (1, 2, 2)


@pytest.mark.parametrize(
    "noise",
    [
        b"data: {not json}\n\n",
        b"data: 7\n\n",
        b"data: \xff\xfe\n\n",
        b"<html>502</html>\n",
        b'data: {"type": "message_delta", "usage": {"output_tokens": -3}}\n\n',
        b'data: {"choices": [7, {"delta": "x"}], "usage": "none"}\n\n',
        b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n',
    ],
)
def test_what_is_not_understood_is_passed_over(noise):
    reader = read(noise + OPENAI_CHAT)
    assert (reader.consumed().output_tokens, reader.complete) == (30, True)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_no_bytes_however_odd_break_the_reader(chunks):
    reader = StreamReader()
    for part in chunks:
        reader.feed(part)
    reader.consumed()


def test_nothing_known_is_none():
    assert StreamReader().consumed() is None
    assert read(b"<html>Bad gateway</html>\n").consumed() is None


def test_the_messages_of_these_tests_are_those_of_aws():
    buffer = EventStreamBuffer()
    buffer.add_data(BEDROCK_CONVERSE)
    assert [event.headers[":event-type"] for event in buffer][-1] == "metadata"


def test_a_damaged_message_ends_the_reading_and_keeps_what_was_read():
    damaged = bytearray(message("metadata", {"usage": {"inputTokens": 9, "outputTokens": 9, "totalTokens": 18}}))
    damaged[-6] ^= 1
    reader = read(message("contentBlockDelta", {"delta": {"text": "Hello"}}) + bytes(damaged) + BEDROCK_CONVERSE)
    assert (reader.consumed().output_tokens, reader.complete, reader.delivered_characters) == (0, False, 5)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_an_event_is_decoded_once_however_it_comes(monkeypatch, size):
    decoded = []
    decode = frames._decode
    monkeypatch.setattr(frames, "_decode", lambda payload: decoded.append(payload) or decode(payload))
    line = events(chat_chunk(choices=[{"index": 0, "delta": {"content": "Hello, world"}, "finish_reason": None}]))
    reader = read(line * 200, size)
    assert (len(decoded), reader.delivered_characters) == (200, 200 * len("Hello, world"))


def test_a_long_line_in_short_chunks_is_work_in_proportion():
    picture = "A" * 8_000_000
    stream = events({"type": "image_generation.completed", "b64_json": picture, "usage": {"input_tokens": 1, "output_tokens": 2}})
    # What this thread computes, and not what passes meanwhile.
    start = time.thread_time()
    reader = read(stream, 100)
    # Copying the line anew for each of its 80,000 chunks would move 320 GB: half a minute and more; it is a tenth of a second.
    assert time.thread_time() - start < 10
    assert reader.consumed().images == 1


def test_arguments_of_every_kind_of_tool_are_delivered():
    deltas = ({"function_call": {"name": "f", "arguments": "zzz"}}, {"tool_calls": [{"index": 0, "custom": {"input": "zz"}}]})
    reader = read(events(*(chat_chunk(choices=[{"index": 0, "delta": delta}]) for delta in deltas)))
    assert reader.delivered_characters == 5


def test_a_stream_of_several_answers_is_complete_when_the_last_of_them_is():
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    reader = StreamReader(answers=2)
    completed = []
    for index in (0, 0, 1):
        reader.feed(events(chat_chunk(choices=[{"index": index, "delta": {}, "finish_reason": "stop"}], usage=usage)))
        completed.append(reader.complete)
    assert completed == [False, False, True]


@pytest.mark.parametrize(
    ("stream", "failed"),
    [
        (b'event: error\ndata: {"message": "overloaded"}\n\n', True),
        (b'data: {"type": "error", "error": {"type": "overloaded_error"}}\n\n', True),
        (b'data: {"error": {"message": "overloaded"}, "choices": []}\n\n', True),
        (b'data: {"type": "response.failed", "response": {"error": {"code": "server_error"}}}\n\n', True),
        (b'data: {"choices": [{"delta": {"content": "event: error"}}], "error": null}\n\n', False),
        (b'data: {"choices": [{"delta": {"content": "data: {\\"error\\": 1}"}}]}\n\n', False),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_an_error_in_mid_stream_is_told_by_an_event_and_not_by_the_text(stream, failed, size):
    assert read(stream, size).failed is failed
