"""Scrapes of `costwarden serve` while it reads Cost Explorer again and again: how long they take, and whether one shows half a refresh.

Cost Explorer is the stand-in of the tests, in a process of its own. Every refresh restates every cost to another one, the same for all: a
scrape in which two series of a day differ, or one is missing, is partial. Scrapes are as Prometheus makes them (gzip, kept connection); the
peer's figures are those of electrolux-oss/aws-cost-exporter 1.1.4 at as many series, measured on such a machine. Aims: 95th percentile
20 times lower, no partial scrape, at most 2 requests an account and refresh.
"""

import gzip
import http.client
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from servers import HERE, free_port, serving

SCRAPES = 1_000
PAUSE_SECONDS = 0.02
SERVICES, REGIONS = 335, 20
GROUPS = SERVICES * REGIONS
"""Each is a series of three families: the month, the newest day, and the one before."""

PEER_MEDIAN, PEER_95, PEER_PARTIAL, PEER_REQUESTS = 0.21, 0.52, "18 of 46", 6
TARGET_RATIO, TARGET_REQUESTS = 20.0, 2

ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
DAY = b"aws_cost_daily_usd{"
FAMILIES = (DAY, b"aws_cost_monthly_usd{", b"aws_cost_previous_day_usd{")

CONFIG = """
server: {{{{port: {{port}}}}}}
database_url: sqlite:///{folder}/costwarden.db
logs: {{{{level: error}}}}
metrics: {{{{series_limit: 100000}}}}
sources:
  - type: aws
    access: {{{{endpoint_url: "{url}"}}}}
    forecast: false
    budgets: false
    interval_seconds: 1
    jitter_ratio: 0
    history_days: 1
    reread_days: 1
    daily_request_limit_usd: 1000
"""

WHO = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Account>123456789012</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""


class Restating:
    """A bill of yesterday whose every line costs a dollar more each time it is asked for."""

    def __init__(self) -> None:
        # The tests are no package, and not on the path.
        sys.path.insert(0, str(HERE.parent / "tests"))
        self._module: Any = import_module("cost_explorer")
        self.server = self._module.CostExplorer(today=datetime.now(UTC).date())
        self.refreshes = 0
        self._day = datetime.now(UTC).date() - timedelta(days=1)
        self._keys = [
            {"SERVICE": f"Amazon Service {service}", "REGION": f"region-{region}"}
            for service in range(SERVICES)
            for region in range(REGIONS)
        ]
        self._answer, self.server.answer = self.server.answer, self._restated

    def _restated(self, request: Any) -> Any:
        if "x-amz-target" not in request.headers:
            return self._module.Answer(WHO, 200, {"Content-Type": "text/xml"})
        if "Not" not in request.json()["Filter"]:
            self.refreshes += 1
            self.server.bill[:] = [self._module.Line(self._day, str(self.refreshes), key) for key in self._keys]
        return self._answer(request)


def provide() -> None:
    """The stand-in's process: says where it is, and at the end how many requests it had and how many refreshes they were."""
    restating = Restating()
    with restating.server as server:
        print(server.url, flush=True)
        sys.stdin.read()
        print(len(server.operations()), restating.refreshes, flush=True)


class Scraper:
    """Scrapes on one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self.seconds: list[float] = []

    def scrape(self) -> list[bytes]:
        """The lines of the cost families."""
        started = time.perf_counter()
        self._connection.request("GET", "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"})
        answer = self._connection.getresponse()
        body = answer.read()
        self.seconds.append(time.perf_counter() - started)
        if answer.status != 200:
            raise SystemExit(f"/metrics answered {answer.status}")
        return [line for line in gzip.decompress(body).split(b"\n") if line.startswith(FAMILIES)]


def measure(port: int) -> tuple[list[float], int, int, int]:
    """Seconds of each scrape, partial scrapes, series of a whole one, and refreshes that were seen."""
    scraper = Scraper(port)
    deadline = time.monotonic() + 60
    while not (whole := len(scraper.scrape())):
        if time.monotonic() > deadline:
            raise SystemExit("no cost was shown within a minute")
        time.sleep(0.1)
    scraper.seconds.clear()
    partial, seen = 0, set()
    for _ in range(SCRAPES):
        lines = scraper.scrape()
        costs = {line.rpartition(b" ")[2] for line in lines if line.startswith(DAY)}
        days = sum(line.startswith(DAY) for line in lines)
        partial += len(lines) != whole or days != GROUPS or len(costs) != 1
        seen |= costs
        time.sleep(PAUSE_SECONDS)
    return sorted(scraper.seconds), partial, whole, len(seen)


def main() -> None:
    """Print all figures; say whether the aims are reached."""
    provider = subprocess.Popen([sys.executable, __file__, "provide"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert provider.stdout is not None
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    try:
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            config = CONFIG.format(folder=folder, url=provider.stdout.readline().strip())
            with serving(Path(folder), config, port):
                seconds, partial, series, refreshes = measure(port)
        requests, asked = map(int, provider.communicate("")[0].split())
    finally:
        provider.kill()
        provider.wait()
    median, slow = seconds[len(seconds) // 2], seconds[len(seconds) * 95 // 100]
    ratio = PEER_95 / slow
    print(f"{series:,} series, {SCRAPES:,} scrapes, in which the costs of {refreshes} refreshes were seen")
    print(f"  {'':28}{'costwarden':>12}{'electrolux':>12}   ratio")
    print(f"  {'scrape, median':28}{median * 1e3:>9.2f} ms{PEER_MEDIAN * 1e3:>9.0f} ms   {PEER_MEDIAN / median:.0f} x")
    print(f"  {'scrape, 95th percentile':28}{slow * 1e3:>9.2f} ms{PEER_95 * 1e3:>9.0f} ms   {ratio:.0f} x  (aim: {TARGET_RATIO:.0f} x)")
    print(f"  {'partial scrapes':28}{f'{partial} of {SCRAPES}':>12}{PEER_PARTIAL:>12}   (aim: none)")
    print(f"  {'requests an account, refresh':28}{requests / asked:>12.2f}{PEER_REQUESTS:>12}   (aim: at most {TARGET_REQUESTS})")
    met = ratio >= TARGET_RATIO and not partial and requests / asked <= TARGET_REQUESTS
    print("aims reached" if met else "an aim was missed")


if __name__ == "__main__":
    provide() if sys.argv[1:] == ["provide"] else main()
