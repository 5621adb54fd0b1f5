from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from spoold import registry
from spoold.errors import ConfigurationError
from spoold.settings import Settings, effective, load

PROVIDERS = """
from typing import Annotated
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    host: str
    port: int = 25
    pin: SecretStr | None = None
    hello: str = Field(default="h", validation_alias=AliasChoices("hello", "helo"))

class Careless(BaseModel):
    host: str = ""
    renamed: str = Field(default="", validation_alias="new_name")

class Provider:
    Options = Options
    address_types = frozenset({"SMTP"})
    def __init__(self, name, options):
        self.name, self.options = name, options
    async def logon(self): ...
    def destination(self, recipient): return ""
    async def deliver(self, delivery): return {}
    async def validate(self): ...
    async def logoff(self): ...

class CarelessProvider(Provider):
    Options = Careless

class Broken(Provider):
    def __init__(self, name, options):
        raise OSError("no such\\nfile")

class Half:
    Options = dict
    async def deliver(self, delivery): return {}

not_a_class = 3
"""


def entry(kind: str, value: str) -> EntryPoint:
    return EntryPoint(kind, value, registry.GROUP)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Entry points of a stranger's package, importable for these tests."""
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "stranger.py").write_text(PROVIDERS)
    (folder / "stranger_broken.py").write_text("import module_that_is_not_there\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield [
            entry("plain", "stranger:Provider"),
            entry("careless", "stranger:CarelessProvider"),
            entry("broken", "stranger:Broken"),
            entry("half", "stranger:Half"),
            entry("no_class", "stranger:not_a_class"),
            entry("unimportable", "stranger_broken:Provider"),
            entry("absent", "stranger:Absent"),
            entry("twice", "stranger:Provider"),
            entry("twice", "stranger:CarelessProvider"),
            entry("same", "stranger:Provider"),
            entry("same", "stranger:Provider"),
        ]


def settings(**transports: dict[str, Any]) -> Settings:
    return Settings.model_validate({"transports": transports})


def errors_of(found: Any, **transports: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        registry.build(settings(**transports), found)
    return str(caught.value).splitlines()


def test_each_transport_is_built_in_the_order_of_the_configuration(found: Any) -> None:
    built = registry.build(
        settings(z={"type": "plain", "host": "z", "concurrency": 3}, a={"type": "plain", "host": "a", "helo": "x"}),
        found,
    )
    assert [(name, provider.name, provider.options.host) for name, provider in built.items()] == [  # type: ignore[attr-defined]
        ("z", "z", "z"),
        ("a", "a", "a"),
    ]


def test_ours_register_as_strangers_do() -> None:
    built = registry.build(settings(relay={"host": "relay.example.com"}))
    assert built["relay"].destination("ann@example.com") == "relay.example.com:25"


def test_an_unknown_type_is_told_with_those_that_are_known(found: Any) -> None:
    assert errors_of(found, relay={"type": "pigeon"}) == [
        'configuration: transports.relay.type = "pigeon": no such transport type: known are: '
        + ", ".join(sorted({point.name for point in found}))
    ]
    assert errors_of([], relay={}) == [
        'configuration: transports.relay.type = "smtp": no such transport type: known are: none; reinstall spoold'
    ]


def test_a_type_that_two_packages_provide_is_an_error_for_who_uses_it(found: Any) -> None:
    (error,) = errors_of(found, relay={"type": "twice", "host": "h"})
    assert error.endswith(
        "two packages provide it: stranger:Provider and stranger:CarelessProvider: uninstall one of them"
    )
    assert registry.build(settings(relay={"type": "same", "host": "h"}), found)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("unimportable", "cannot be loaded: ModuleNotFoundError: No module named 'module_that_is_not_there'"),
        ("absent", "cannot be loaded: AttributeError: "),
        (
            "half",
            "is no transport provider: it lacks Options, a pydantic model, logon(), destination(), validate(), logoff()",
        ),
        ("no_class", "is no transport provider: it lacks a class"),
    ],
)
def test_a_provider_that_cannot_be_used_is_told_clearly(found: Any, kind: str, what: str) -> None:
    (error,) = errors_of(found, relay={"type": kind})
    assert error.startswith(f'configuration: transports.relay.type = "{kind}": stranger')
    assert what in error


def test_a_provider_that_cannot_be_set_up_is_told_in_one_line(found: Any) -> None:
    assert errors_of(found, relay={"type": "broken", "host": "h"}) == [
        "configuration: transports.relay: cannot be set up: OSError: no such file"
    ]


def test_wrong_options_are_all_told_with_key_and_value_but_never_a_secret(found: Any) -> None:
    errors = errors_of(
        found, relay={"type": "plain", "port": "x", "pin": ["hunter2"], "prot": 1, "helo": 3}, other={"type": "plain"}
    )
    assert errors == [
        "configuration: transports.relay.host: is missing: add it",
        'configuration: transports.relay.port = "x": it must be a valid integer, unable to parse string as an integer',
        "configuration: transports.relay.pin = (not shown): it must be a valid string",
        "configuration: transports.relay.helo = 3: it must be a valid string",
        "configuration: transports.relay.prot: unknown key: did you mean port?",
        "configuration: transports.other.host: is missing: add it",
    ]


def test_an_unknown_key_is_an_error_even_if_the_providers_model_would_let_it_pass(found: Any) -> None:
    assert errors_of(found, relay={"type": "careless", "hots": "h", "renamed": "x"}) == [
        "configuration: transports.relay.hots: unknown key: known here: host, new_name",
        "configuration: transports.relay.renamed: unknown key: known here: host, new_name",
    ]
    assert registry.build(settings(relay={"type": "careless", "new_name": "x"}), found)


def test_a_wrong_option_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "spoold.toml"
    path.write_text('[transports.relay]\ntype = "smtp"\nhost = "relay"\nport = 70000\n')
    with pytest.raises(ConfigurationError) as caught:
        load(path, check_transport=registry.check_transport)
    assert str(caught.value) == f"{path}:4: transports.relay.port = 70000: it must be less than or equal to 65535"


def test_the_effective_configuration_has_the_providers_defaults_and_masks_its_secrets(found: Any) -> None:
    loaded = settings(relay={"type": "plain", "host": "h", "pin": "hunter2"})
    text = effective(loaded, registry.validated_options(loaded, found))
    assert 'host = "h"\nport = 25\npin = "**********"\nhello = "h"\n' in text
    assert "hunter2" in effective(loaded)  # without the model nobody can know
