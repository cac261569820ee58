"""A PNG with a palette of 256 colours in place of the browser's, which has millions, and a third of its size.

Pages have few colours, and the shades between them at the edges of letters: what is not kept becomes the nearest of what is.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS, COMMON = 256, 160
"""So many of them are the commonest; the rest are those that are furthest from all that are kept."""

Colour = tuple[int, int, int]


def shrink(picture: Path) -> None:
    """Write a picture of 8 bits and 3 channels anew, with a palette. Raises `ValueError` for another kind of picture."""
    width, height, lines = _read(picture.read_bytes())
    pixels = list(zip(lines[0::3], lines[1::3], lines[2::3], strict=True))
    counts = Counter(pixels)
    palette, index = _palette(counts)
    found = bytes(map(index.__getitem__, pixels))
    # Lines without a filter: neighbours in a palette have nothing to do with each other.
    raw = b"".join(b"\0" + found[start : start + width] for start in range(0, width * height, width))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(part for colour in palette for part in colour)),
        (b"IDAT", zlib.compress(raw, 9)),
        (b"IEND", b""),
    )
    picture.write_bytes(SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks))


def _palette(counts: Counter[Colour]) -> tuple[list[Colour], dict[Colour, int]]:
    """The colours that are kept, and for each colour that there is the number of the one that stands for it."""
    palette = [colour for colour, _ in counts.most_common(COMMON)]
    # Of colours that nobody could tell apart one is looked at.
    alike = {colour: (colour[0] >> 3, colour[1] >> 3, colour[2] >> 3) for colour in counts}
    shades = dict(zip(alike.values(), counts, strict=True))
    nearest = {shade: min((_distance(kept, colour), number) for number, kept in enumerate(palette)) for shade, colour in shades.items()}
    while len(palette) < COLOURS:
        furthest, shade = max((distance, shade) for shade, (distance, _) in nearest.items())
        if not furthest:
            break
        strange, number = shades[shade], len(palette)
        for other, colour in shades.items():
            distance = _distance(strange, colour)
            if distance < nearest[other][0]:
                nearest[other] = distance, number
        palette.append(strange)
    found = {colour: nearest[shade][1] for colour, shade in alike.items()}
    return palette, found | {colour: number for number, colour in enumerate(palette)}


def _distance(one: Colour, other: Colour) -> int:
    """Of two colours, as far as an eye minds: green counts most, blue least."""
    red, green, blue = one[0] - other[0], one[1] - other[1], one[2] - other[2]
    return 3 * red * red + 6 * green * green + blue * blue


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        yield name, content[at + 8 : at + 8 + size]
        at += 12 + size


def _read(content: bytes) -> tuple[int, int, bytes]:
    """Width, height, and three bytes a pixel, line after line."""
    if not content.startswith(SIGNATURE):
        raise ValueError("this is no PNG")
    chunks = list(_chunks(content))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if (depth, kind, interlaced) != (8, 2, 0):
        raise ValueError(f"a PNG of {depth} bits, kind {kind}, interlaced {interlaced}: only 8, 2 and 0 are known here")
    data = zlib.decompress(b"".join(part for name, part in chunks if name == b"IDAT"))
    above, found = bytearray(3 * width), bytearray()
    for start in range(0, len(data), 3 * width + 1):
        line = bytearray(data[start + 1 : start + 1 + 3 * width])
        _unfilter(data[start], line, above)
        found += line
        above = line
    return width, height, bytes(found)


# https://www.w3.org/TR/png-3/#9Filter-types: each byte was written as its difference to what its neighbours, 3 bytes away, foretell.
def _unfilter(kind: int, line: bytearray, above: bytearray) -> None:
    if kind == 1:
        for at in range(3, len(line)):
            line[at] = (line[at] + line[at - 3]) & 255
    elif kind == 2:
        line[:] = bytes([(one + up) & 255 for one, up in zip(line, above, strict=True)])
    elif kind == 3:
        for at, up in enumerate(above):
            left = line[at - 3] if at >= 3 else 0
            line[at] = (line[at] + (left + up) // 2) & 255
    elif kind == 4:
        for at, up in enumerate(above):
            left, corner = (line[at - 3], above[at - 3]) if at >= 3 else (0, 0)
            to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
            line[at] = (line[at] + (left if to_left <= to_up and to_left <= to_corner else up if to_up <= to_corner else corner)) & 255
