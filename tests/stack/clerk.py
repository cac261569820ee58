"""A playbook's script that acts on nothing: it writes down how it was called, and waits while it is held."""

import json
import os
import sys
import time
from pathlib import Path

DEADLINE = time.monotonic() + 300

request = json.load(sys.stdin)
phase = "apply" if "--apply" in sys.argv else "plan"
folder = Path(request["parameters"]["folder"])
call = {"phase": phase, "at": time.time(), "argv": sys.argv[1:], "request": request, "environ": dict(os.environ)}
with (folder / "calls.jsonl").open("a", encoding="utf-8") as log:
    log.write(json.dumps(call) + "\n")

while (folder / f"hold-{phase}").exists():
    if time.monotonic() > DEADLINE:
        sys.exit("held for too long")
    time.sleep(0.01)

for target in request["targets"] or [request["parameters"]["target"]]:
    print(json.dumps({"target": target, "action": "note", "result": "done" if phase == "apply" else "planned"}), flush=True)
