"""A headless Chromium: the picture of a page, and where on it everything lies."""

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FETCHED = Path(__file__).resolve().parents[2] / ".tools" / "bin" / NAMES[0]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--hide-scrollbars"),
    *("--disable-dev-shm-usage", "--force-device-scale-factor=1", "--force-color-profile=srgb", "--font-render-hinting=none"),
)

# Every element of a panel must lie inside it, unless something between them cuts off what is too long. A mark counts where it has a size:
# a line has no height, and a text that is empty has no width.
MEASURE = """
const edge = 1.5;
const place = box => ({left: box.left, top: box.top, right: box.right, bottom: box.bottom});
const cut = (element, panel) => {
  for (let at = element.parentElement; at && at !== panel; at = at.parentElement)
    if (getComputedStyle(at).textOverflow === 'ellipsis') return true;
  return false;
};
const panels = [...document.querySelectorAll('[data-panel]')].map(panel => {
  const outer = panel.getBoundingClientRect();
  const inside = [...panel.querySelectorAll('*')].filter(element => !['TITLE', 'title', 'COL', 'COLGROUP'].includes(element.tagName));
  const outlying = inside.filter(element => {
    const box = element.getBoundingClientRect();
    const out = box.left < outer.left - edge || box.top < outer.top - edge
      || box.right > outer.right + edge || box.bottom > outer.bottom + edge;
    return (box.width || box.height) && out && !cut(element, panel);
  }).map(element => `${element.tagName.toLowerCase()}.${element.getAttribute('class') || ''} ${element.textContent.slice(0, 40)}`);
  const marks = [...panel.querySelectorAll('.mark')].filter(mark => {
    const box = mark.getBoundingClientRect();
    return box.width > 0.5 || box.height > 0.5;
  });
  return {id: panel.dataset.panel, title: panel.dataset.title, type: panel.dataset.type, ...place(outer), outlying, marks: marks.length,
          no_data: panel.querySelector('.no-data') !== null};
});
const found = {panels, width: document.body.offsetWidth, height: document.body.offsetHeight, inner: [innerWidth, innerHeight]};
const told = document.createElement('pre');
told.id = 'layout';
told.textContent = JSON.stringify(found);
document.body.append(told);
"""


class BrowserFailed(Exception):
    """There is no browser, or it did not do what it was asked."""


class Layout(NamedTuple):
    """Where everything of a page lies, in pixels: a document for each panel, and the size of the page."""

    panels: list[dict[str, Any]]
    width: float
    height: float
    inner: tuple[int, int]
    """The size of the window's inside, which in some browsers is smaller than was asked for."""


def browser() -> Path:
    """The program: that of `make tools`, else one on PATH. Raises `BrowserFailed` with what to do."""
    if os.access(FETCHED, os.X_OK):
        return FETCHED
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found:
        raise BrowserFailed(
            f"no {' or '.join(NAMES)} in {FETCHED.parent} or on PATH: run `rm -r .tools; make tools`, and read what it says"
        )
    return Path(found)


def layout(page: Path, width: int, height: int) -> Layout:
    """Where everything of a page lies that is shown in a window of that size. Raises `BrowserFailed`."""
    with tempfile.TemporaryDirectory() as scratch:
        # The page itself holds no script: what measures it is put into a copy.
        copy = Path(scratch) / "page.html"
        text = page.read_text(encoding="utf-8")
        copy.write_text(text.replace("</body>", f"<script>{MEASURE}</script></body>"), encoding="utf-8")
        shown = _run(scratch, f"--window-size={width},{height}", "--dump-dom", copy.as_uri())
    told = re.search(r'<pre id="layout">(.*?)</pre>', shown, re.DOTALL)
    if not told:
        raise BrowserFailed(f"{page.name}: the browser did not say where its panels lie")
    found = json.loads(html.unescape(told[1]))
    return Layout(found["panels"], found["width"], found["height"], tuple(found["inner"]))


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """Write the PNG of a page of that size. Raises `BrowserFailed`."""
    inner = layout(page, width, height).inner
    with tempfile.TemporaryDirectory() as scratch:
        size = f"--window-size={2 * width - inner[0]},{2 * height - inner[1]}"
        _run(scratch, size, f"--screenshot={picture.resolve()}", page.resolve().as_uri())
    if not picture.exists():
        raise BrowserFailed(f"{page.name}: the browser wrote no picture")


def _run(scratch: str, *arguments: str) -> str:
    command = [str(browser()), *FLAGS, f"--user-data-dir={scratch}/profile", *arguments]
    # A home of its own: caches of fonts and settings of the person are neither read nor written.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": scratch, "XDG_CACHE_HOME": scratch, "TMPDIR": scratch}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=90, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrowserFailed(f"{command[0]}: {error}") from error
    if done.returncode:
        raise BrowserFailed(f"{command[0]}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout
