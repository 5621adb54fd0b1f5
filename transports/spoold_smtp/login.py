"""AUTH (RFC 4954): which mechanism, when not to send credentials at all, and what a refusal means."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import aiosmtplib
from pydantic import SecretStr

from spoold.provider import TransportFault
from spoold_smtp.reply import reply_from

_MECHANISM_UNKNOWN = {502, 504}  # RFC 4954 4: the server offers a mechanism that it does not have


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are. `mechanism` as the option `auth` has it; `secret` is the password, or the token for XOAUTH2."""

    username: str
    secret: SecretStr
    mechanism: str = "auto"
    allow_plaintext: bool = False


async def authenticate(smtp: aiosmtplib.SMTP, credentials: Credentials, peer: str) -> None:
    """Log in. Raises TransportFault if the credentials are refused or cannot be sent, aiosmtplib's errors otherwise.

    No text that leaves here has the secret in it, even if the server repeats it.
    """
    user = credentials.username
    encrypted = smtp.get_transport_info("sslcontext") is not None
    if not encrypted and not credentials.allow_plaintext:
        raise TransportFault(
            f"relay {peer} offers no TLS, so the credentials of user '{user}' were not sent: "
            'set tls = "starttls" or "implicit", or allow_plaintext_auth = true'
        )
    mechanisms = _mechanisms(smtp, credentials.mechanism, encrypted)
    if not mechanisms:
        wanted = "" if credentials.mechanism == "auto" else f" {credentials.mechanism.upper()}"
        offered = ", ".join(smtp.server_auth_methods).upper() or "none"
        raise TransportFault(f"relay {peer} does not offer AUTH{wanted} for user '{user}'; it offers: {offered}")
    refusal = aiosmtplib.SMTPAuthenticationError(504, "")
    for mechanism in mechanisms:
        try:
            await _try(smtp, mechanism, credentials)
        except aiosmtplib.SMTPAuthenticationError as exc:
            refusal = aiosmtplib.SMTPAuthenticationError(exc.code, _without_secret(exc.message, credentials))
        else:
            return
        if refusal.code not in _MECHANISM_UNKNOWN:
            break
    if refusal.code < 500:
        raise refusal
    reply = reply_from(refusal.code, refusal.message)
    raise TransportFault(f"relay {peer} refused the credentials of user '{user}': {reply}")


def _mechanisms(smtp: aiosmtplib.SMTP, wanted: str, encrypted: bool) -> list[str]:
    """What to try, the best first: under TLS the plain ones, which every server can check against a hashed password."""
    if wanted == "auto":
        order = ["plain", "login", "cram-md5"] if encrypted else ["cram-md5", "plain", "login"]
    else:
        order = [wanted]
    return [mechanism for mechanism in order if mechanism in smtp.server_auth_methods]


async def _try(smtp: aiosmtplib.SMTP, mechanism: str, credentials: Credentials) -> None:
    attempt = {
        "plain": smtp.auth_plain,
        "login": smtp.auth_login,
        "cram-md5": smtp.auth_crammd5,
        "xoauth2": smtp.auth_xoauth2,
    }[mechanism]
    await attempt(credentials.username, credentials.secret.get_secret_value())


def _without_secret(text: str, credentials: Credentials) -> str:
    secret = credentials.secret.get_secret_value().encode()
    user = credentials.username.encode()
    for form in (secret, base64.b64encode(secret), base64.b64encode(b"\0" + user + b"\0" + secret)):
        text = text.replace(form.decode(), "***") if form else text
    return text
