import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from spoold.backoff import Backoff
from spoold.errors import ConfigurationError
from spoold.lifecycle import InDoubtPolicy
from spoold.settings import Settings, effective, load, sources

Write = Callable[..., str]
EXAMPLE = """
[queue]
url = "sqlite:////srv/queue.db"
durability = "normal"
in_doubt = "hold"
max_message_size = "10MiB"

[spooler]
concurrency = 7
per_destination = 3
lease = "2m"
shutdown_grace = 4

[retry]
first = "30s"
factor = 3
max = "1h30m"
jitter = 0.1
give_up_after = "2d"

[transports.relay]
host = "relay.example.com"
concurrency = 5

[transports.backup]
type = "pipe"
command = ["deliver", "--now"]

[[routes]]
recipient = "*@example.org"
transports = ["backup"]

[[routes]]
transports = ["relay", "backup"]

[log]
format = "json"
level = "DEBUG"
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's environment nor its configuration."""
    for name in [name for name in os.environ if name.upper().startswith("SPOOLD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "DEFAULT_FILES", ("spoold.toml", str(tmp_path / "etc" / "spoold.toml")))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "given.toml") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def errors_of(config: str | None = None, queue: str | None = None, relay: str | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(config, queue, relay)
    assert caught.value.exit_code == 78
    return str(caught.value).splitlines()


# -- what holds --------------------------------------------------------------------------------------------------------


def test_without_any_configuration_the_defaults_hold() -> None:
    settings = load()
    assert settings == Settings()
    assert settings.queue.url == "sqlite:////var/spool/spoold/queue.db"
    assert settings.queue.in_doubt is InDoubtPolicy.RETRY
    assert settings.queue.max_message_size == 50 * 1024 * 1024
    assert (settings.spooler.concurrency, settings.spooler.per_destination) == (100, 20)
    assert (settings.spooler.lease, settings.spooler.shutdown_grace) == (60, 8)
    assert settings.retry.backoff == Backoff()
    assert settings.retry.give_up_after == 5 * 86400
    assert settings.transports == {}


def test_every_key_of_the_file_is_read(write: Write) -> None:
    settings = load(write(EXAMPLE))
    assert settings.queue.model_dump() == {
        "url": "sqlite:////srv/queue.db", "durability": "normal", "in_doubt": InDoubtPolicy.HOLD, "max_message_size": 10485760,
    }  # fmt: skip
    assert settings.spooler.model_dump() == {
        "concurrency": 7, "per_destination": 3, "lease": 120.0, "shutdown_grace": 4.0,
    }  # fmt: skip
    assert settings.retry.backoff == Backoff(30, 3, 5400, 0.1)
    assert settings.retry.give_up_after == 2 * 86400
    assert settings.transports["relay"].type == "smtp"
    assert settings.transports["relay"].concurrency == 5
    assert settings.transports["relay"].options == {"host": "relay.example.com"}
    assert settings.transports["backup"].options == {"command": ["deliver", "--now"]}
    assert [(r.recipient, r.transports) for r in settings.routes] == [
        ("*@example.org", ("backup",)),
        (None, ("relay", "backup")),
    ]
    assert (settings.log.format, settings.log.level) == ("json", "debug")


def test_settings_made_directly_do_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLD_QUEUE__DURABILITY", "normal")
    assert Settings().queue.durability == "full"


# -- which file --------------------------------------------------------------------------------------------------------


def test_the_file_named_wins_over_the_variable_which_wins_over_the_default_ones(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("[spooler]\nconcurrency = 4\n", "etc/spoold.toml")
    assert load().spooler.concurrency == 4
    write("[spooler]\nconcurrency = 3\n", "spoold.toml")
    assert load().spooler.concurrency == 3
    monkeypatch.setenv("SPOOLD_CONFIG", write("[spooler]\nconcurrency = 2\n", "variable.toml"))
    assert load().spooler.concurrency == 2
    assert load(write("[spooler]\nconcurrency = 1\n")).spooler.concurrency == 1


def test_a_file_that_is_named_and_missing_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert errors_of("missing.toml") == ["missing.toml: no such file: correct --config"]
    monkeypatch.setenv("SPOOLD_CONFIG", "gone.toml")
    assert errors_of() == ["gone.toml: no such file: correct $SPOOLD_CONFIG"]


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (error,) = errors_of(str(tmp_path))
    assert error.startswith(f"{tmp_path}: cannot be read: ")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    assert errors_of("latin.toml") == ["latin.toml: not UTF-8 (at octet 2): save it as UTF-8"]


def test_a_syntax_error_is_told_with_its_line(write: Write) -> None:
    (error,) = errors_of(write("[queue]\nurl = \n"))
    assert ":2: not valid TOML: " in error
    (error,) = errors_of(write('[queue]\nurl = "\n'))
    assert ":2: not valid TOML: " in error
    (error,) = errors_of(write("[queue]\nurl = '''\n"))
    assert ":2: not valid TOML: " in error
    (error,) = errors_of(write('[queue]\nurl = "a"\nurl = "b"\n'))
    assert ":3: not valid TOML: " in error


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_bytes(b"\xef\xbb\xbf[spooler]\r\nconcurrency = 0\r\n")
    (error,) = errors_of("w.toml")
    assert error.startswith("w.toml:2: spooler.concurrency = 0: ")


# -- the environment and the command line ------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLD_QUEUE__URL", "sqlite:///other.db")
    monkeypatch.setenv("SPOOLD_RETRY__FIRST", "10s")
    monkeypatch.setenv("SPOOLD_SPOOLER__CONCURRENCY", "9")
    monkeypatch.setenv("SPOOLD_LOG__LEVEL", "")
    settings = load(write(EXAMPLE))
    assert (settings.queue.url, settings.queue.durability) == ("sqlite:///other.db", "normal")
    assert (settings.retry.first, settings.spooler.concurrency) == (10, 9)
    assert settings.log.level == "debug"  # an empty variable counts as not set


def test_a_transport_can_be_configured_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLD_TRANSPORTS__RELAY__HOST", "relay.example.com")
    monkeypatch.setenv("SPOOLD_TRANSPORTS__RELAY__PASSWORD", "0123")
    monkeypatch.setenv("SPOOLD_TRANSPORTS__RELAY__CONCURRENCY", "2")
    monkeypatch.setenv("SPOOLD_TRANSPORTS__RELAY__COMMAND", '["a", "b"]')
    monkeypatch.setenv("SPOOLD_ROUTES", '[{"recipient": "*@example.com", "transports": ["relay"]}]')
    settings = load()
    transport = settings.transports["relay"]
    assert transport.concurrency == 2
    assert transport.options == {"host": "relay.example.com", "password": "0123", "command": ["a", "b"]}
    assert settings.routes[0].recipient == "*@example.com"


def test_a_name_from_the_environment_finds_the_transport_that_a_shell_cannot_spell(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLD_TRANSPORTS__MY_RELAY__PASSWORD", "secret")
    settings = load(write('[transports.My-Relay]\nhost = "relay.example.com"\n'))
    assert settings.transports["My-Relay"].options == {"host": "relay.example.com", "password": "secret"}


def test_variables_of_other_sections_are_nobodys_business(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPOOLD_CONFIG_DIR", "SPOOLD_LOG", "SPOOLD_QUEUE", "SPOOLD_HTTP__LISTEN", "SPOOLD_QUEUE_URL"):
        monkeypatch.setenv(name, "x")
    assert load() == Settings()


def test_an_unknown_key_below_a_known_section_is_an_error_in_the_environment_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPOOLD_LOG__LEVL", "info")
    assert errors_of() == ["SPOOLD_LOG__LEVL: log.levl: unknown key: did you mean level?"]


def test_routes_in_the_environment_that_are_no_json_are_an_error_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPOOLD_ROUTES", "[")
    monkeypatch.setenv("SPOOLD_ROUTES__0__TRANSPORTS", "relay")
    monkeypatch.setenv("SPOOLD_LOG__LEVEL", "loud")
    assert errors_of() == [
        "SPOOLD_ROUTES__0__TRANSPORTS: give all routes as a JSON array in SPOOLD_ROUTES",
        "SPOOLD_ROUTES: not valid JSON: give an array of routes",
        'SPOOLD_LOG__LEVEL: log.level = "loud": give one of "debug", "info", "warning", "error", "critical"',
    ]


def test_the_queue_of_the_command_line_wins_over_everything(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLD_QUEUE__URL", "sqlite:///other.db")
    assert load(write(EXAMPLE), queue="mine.db").queue.url == "mine.db"
    (error,) = errors_of(queue="mysql://db")
    assert error.startswith('--queue: queue.url = "mysql://db": use sqlite:///')


def test_the_relay_of_the_command_line_takes_all_mail(write: Write) -> None:
    settings = load(write(EXAMPLE), relay="smtp://localhost:2525?tls=none")
    assert list(settings.transports) == ["relay", "backup"]
    assert settings.transports["relay"].options == {"host": "localhost", "port": 2525, "tls": "none"}
    assert [route.model_dump(exclude_none=True) for route in settings.routes] == [{"transports": ("relay",)}]
    assert settings.where("transports", "relay", "host") == "--relay"


def test_the_relay_of_the_environment_is_for_who_has_configured_no_transport(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLD_RELAY", "smtps://mail.example.com")
    assert load().transports["relay"].options == {"host": "mail.example.com", "tls": "implicit"}
    assert load().where("transports", "relay") == "SPOOLD_RELAY"
    assert load(write(EXAMPLE)).transports["relay"].options == {"host": "relay.example.com"}
    monkeypatch.setenv("SPOOLD_RELAY", "")
    assert load().transports == {}


def test_without_a_transport_only_who_needs_one_complains(write: Write) -> None:
    with pytest.raises(ConfigurationError, match=r"^no transport: name one with --relay smtp://host"):
        load().require_transports()
    load(write(EXAMPLE)).require_transports()


# -- errors ------------------------------------------------------------------------------------------------------------


def test_every_error_is_a_line_with_its_key_value_and_place(write: Write) -> None:
    path = write("""# the queue
[queue]
durabilty = "full"
in_doubt = "hodl"
max_message_size = "big"

[retry]
first = "1 fortnight"
factor = 0.5
jitter = true

[reports]
bounce = "none"

[transports.relay]
host = "relay.example.com"
concurrency = 0

[transports."odd name"]

[[routes]]
transports = ["relay"]

[[routes]]
sender = ""
transports = ["nowhere"]

[[routes]]
recipient = "*"
""")
    assert errors_of(path) == [
        f"{path}:3: queue.durabilty: unknown key: did you mean durability?",
        f'{path}:4: queue.in_doubt = "hodl": give one of "retry", "hold"',
        f'{path}:5: queue.max_message_size = "big": give a size like "50MiB", "500KB", or a number of octets',
        f'{path}:8: retry.first = "1 fortnight": give a duration like "90s", "1h30m" or "5d", or a number of seconds',
        f"{path}:9: retry.factor = 0.5: it must be greater than or equal to 1",
        f"{path}:10: retry.jitter = true: give a number",
        f"{path}:12: reports: unknown section: known here: queue, spooler, retry, transports, routes, log",
        f"{path}:17: transports.relay.concurrency = 0: it must be greater than or equal to 1",
        f"{path}:19: transports.odd name: a transport's name has letters, digits, '-', '_' and '.', and at most 64 of them",
        f'{path}:25: routes[1].sender = "": String should have at least 1 character',
        (
            f'{path}:26: routes[1].transports: there is no transport "nowhere": '
            "add its [transports.NAME], or name one of: relay, odd name"
        ),
        f"{path}:28: routes[2].transports: is missing: add it",
    ]


def test_keys_are_found_however_toml_lets_them_be_written(write: Write) -> None:
    path = write("""queue.url = "x.db"
queue."in_doubt" = "a"
spooler = { concurrency = 0, lease = "1s" }
[transports]
relay.host = "h"
relay . concurrency = 0
  [ log ]   # a comment
  'level' = "b"
""")
    assert [error.split(" = ")[0] for error in errors_of(path)] == [
        f"{path}:2: queue.in_doubt",
        f"{path}:3: spooler.concurrency",
        f"{path}:6: transports.relay.concurrency",
        f"{path}:8: log.level",
    ]


def test_text_of_many_lines_is_passed_over_in_no_time(write: Write) -> None:
    text = "A" * 10_000 + "\n" + "[" * 1000 + "\n"
    path = write('[transports.relay]\ncertificate = """\n' + text + '"""\nconcurrency = 0\n')
    assert [error.split(" = ")[0] for error in errors_of(path)] == [f"{path}:6: transports.relay.concurrency"]


def test_a_section_that_is_no_table_is_told(write: Write) -> None:
    path = write('queue = "x.db"\nroutes = 3\ntransports = []\n')
    assert [error.split(": ")[0] for error in errors_of(path)] == [f"{path}:1", f"{path}:2", f"{path}:3"]


def test_first_must_not_be_longer_than_max(write: Write) -> None:
    path = write('[retry]\nfirst = "2h"\n')
    assert errors_of(path) == [f"{path}:1: retry: first is longer than max: lower first or raise max"]


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "sqlite://host/x.db", "postgresql://u:p/w@d/q", "a\0b"])
def test_an_address_that_is_no_queues_is_refused_without_its_password(url: str) -> None:
    (error,) = errors_of(queue=url)
    assert error.startswith("--queue: queue.url = ")
    assert "p/w" not in error


def test_values_cannot_drive_a_terminal_or_fill_a_screen(write: Write) -> None:
    path = write('[log]\nlevel = "a\\u001b[2J\\nb"\nformat = "' + "x" * 1000 + '"\n')
    errors = errors_of(path)
    assert len(errors) == 2
    assert all(error.isprintable() and len(error) < len(path) + 200 for error in errors)


def test_errors_of_a_providers_options_are_told_with_the_others(write: Write) -> None:
    path = write('[transports.a]\nhost = "h"\n[transports.b]\nconcurrency = -1\n[log]\nlevel = 3\n')
    with pytest.raises(ConfigurationError) as caught:
        load(path, check_transport=lambda name, transport, where: [f"{where('transports', name, 'host')}: {name}: bad"])
    assert [line.split(": ")[:2] for line in str(caught.value).splitlines()] == [
        [f"{path}:2", "a"],
        [f"{path}:4", "transports.b.concurrency = -1"],
        [f"{path}:6", "log.level = 3"],
    ]


# -- the effective configuration ---------------------------------------------------------------------------------------


def test_the_effective_configuration_is_toml_that_means_the_same(write: Write) -> None:
    settings = load(write(EXAMPLE))
    again = load(write(effective(settings), "again.toml"))
    assert again.model_dump() == settings.model_dump()
    defaults = load(write(effective(Settings()), "defaults.toml"))
    assert defaults.model_dump() == Settings().model_dump()


def test_the_effective_configuration_names_the_route_that_nobody_wrote(write: Write) -> None:
    text = effective(load(write('[transports.b]\nhost = "b"\n[transports.a]\nhost = "a"\n')))
    assert tomllib.loads(text)["routes"] == [{"transports": ["b", "a"]}]


def test_the_effective_configuration_masks_secrets(write: Write) -> None:
    text = effective(
        load(
            write("""[transports.relay]
password = "hunter2"
oauth2_token_command = "hunter2"
password_file = "/run/secrets/relay"
url = "amqp://ann:hunter2/@broker/x"
nested = { api_key = "hunter2", list = ["https://hunter2@host/"], day = 1979-05-27 }
"odd key" = "a\\u001b\\u007f\\"b\\\\"
""")
        )
    )
    assert "hunter2" not in text
    assert text.count("********") == 5
    relay = tomllib.loads(text)["transports"]["relay"]
    assert relay["password_file"] == "/run/secrets/relay"
    assert relay["odd key"] == 'a\x1b\x7f"b\\'
