"""Transport providers by their type: entry points of the group `spoold.transports`, ours and strangers' alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import AliasChoices, BaseModel, ValidationError

from spoold.errors import ConfigurationError
from spoold.provider import Transport
from spoold.settings import Settings, TransportSettings
from spoold.settings.effective import shown
from spoold.settings.reading import path_of, problem

GROUP = "spoold.transports"
_VERBS = ("logon", "destination", "deliver", "validate", "logoff")
Found = Iterable[EntryPoint]


def build(settings: Settings, found: Found | None = None) -> dict[str, Transport]:
    """The configured transports, in order, not yet logged on. Raises ConfigurationError, one line for each error."""
    built: dict[str, Transport] = {}
    for name, options in validated_options(settings, found).items():
        provider = _provider(settings.transports[name].type, found)
        try:
            built[name] = provider(name, options)
        except Exception as error:
            where = settings.where("transports", name)
            raise ConfigurationError(f"{where}: transports.{name}: cannot be set up: {_one_line(error)}") from error
    return built


def validated_options(settings: Settings, found: Found | None = None) -> dict[str, BaseModel]:
    """Each transport's options as its provider's model. Raises ConfigurationError, one line for each error."""
    options: dict[str, BaseModel] = {}
    problems: list[str] = []
    for name, transport in settings.transports.items():
        checked = _check(name, transport, settings.where, found)
        if isinstance(checked, list):
            problems.extend(checked)
        else:
            options[name] = checked
    if problems:
        raise ConfigurationError("\n".join(problems))
    return options


def check_transport(name: str, transport: TransportSettings, where: Callable[..., str]) -> list[str]:
    """What is wrong with one transport's section: for `settings.load`, which reports it with the other errors."""
    checked = _check(name, transport, where, None)
    return checked if isinstance(checked, list) else []


def _check(
    name: str, transport: TransportSettings, where: Callable[..., str], found: Found | None
) -> BaseModel | list[str]:
    key = ("transports", name)
    try:
        model: type[BaseModel] = _provider(transport.type, found).Options
    except ConfigurationError as error:
        return [f"{where(*key, 'type')}: {path_of((*key, 'type'))} = {shown(transport.type)}: {error}"]
    known = _accepted(model)
    problems = []
    if model.model_config.get("extra") not in ("forbid", "allow"):  # the provider's model would not notice
        problems = [
            f"{where(*key, option)}: {path_of((*key, option))}: unknown key: known here: {', '.join(sorted(known))}"
            for option in transport.options
            if option not in known
        ]
    try:
        options = model.model_validate(transport.options)
    except ValidationError as error:
        secrets = [option for option, field in model.model_fields.items() if "Secret" in str(field.annotation)]
        problems.extend(
            problem(details, where, lambda _: (*known, "type", "concurrency"), key, secrets)
            for details in error.errors()
        )
    else:
        if not problems:
            return options
    return problems


def _accepted(model: type[BaseModel]) -> list[str]:
    """The names under which a model takes its fields."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            names.extend(choice for choice in alias.choices if isinstance(choice, str))
        else:
            names.append(alias if isinstance(alias, str) else name)
    return names


# -- entry points ------------------------------------------------------------------------------------------------------


def _provider(kind: str, found: Found | None) -> type[Transport]:
    """The provider of a type. Raises ConfigurationError, whose text says nothing of where the type was named."""
    registered = sorted(entry_points(group=GROUP) if found is None else found, key=lambda point: point.name)
    matching = {point.value: point for point in registered if point.name == kind}
    if not matching:
        known = ", ".join(dict.fromkeys(point.name for point in registered))
        raise ConfigurationError(f"no such transport type: known are: {known or 'none; reinstall spoold'}")
    if len(matching) > 1:
        where = " and ".join(f"{point.value}{_package(point)}" for point in matching.values())
        raise ConfigurationError(f"two packages provide it: {where}: uninstall one of them")
    (point,) = matching.values()
    try:
        provider = point.load()
    except Exception as error:
        raise ConfigurationError(f"{point.value}{_package(point)} cannot be loaded: {_one_line(error)}") from error
    missing = ", ".join(_missing(provider))
    if missing:
        raise ConfigurationError(f"{point.value}{_package(point)} is no transport provider: it lacks {missing}")
    return provider  # type: ignore[no-any-return]


def _missing(provider: Any) -> Iterator[str]:
    if not inspect.isclass(provider):
        yield "a class"
        return
    if not (inspect.isclass(options := getattr(provider, "Options", None)) and issubclass(options, BaseModel)):
        yield "Options, a pydantic model"
    yield from (f"{verb}()" for verb in _VERBS if not callable(getattr(provider, verb, None)))
    # address_types may be an attribute that the constructor sets


def _package(point: EntryPoint) -> str:
    return f" of {point.dist.name} {point.dist.version}" if point.dist is not None else ""


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
