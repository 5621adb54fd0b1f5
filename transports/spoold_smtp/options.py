"""The keys below `[transports.NAME]` of a transport with `type = "smtp"`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyAddress,
    SecretStr,
    field_validator,
    model_validator,
)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)?")
_UNITS = {None: 1, "s": 1, "m": 60, "h": 3600}
_HOST = re.compile(r"[^\s\x00-\x20\x7f\[\]/@:]+")
_EHLO_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[\x21-\x5a\x5e-\x7e]+\]")

SMTP_PORT = 25  # RFC 5321 4.5.4.2
SUBMISSION_PORT = 587  # RFC 6409
SUBMISSIONS_PORT = 465  # RFC 8314 7.3


def _seconds(value: Any) -> Any:
    """A number of seconds as it is; "30s", "5m", "1h" in seconds."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError('give a number of seconds, or a duration such as "30s" or "5m"')
    return float(match[1]) * _UNITS[match[2]]


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=86400, allow_inf_nan=False)]


class SmtpOptions(BaseModel):
    """Where the relay is and how to speak to it.

    `tls`: "none"; "opportunistic" (STARTTLS if offered, certificate not verified; RFC 7435); "starttls" (required and
    verified; RFC 3207); "implicit" (from the first octet, verified; RFC 8314). Certificates are verified against the
    system's store or `tls_ca_file`. With a username the default is "starttls", so that a password is shown to nobody who
    has not proved who he is; else it is "opportunistic". Credentials need TLS unless `allow_plaintext_auth`. With `auth = "xoauth2"` the
    password is the access token. `timeout` caps every network step, in seconds (see `timeouts`);
    `connection_idle_time` and `connection_lifetime` are seconds too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str
    port: int | None = Field(default=None, ge=1, le=65535)
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = "opportunistic"
    tls_ca_file: Path | None = None
    username: str | None = Field(default=None, min_length=1)
    password: SecretStr | None = None
    password_file: Path | None = None
    auth: Literal["auto", "plain", "login", "cram-md5", "xoauth2"] = "auto"
    allow_plaintext_auth: bool = False
    source_address: IPvAnyAddress | None = None
    local_hostname: str | None = Field(default=None, validation_alias=AliasChoices("local_hostname", "helo_name"))
    timeout: Seconds | None = None
    messages_per_connection: int = Field(default=100, ge=1)
    connection_idle_time: Seconds = 5.0
    connection_lifetime: Seconds = 300.0

    @model_validator(mode="before")
    @classmethod
    def _credentials_want_a_verified_server(cls, options: Any) -> Any:
        if isinstance(options, dict) and "username" in options and not options.get("allow_plaintext_auth"):
            return {"tls": "starttls", **options}
        return options

    @field_validator("host")
    @classmethod
    def _host_is_a_name_or_an_address(cls, host: str) -> str:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            return str(ipaddress.ip_address(bare))
        except ValueError:
            pass
        if not _HOST.fullmatch(host):
            raise ValueError("give a host name or an IP address alone; the port has a key of its own")
        return host

    @field_validator("local_hostname")
    @classmethod
    def _local_hostname_fits_ehlo(cls, name: str | None) -> str | None:
        if name is not None and not _EHLO_NAME.fullmatch(name):
            raise ValueError("give a domain name or an address literal such as [192.0.2.1] (RFC 5321 4.1.1.1)")
        return name

    @field_validator("username")
    @classmethod
    def _username_is_printable(cls, username: str | None) -> str | None:
        if username is not None and not username.isprintable():
            raise ValueError("control characters are not allowed")
        return username

    @model_validator(mode="after")
    def _keys_agree(self) -> SmtpOptions:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other: keep one")
        has_secret = self.password is not None or self.password_file is not None
        if self.username is None and has_secret:
            raise ValueError("a password is given but no username: add username")
        if self.username is not None and not has_secret:
            raise ValueError("username is given but no password: add password or password_file")
        if self.username is None and self.auth != "auto":
            raise ValueError(f'auth = "{self.auth}" needs username, and password or password_file')
        if self.tls_ca_file is not None and self.tls not in {"starttls", "implicit"}:
            raise ValueError(
                f'tls_ca_file has no effect with tls = "{self.tls}", which verifies no certificate: '
                'set tls = "starttls" or "implicit"'
            )
        return self

    @property
    def effective_port(self) -> int:
        """`port`, or else by use: 465 for implicit TLS, 587 with a username, 25 otherwise."""
        if self.port is not None:
            return self.port
        if self.tls == "implicit":
            return SUBMISSIONS_PORT
        return SUBMISSION_PORT if self.username is not None else SMTP_PORT

    @property
    def destination(self) -> str:
        """Host and port, "relay.example:25"; an IPv6 address stands in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.effective_port}"


def is_ehlo_name(name: str) -> bool:
    """True for a fully qualified domain name that may be said in EHLO (RFC 5321 2.3.5)."""
    return "." in name and _EHLO_NAME.fullmatch(name) is not None and not name.startswith("localhost")
