"""An OpenID Connect issuer for tests: its keys over real HTTP on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

NAME = "https://issuer.example"
AUDIENCE = "microtome"


@dataclass
class MadeIssuer:
    """Signs tokens; `keys_document` is what it answers with, and `asked` how often it was."""

    url: str = ""
    asked: int = 0
    answer: tuple[int, bytes] | None = None
    keys: dict[str, Any] = field(
        default_factory=lambda: {"one": ec.generate_private_key(ec.SECP256R1())}
    )

    @property
    def keys_document(self) -> dict[str, Any]:
        """The public keys (JWKS)."""
        return {
            "keys": [
                ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
                | {"kid": name, "use": "sig", "alg": "ES256"}
                for name, key in self.keys.items()
            ]
        }

    def token(self, claims: dict[str, Any] | None = None, **header: Any) -> str:
        """A JWT that is right but for what is said; a claim that is None is left out."""
        kid = header.pop("kid", "one")
        algorithm = header.pop("alg", "ES256")
        key = header.pop("key", None) or self.keys.get(kid) or self.keys["one"]
        now = int(time.time())
        right = {"iss": NAME, "aud": AUDIENCE, "iat": now, "exp": now + 300, "sub": "anna"}
        said = right | {"role": "reader"} | (claims or {})
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, key, algorithm, headers={"kid": kid, **header})


@contextmanager
def running_issuer() -> Iterator[MadeIssuer]:
    """Start an issuer on a free port; it ends with the block."""
    issuer = MadeIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            status, body = issuer.answer or (200, json.dumps(issuer.keys_document).encode())
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    issuer.url = f"http://127.0.0.1:{server.server_port}/keys"
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
