"""A real Prometheus reads the page: both formats, compressed, with every hostile label value as it was put in."""

import http.server
import json
import subprocess
import threading
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest
from stand_in import LoopbackServer

from costwarden.metrics.catalogue import FAMILIES
from costwarden.metrics.negotiation import OPENMETRICS_TYPE, TEXT_TYPE

pytestmark = pytest.mark.stack

HOSTILE = [
    "plain",
    'quote " and backslash \\ and newline \n end',
    "\\n is not a newline",
    "ends in a backslash\\",
    '"} 1\nai_spend_monthly_usd 999\n#',
    "tab\tcarriage\rreturn",
    "null \x00 byte",
    "\x00",
    "€ 漢字 🙂 \u2028",
    " spaces ",
    "# EOF",
    "{{ .Value }} $labels",
    "x" * 1_000,
]

OF_THE_PAGE = {name for name in FAMILIES if name.startswith(("costwarden_page_", "costwarden_series", "costwarden_collector_"))}
"""What the page says of itself, beside all collectors."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        accept, encoding = self.headers.get("Accept", ""), self.headers.get("Accept-Encoding", "")
        answer = self.server.page.answer(accept, encoding)
        self.server.requests.append((accept, encoding, dict(answer.headers)))
        self.send_response(200)
        for name, value in answer.headers:
            self.send_header(name.decode(), value.decode())
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(page):
    server = LoopbackServer(_Handler)
    server.page, server.requests = page, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def scraping(tools, tmp_path, port, target, options):
    config = {"scrape_configs": [{"job_name": "page", "scrape_interval": "1s", "static_configs": [{"targets": [target]}], **options}]}
    (tmp_path / "prometheus.yaml").write_text(json.dumps(config))
    argv = [
        tools.prometheus,
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    process = subprocess.Popen(argv)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def query(port, expression):
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return json.load(response)["data"]["result"]
    except OSError:
        return []


@pytest.mark.parametrize(
    ("options", "media_type"),
    [({}, OPENMETRICS_TYPE), ({"scrape_protocols": ["PrometheusText0.0.4"]}, TEXT_TYPE)],
    ids=["openmetrics", "text"],
)
def test_prometheus_reads_what_was_put_in(tools, tmp_path, free_port, wait_until, page_of, collector, options, media_type):
    if options and "2.42" in subprocess.run([tools.prometheus, "--version"], capture_output=True, text=True, check=True).stdout:
        options = {}  # it has no choice of protocols yet
        media_type = OPENMETRICS_TYPE
    family = FAMILIES["ai_unpriced_requests_total"]
    series = {(value, f"model-{number}"): float(number) for number, value in enumerate(HOSTILE)}
    # Every metric that there is: one line of metadata that Prometheus does not take costs the whole scrape.
    others = {name: [(("x",) * len(FAMILIES[name].labels), 12.5)] for name in FAMILIES if name != family.name and name not in OF_THE_PAGE}
    page = page_of(collector(**{family.name: list(series.items())}, **others))
    port = free_port()
    with serving(page) as server, scraping(tools, tmp_path, port, f"127.0.0.1:{server.server_port}", options):
        wait_until(lambda: query(port, "up == 1"))
        # A scrape that comes too late ends the series: what was read before counts.
        found = query(port, f"last_over_time({family.name}[1h])")
        assert {(result["metric"]["provider"], result["metric"]["model"]): float(result["value"][1]) for result in found} == series
        assert {result["metric"]["__name__"] for result in query(port, 'last_over_time({job="page"}[1h]) == 12.5')} == set(others)
        _, encoding, headers = server.requests[0]
    assert encoding == "gzip"
    assert headers[b"content-type"].decode() == media_type
    assert headers[b"content-encoding"] == b"gzip"
