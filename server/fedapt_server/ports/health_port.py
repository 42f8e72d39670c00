"""Health and metrics over HTTP, on the loopback interface and on no other."""

import json
from collections.abc import Callable, Iterable
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.exposition import ThreadingWSGIServer

from fedapt_crypto.errors import system_error
from fedapt_server.status import Snapshot

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

LOOPBACK: Final = "127.0.0.1"
REQUEST_TIMEOUT_S: Final = 10.0


class _Quiet(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S  # of the socket: nobody holds a thread for long

    def log_message(self, format: str, *args: Any) -> None:
        pass


class HealthPort:
    """Answers ``/healthz`` and ``/metrics`` from threads of its own.

    Args:
        port: Where to listen; 0 takes a free one.
        snapshot: Returns where the service stands.
        metrics: Returns the figures.

    Raises:
        InvalidInput: If the port is taken.
    """

    def __init__(self, port: int, snapshot: Callable[[], Snapshot], metrics: Callable[[], bytes]) -> None:
        self._snapshot = snapshot
        self._metrics = metrics
        try:
            self._server = make_server(LOOPBACK, port, self._answer, ThreadingWSGIServer, _Quiet)
        except OSError as error:
            advice = "stop what uses it, or change health_port in server.yaml, or set it to 0 for none"
            raise system_error(f"cannot listen on {LOOPBACK}:{port}", error, advice) from None
        self.port: int = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            status, kind, body = "405 Method Not Allowed", "text/plain", b"only GET\n"
        elif path == "/healthz":
            snapshot = self._snapshot()
            status = "200 OK" if snapshot.ok else "503 Service Unavailable"
            kind, body = "application/json", json.dumps(snapshot.fields()).encode() + b"\n"
        elif path == "/metrics":
            status, kind, body = "200 OK", CONTENT_TYPE_LATEST, self._metrics()
        else:
            status, kind, body = "404 Not Found", "text/plain", b"there are /healthz and /metrics\n"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]
