"""The keys below [transports.NAME] with type = "smtp"."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from spoold_smtp import SmtpOptions
from spoold_smtp.options import is_ehlo_name
from spoold_smtp.timeouts import Timeouts

LOGIN = {"username": "ann", "password": "correct horse"}


def options(**keys: Any) -> SmtpOptions:
    return SmtpOptions.model_validate({"host": "relay.test", **keys})


@pytest.mark.parametrize(
    ("keys", "port"),
    [
        ({}, 25),
        (LOGIN, 587),
        ({"tls": "starttls"}, 25),
        ({"tls": "implicit"}, 465),
        ({"tls": "implicit", **LOGIN}, 465),
        ({"tls": "none", **LOGIN}, 587),
        ({"port": 2525, **LOGIN}, 2525),
    ],
)
def test_the_port_follows_from_the_use_unless_it_is_given(keys: dict[str, Any], port: int) -> None:
    assert options(**keys).effective_port == port


def test_the_defaults_are_opportunistic_tls_and_a_hundred_messages_a_connection() -> None:
    defaults = options()
    assert (defaults.tls, defaults.messages_per_connection, defaults.auth) == ("opportunistic", 100, "auto")
    assert (defaults.connection_idle_time, defaults.connection_lifetime, defaults.timeout) == (5, 300, None)


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        ({"hots": "x"}, "hots", "Extra inputs are not permitted"),
        ({"mx": True}, "mx", "Extra inputs are not permitted"),
        ({"oauth2_token_command": "x"}, "oauth2_token_command", "Extra inputs are not permitted"),
        ({"host": "relay.test:25"}, "host", "the port has a key of its own"),
        ({"host": ""}, "host", "give a host name or an IP address alone"),
        ({"host": "smtp://relay"}, "host", "give a host name or an IP address alone"),
        ({"host": "relay test"}, "host", "give a host name or an IP address alone"),
        ({"port": 0}, "port", "greater than or equal to 1"),
        ({"port": 65536}, "port", "less than or equal to 65535"),
        ({"tls": "yes"}, "tls", "'none', 'opportunistic', 'starttls' or 'implicit'"),
        ({"auth": "gssapi", **LOGIN}, "auth", "'auto', 'plain', 'login', 'cram-md5' or 'xoauth2'"),
        ({"auth": "plain"}, "", 'auth = "plain" needs username, and password or password_file'),
        ({"username": "ann"}, "", "username is given but no password: add password or password_file"),
        ({"password": "x"}, "", "a password is given but no username: add username"),
        ({**LOGIN, "password_file": "/x"}, "", "password and password_file exclude each other: keep one"),
        ({**LOGIN, "username": "a\nb"}, "username", "control characters are not allowed"),
        ({"tls_ca_file": "/x"}, "", 'tls_ca_file has no effect with tls = "opportunistic"'),
        ({"local_hostname": "a b"}, "local_hostname", "give a domain name or an address literal"),
        ({"local_hostname": "a\r\nDATA"}, "local_hostname", "give a domain name or an address literal"),
        ({"source_address": "relay.test"}, "source_address", "not a valid IPv4 or IPv6 address"),
        ({"timeout": 0}, "timeout", "greater than 0"),
        ({"timeout": "soon"}, "timeout", 'give a number of seconds, or a duration such as "30s" or "5m"'),
        ({"timeout": float("inf")}, "timeout", "less than or equal to 86400"),
        ({"messages_per_connection": 0}, "messages_per_connection", "greater than or equal to 1"),
    ],
)
def test_a_wrong_key_is_refused_with_one_clear_line(keys: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(**keys)
    assert caught.value.error_count() == 1
    error = caught.value.errors()[0]
    assert ".".join(map(str, error["loc"])) == key
    assert message in error["msg"]
    assert "\n" not in error["msg"]


@pytest.mark.parametrize(
    "keys",
    [
        {**LOGIN, "tls": "none", "tls_ca_file": "/x"},
        {**LOGIN, "password_file": "/x"},
        {"password": "correct horse"},
        {**LOGIN, "timeout": "soon"},
        {"username": "ann", "password": ["correct horse"]},
    ],
)
def test_the_password_stays_out_of_errors(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        options(**keys)
    assert "correct horse" not in str(caught.value)


def test_the_password_stays_out_of_what_is_printed() -> None:
    given = options(**LOGIN)
    assert "correct horse" not in f"{given!r} {given} {given.model_dump()} {given.model_dump_json()}"


@pytest.mark.parametrize(
    ("value", "seconds"), [(30, 30), (0.5, 0.5), ("30", 30), ("30s", 30), ("5m", 300), ("1h", 3600)]
)
def test_durations_are_seconds_or_bear_their_unit(value: float | str, seconds: float) -> None:
    assert options(timeout=value).timeout == seconds


def test_the_name_said_in_ehlo_has_the_name_that_postfix_users_know_too() -> None:
    assert options(helo_name="mx.test").local_hostname == "mx.test"
    assert options(local_hostname="[192.0.2.1]").local_hostname == "[192.0.2.1]"


def test_one_timeout_caps_every_step() -> None:
    assert Timeouts.capped(None) == Timeouts()
    capped = Timeouts.capped(90)
    assert (capped.connect, capped.command, capped.end_of_data, capped.reset) == (60, 90, 90, 20)


@pytest.mark.parametrize(
    ("name", "fit"),
    [("host.example.com", True), ("localhost", False), ("localhost.localdomain", False), ("a b.c", False), ("", False)],
)
def test_only_a_domain_name_of_its_own_is_said_in_ehlo(name: str, fit: bool) -> None:
    assert is_ehlo_name(name) is fit


def test_with_a_username_the_server_has_to_prove_who_it_is_unless_something_else_is_said() -> None:
    credentials = {"username": "app", "password": "secret"}
    assert SmtpOptions.model_validate({"host": "h"}).tls == "opportunistic"
    assert SmtpOptions.model_validate({"host": "h", **credentials}).tls == "starttls"
    assert SmtpOptions.model_validate({"host": "h", "tls": "opportunistic", **credentials}).tls == "opportunistic"
