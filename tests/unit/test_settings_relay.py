from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.settings.relay import relay_options


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("smtp://relay", {"host": "relay"}),
        ("smtp://relay.example.com:587", {"host": "relay.example.com", "port": 587}),
        ("smtp://relay/", {"host": "relay"}),
        ("smtps://relay", {"host": "relay", "tls": "implicit"}),
        ("smtps://relay?tls=implicit", {"host": "relay", "tls": "implicit"}),
        ("smtp://relay?tls=starttls", {"host": "relay", "tls": "starttls"}),
        ("smtp://127.0.0.1:2525?tls=none", {"host": "127.0.0.1", "port": 2525, "tls": "none"}),
        ("smtp://[::1]", {"host": "::1"}),
        ("smtp://ann:pw@[2001:db8::1]:25", {"host": "2001:db8::1", "port": 25, "username": "ann", "password": "pw"}),
        ("smtp://ann@relay", {"host": "relay", "username": "ann"}),
        ("smtp://ann:@relay", {"host": "relay", "username": "ann", "password": ""}),
        ("smtp://ann@example.com:pw@relay", {"host": "relay", "username": "ann@example.com", "password": "pw"}),
        ("smtp://a%40b:p%3Aw%2F%C3%A9@relay", {"host": "relay", "username": "a@b", "password": "p:w/é"}),
    ],
)
def test_a_relay_url_becomes_options_of_the_smtp_transport(url: str, options: dict[str, Any]) -> None:
    assert relay_options(url) == options


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "does not begin with smtp://"),
        ("relay:25", "does not begin with smtp://"),
        ("http://ann:hunter2@relay", "does not begin with smtp://"),
        ("smtp:relay", "host or port is missing"),
        ("smtp://", "host or port is missing"),
        ("smtp://ann:hunter2@", "host or port is missing"),
        ("smtp://:25", "host or port is missing"),
        ("smtp://relay:0", "host or port is missing"),
        ("smtp://relay/path", "something comes after"),
        ("smtp://relay#x", "something comes after"),
        ("smtp://ann:hunter2", "cannot be understood"),
        ("smtp://relay:65536", "cannot be understood"),
        ("smtp://[::1", "cannot be understood"),
        ("smtp://ann:hun/ter2@relay", "percent-encoded"),
        ("smtp://ann:hun?ter2@relay", "percent-encoded"),
        ("smtp://ann:hun#ter2@relay", "percent-encoded"),
        ("smtp://ann:hunter2\n@relay", "percent-encoded"),
        ("smtp://ann:hun ter2@relay", "percent-encoded"),
        ("smtp://:hunter2@relay", "user name before the @ is empty"),
        ("smtp://ann:hunter2%ff@relay", "not UTF-8"),
        ("smtp://ann:hunter2@relay?tls=maybe", "tls='maybe' is not one of none, opportunistic, starttls, implicit"),
        ("smtp://ann:hunter2@relay?tls=none&tls=none", "only one tls=... is known"),
        ("smtp://ann:hunter2@relay?timeout=3", "only one tls=... is known"),
        ("smtps://ann:hunter2@relay?tls=starttls", "smtps:// is tls=implicit"),
    ],
)
def test_what_is_no_relay_url_is_refused_without_telling_the_password(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        relay_options(url)
    assert what in str(caught.value)
    assert "hun" not in str(caught.value)


@given(st.text(), st.text(min_size=8))
def test_no_password_whatever_gets_into_an_error(user: str, password: str) -> None:
    said = ""
    try:
        relay_options(f"smtp://{user}:{password}@relay?tls=none")
    except ValueError as error:
        said = str(error)
    assert password not in said
