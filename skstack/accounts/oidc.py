"""Single sign-on: an OIDC provider says who somebody is (authorization code with PKCE, OpenID Connect Core 1.0).

Authlib keeps state, nonce and code verifier in the cookie of the browser that began, and checks the answer against
them. What it leaves to its users is checked here: the issuer of the discovery document, the audience, and which
signatures count.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response

from skstack.accounts.directory import Person
from skstack.accounts.external import group_key
from skstack.config import Settings
from skstack.errors import NotAllowed, NotFound, Unavailable
from skstack.messages import N_, Message

NAME = "skstack"
TIMEOUT = 5.0  # Seconds for each answer of the provider.

_log = logging.getLogger(__name__)
_EXTENSION = "skstack.oidc"
# Signatures that only the provider can make. With HS256 whoever knows our client secret could, and "none" is none.
_SIGNATURES = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
_DOWN = N_("%(name)s does not answer. Sign in with a password of skstack's own, or try again in a moment.")
_UNTRUSTED = N_("The answer of %(name)s was too old or not meant for this sign-in. Try again.")
_REFUSED = N_("%(name)s did not let you in.")


class ProviderDown(Unavailable):
    """The provider does not answer, or not as the settings say. The log has the reason."""


class Untrusted(NotAllowed):
    """The answer does not prove who somebody is, or the provider refused. The log has the reason."""


def init_app(app: Flask) -> None:
    """Set up the client, if the settings name a provider. Nothing is asked of it yet."""
    settings: Settings = app.config["SKSTACK"]
    if not settings.oidc_issuer:
        return
    from authlib.integrations.flask_client import OAuth  # Here, since it takes 12 MB.

    oauth = OAuth(app)
    app.extensions[_EXTENSION] = oauth.register(
        NAME,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={
            "scope": settings.oidc_scopes,
            "code_challenge_method": "S256",
            "default_timeout": TIMEOUT,
            "leeway": 0,  # The access token is used at once, and some live only a minute.
        },
    )


def begin(app: Flask, redirect_uri: str) -> Response:
    """Lead to the provider. Raises NotFound if there is none, ProviderDown."""
    import requests

    settings: Settings = app.config["SKSTACK"]
    try:
        response: Response = _client(app).authorize_redirect(redirect_uri)
    except (requests.RequestException, ValueError, RuntimeError) as err:
        raise _down(settings, err) from err
    return response


def finish(app: Flask) -> Person:
    """Return who the request that comes back from the provider is about. Raises NotFound, ProviderDown, Untrusted."""
    import requests
    from authlib.common.errors import AuthlibBaseError
    from joserfc.errors import JoseError

    settings: Settings = app.config["SKSTACK"]
    try:
        client = _client(app)
        token = client.authorize_access_token(
            claims_options={
                "iss": {"essential": True, "value": settings.oidc_issuer},
                "aud": {"essential": True, "value": settings.oidc_client_id},
            }
        )
        return _person(_claims(client, token, settings), settings)
    except requests.RequestException as err:
        raise _down(settings, err) from err
    except AuthlibBaseError as err:
        _log.warning("OIDC provider: %s %s", err.error, err.description)
        said = _REFUSED if err.error == "access_denied" else _UNTRUSTED
        raise Untrusted(_named(said, settings)) from err
    except (JoseError, ValueError, KeyError, TypeError, RuntimeError) as err:
        _log.warning("OIDC provider's answer cannot be trusted: %s: %s", type(err).__name__, err)
        raise Untrusted(_named(_UNTRUSTED, settings)) from err


def _client(app: Flask) -> Any:
    """Return the client with the provider's discovery document, which must be that of the issuer (Discovery 1.0, 4.3)."""
    client = app.extensions.get(_EXTENSION)
    if client is None:
        raise NotFound
    settings: Settings = app.config["SKSTACK"]
    metadata = client.load_server_metadata()
    if metadata.get("issuer") != settings.oidc_issuer:
        found = metadata.get("issuer")
        metadata.clear()  # Asked again next time: it may have been mended.
        raise ValueError(f"the discovery document is of {found!r}, not of {settings.oidc_issuer!r}")
    listed = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
    metadata["id_token_signing_alg_values_supported"] = [one for one in listed if one in _SIGNATURES]
    return client


def _claims(client: Any, token: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return what the ID token says, and what only the user info says, if that is about the same subject."""
    claims = dict(token["userinfo"])
    needed = [settings.oidc_name_claim]
    if settings.oidc_groups or settings.oidc_roles:
        needed.append(settings.oidc_groups_claim)
    if client.server_metadata.get("userinfo_endpoint") and any(_at(claims, name) is None for name in needed):
        more = dict(client.userinfo(token=token))
        if more.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0, 5.3.2.
            raise ValueError("the user info is about another subject than the ID token")
        claims = {**more, **claims}
    return claims


def _person(claims: Mapping[str, Any], settings: Settings) -> Person:
    subject, name = claims["sub"], _at(claims, settings.oidc_name_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise ValueError("the subject is no text of 1 to 255 characters")
    if not isinstance(name, str):
        raise ValueError(f"there is no claim {settings.oidc_name_claim} with a user name")
    return Person(
        issuer=settings.oidc_issuer,
        subject=subject,
        username=name,
        display_name=_text(claims.get("name")),
        email=_text(claims.get("email")) if claims.get("email_verified", True) is True else "",
        groups=frozenset(group_key(group) for group in _groups(claims, settings)),
    )


def _groups(claims: Mapping[str, Any], settings: Settings) -> list[str]:
    found = _at(claims, settings.oidc_groups_claim)
    listed = found if isinstance(found, list) else [found]
    return [one for one in listed if isinstance(one, str)]


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim, also one within others: `realm_access.roles`."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else ""


def _down(settings: Settings, err: Exception) -> ProviderDown:
    _log.warning("OIDC provider cannot be asked: %s", err)
    return ProviderDown(_named(_DOWN, settings))


def _named(message: Message, settings: Settings) -> Message:
    return Message(message.text, {"name": settings.oidc_label})
