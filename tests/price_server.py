"""A server of published prices, in the format of genai-prices' `data.json`."""

import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from stand_in import LoopbackServer


def provider(models: int, price: float) -> dict[str, Any]:
    """A provider as genai-prices' `data.json` has it."""
    return {
        "id": "acme",
        "name": "Acme",
        "api_pattern": r"https://api\.acme\.example",
        "model_match": {"starts_with": "acme-"},
        "provider_match": {"contains": "acme"},
        "models": [
            {
                "id": f"acme-{number}",
                "match": {"equals": f"acme-{number}"},
                "prices": [
                    {"prices": {"input_mtok": 1, "output_mtok": 2}},
                    {
                        "constraint": {"start_date": "2026-01-01"},
                        "prices": {"input_mtok": {"base": price, "tiers": [{"start": 1000, "price": 9}]}, "output_mtok": 2},
                    },
                ],
                "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": 0.5, "output_mtok": 1}}],
            }
            for number in range(models)
        ],
    }


class PriceServer:
    """Serves what `body` says, with the status that `status` says."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = LoopbackServer(Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/data.json"

    def serve(self, *providers: dict[str, Any]) -> None:
        self.status, self.body = 200, json.dumps(providers).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
