"""An OIDC provider of its own: a real HTTP server on loopback that says yes at once, and misbehaves when told to."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

CLIENT_ID, CLIENT_SECRET = "skstack at work", "the client's secret that is long enough"


class Provider:
    """What the server answers with. Tests change it; `reset` takes that back.

    `claims` are of the person who signs in. `in_token` and `in_user_info` replace claims there, None takes one out.
    `signed_with`: "key", "another key", "client secret", "nothing". `down`: paths that are answered with 503.
    """

    def __init__(self) -> None:
        self.key, self.another_key = (ECKey.generate_key("P-256", {"kid": "1"}) for _ in range(2))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.reset()

    def reset(self) -> None:
        self.claims: dict[str, Any] = {
            "sub": "1001",
            "preferred_username": "fay",
            "name": "Fay Fisher",
            "email": "fay@example.org",
            "email_verified": True,
            "groups": ["operators"],
        }
        self.in_token: dict[str, Any] = {}
        self.in_user_info: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.signed_with = "key"
        self.down: set[str] = set()
        self.refuses = False
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []

    def start(self) -> None:
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
            **self.metadata,
        }

    def authorize(self, query: dict[str, str]) -> str:
        """Return where the browser is sent back to."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        if self.refuses:
            answer = {"error": "access_denied", "state": query["state"]}
        else:
            code = secrets.token_hex(8)
            self.codes[code] = query
            answer = {"code": code, "state": query["state"]}
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Return the tokens for a code, once; None unless client and code verifier are right."""
        begun = self.codes.pop(form.get("code", ""), None)
        expected = base64.b64encode(f"{CLIENT_ID.replace(' ', '%20')}:{CLIENT_SECRET}".encode()).decode()
        plain = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if begun is None or begun["code_challenge"] != challenge:
            return None
        if authorization not in (f"Basic {expected}", f"Basic {plain}"):
            return None
        return {
            "access_token": "for the user info",
            "token_type": "Bearer",
            "expires_in": 60,
            "id_token": self._id_token(begun["nonce"]),
        }

    def _id_token(self, nonce: str) -> str:
        now = int(time.time())
        standard = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 60, "nonce": nonce}
        claims = _changed({**standard, **self.claims}, self.in_token)
        if self.signed_with == "nothing":
            parts = ({"alg": "none"}, claims)
            encoded = [
                base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
            ]
            return ".".join([*encoded, ""])
        if self.signed_with == "client secret":
            return jwt.encode({"alg": "HS256", "kid": "1"}, claims, OctKey.import_key(CLIENT_SECRET))
        key = self.key if self.signed_with == "key" else self.another_key
        return jwt.encode({"alg": "ES256", "kid": "1"}, claims, key)

    def user_info(self) -> dict[str, Any]:
        return _changed(self.claims, self.in_user_info)


def _changed(claims: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            provider.asked.append(parts.path)
            if parts.path in provider.down:
                self._answer(None, 503)
            elif parts.path == "/.well-known/openid-configuration":
                self._answer(provider.discovery())
            elif parts.path == "/jwks":
                self._answer({"keys": [provider.key.as_dict(private=False)]})
            elif parts.path == "/userinfo":
                assert self.headers["Authorization"] == "Bearer for the user info"
                self._answer(provider.user_info())
            else:
                self.send_response(302)
                self.send_header("Location", provider.authorize(query))
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            provider.asked.append(self.path)
            found = (
                None if self.path in provider.down else provider.token(form, self.headers["Authorization"])
            )
            if self.path in provider.down:
                self._answer(None, 503)
            elif found is None:
                self._answer({"error": "invalid_grant"}, 400)
            else:
                self._answer(found)

        def _answer(self, content: Any, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: Any) -> None:
            """Say nothing."""

    return Handler
