"""Pictures of the dashboards without Grafana: a page a dashboard from what a Prometheus answers, and a PNG of it by a headless Chromium.

python docs/pictures/picture.py --prometheus http://127.0.0.1:9090 --output pictures --png
"""

import argparse
import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path

from picture_browser import BrowserFailed, photograph
from picture_data import Document, Prometheus, QueryFailed
from picture_page import WIDTH, height_of, page

FOLDER = Path(__file__).resolve().parents[2] / "dashboards" / "json"

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "M": 2_592_000, "y": 31_536_000}


def dashboards(uid: str | None = None) -> dict[str, Document]:
    """The committed dashboards by uid, or the one of that uid. Raises `ValueError` where there is none."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
    if uid is None:
        return found
    if uid not in found:
        raise ValueError(f"there is no dashboard {uid!r}, there are {', '.join(found)}")
    return {uid: found[uid]}


def moment(text: str, now: float) -> float:
    """Seconds since 1970 of `now`, `now-30d`, seconds or a date. Raises `ValueError`."""
    if relative := re.fullmatch(r"now(?:-(\d+)([smhdwMy]))?", text):
        return now - (int(relative[1]) * UNITS[relative[2]] if relative[1] else 0)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no moment: now, now-30d, seconds since 1970, or a date such as 2026-11-20T12:00:00Z") from None
    if at.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone: end it in Z")
    return at.timestamp()


def write_page(dashboard: Document, folder: Path, url: str, *, start: str | None = None, end: str | None = None) -> Path:
    """Write the page of a dashboard over its own time range, or the given one; the file. Raises `QueryFailed` and `ValueError`."""
    now = time.time()
    shown = dashboard.get("time", {})
    prometheus = Prometheus(url, moment(start or shown.get("from", "now-6h"), now), moment(end or shown.get("to", "now"), now))
    try:
        text = page(dashboard, prometheus)
    finally:
        prometheus.close()
    path = folder / f"{dashboard['uid']}.html"
    path.write_text(text, encoding="utf-8")
    return path


def main() -> int:
    """The program: exit code 0, or 1 with a sentence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", required=True, metavar="URL", help="the Prometheus to ask")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the folder to write into; made where absent")
    parser.add_argument("--uid", help="one dashboard (default: all)")
    parser.add_argument("--from", dest="start", help="now-30d, seconds since 1970 or a date (default: the dashboard's)")
    parser.add_argument("--to", dest="end", help="as --from")
    parser.add_argument("--png", action="store_true", help="also a PNG of each page")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        for dashboard in dashboards(arguments.uid).values():
            path = write_page(dashboard, arguments.output, arguments.prometheus, start=arguments.start, end=arguments.end)
            print(path)
            if arguments.png:
                photograph(path, path.with_suffix(".png"), WIDTH, height_of(dashboard))
                print(path.with_suffix(".png"))
    except (BrowserFailed, QueryFailed, ValueError) as error:
        print("; ".join([str(error), *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
