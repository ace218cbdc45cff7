"""What a Kubeflow controller is to a training: a server that takes reports, with TLS."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Report(NamedTuple):
    """One that came."""

    path: str
    token: str
    status: dict[str, Any]

    @property
    def metrics(self) -> dict[str, str]:
        """By name."""
        return {entry["name"]: entry["value"] for entry in self.status["metrics"]}


class StatusServer:
    """Listens on loopback until it is closed.

    Args:
        folder: where its certificate goes, which signs itself; None for one without TLS.
        redirects: answers each report with another place.
    """

    def __init__(self, folder: Path | None = None, *, redirects: bool = False) -> None:
        self.reports: list[Report] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                token = self.headers["Authorization"]
                status = json.loads(body)["trainerStatus"]
                outer.reports.append(Report(self.path, token, status))
                self.send_response(302 if redirects else 200)
                if redirects:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                outer.reports.append(Report(self.path, self.headers["Authorization"], {}))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.certificate = folder / "ca.pem" if folder is not None else None
        if folder is not None:
            key = folder / "key.pem"
            _sign(folder / "ca.pem", key)
            secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            secure.load_cert_chain(folder / "ca.pem", key)
            self._server.socket = secure.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it takes reports."""
        kind = "http" if self.certificate is None else "https"
        return f"{kind}://127.0.0.1:{self.port}/status"

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _sign(certificate: Path, key: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stepbus test")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    encoding = serialization.Encoding.PEM
    certificate.write_bytes(signed.public_bytes(encoding))
    key.write_bytes(secret.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
