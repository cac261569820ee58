"""The colours of Grafana's dark theme, by the names that a dashboard gives them."""

import re

HUES = {
    "red": ("#C4162A", "#E02F44", "#F2495C", "#FF7383", "#FFA6B0"),
    "orange": ("#FA6400", "#FF780A", "#FF9830", "#FFB357", "#FFCB7D"),
    "yellow": ("#E0B400", "#F2CC0C", "#FADE2A", "#FFEE52", "#FFF899"),
    "green": ("#37872D", "#56A64B", "#73BF69", "#96D98D", "#C8F2C2"),
    "blue": ("#1F60C4", "#3274D9", "#5794F2", "#8AB8FF", "#C0D8FF"),
    "purple": ("#8F3BB8", "#A352CC", "#B877D9", "#CA95E5", "#DEB6F2"),
}
SHADES = ("dark-", "semi-dark-", "", "light-", "super-light-")

NAMED = {f"{shade}{hue}": colours[number] for hue, colours in HUES.items() for number, shade in enumerate(SHADES)}
NAMED |= {"text": "#ccccdc", "white": "#ffffff", "black": "#000000", "gray": "#8e8e8e", "transparent": "transparent"}

PALETTE = (
    *("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0", "#37872D", "#FADE2A"),
    *("#447EBC", "#C15C17", "#890F02", "#0A437C", "#6D1F62", "#584477", "#B7DBAB", "#F4D598", "#70DBED", "#F9BA8F"),
)
"""Of series in their order; Grafana's `palette-classic`."""


def colour(name: str) -> str:
    """A colour of CSS. Raises `ValueError` for what is neither a name of Grafana's nor written `#rrggbb`."""
    if name in NAMED:
        return NAMED[name]
    if re.fullmatch(r"#[0-9a-fA-F]{3,8}", name):
        return name
    raise ValueError(f"{name!r} is no colour of Grafana's dark theme")


def of_series(number: int) -> str:
    """The colour of the series of that number, counted from 0."""
    return PALETTE[number % len(PALETTE)]
