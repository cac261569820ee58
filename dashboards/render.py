"""Renders dashboards/*.jsonnet to dashboards/json, which is committed: a reader sees what ships, and a user needs no jsonnet.

python dashboards/render.py            write
python dashboards/render.py --check    exit 1 where what is committed is not what the sources give
"""

import argparse
import json
import sys
from pathlib import Path

import rjsonnet

from costwarden import __version__

FOLDER = Path(__file__).resolve().parent


def rendered(folder: Path) -> dict[Path, str]:
    """The text of each dashboard by the file that it belongs in. Raises `RuntimeError` for a source that does not evaluate."""
    texts = {}
    for source in sorted(folder.glob("*.jsonnet")):
        dashboard = json.loads(rjsonnet.evaluate_file(str(source), ext_vars={"version": __version__}))
        texts[folder / "json" / f"{source.stem}.json"] = json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return texts


def differences(folder: Path, texts: dict[Path, str]) -> list[str]:
    """What is not as rendered: a sentence for each file that is missing, different or without a source."""
    committed = set((folder / "json").glob("*.json"))
    found = [f"{path.name} is missing" for path in texts if path not in committed]
    found += [f"{path.name} is not what its source gives" for path in texts if path in committed and path.read_text() != texts[path]]
    return found + [f"{path.name} has no source" for path in sorted(committed - texts.keys())]


def main() -> int:
    """Write or check, as the command line asks; the exit code."""
    parser = argparse.ArgumentParser(description="Renders the dashboards.")
    parser.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    check = parser.parse_args().check
    texts = rendered(FOLDER)
    if check:
        found = differences(FOLDER, texts)
        for sentence in found:
            print(f"dashboards/json: {sentence}; `make dashboards` renders it anew", file=sys.stderr)
        return 1 if found else 0
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
