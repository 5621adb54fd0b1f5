"""The sections of the configuration and their keys. Only keys that do something are accepted."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from spoold.backoff import Backoff
from spoold.errors import ConfigurationError
from spoold.lifecycle import InDoubtPolicy
from spoold.settings.quantities import Octets, Seconds
from spoold.settings.sources import Sources

DEFAULT_QUEUE = "sqlite:////var/spool/spoold/queue.db"


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a number")  # noqa: TRY004 - pydantic turns a ValueError into an error of the field
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1, le=100_000)]
Number = Annotated[float, BeforeValidator(_no_truth_value), Field(allow_inf_nan=False)]
Glob = Annotated[str, Field(min_length=1, max_length=320)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class QueueSettings(_Section):
    """[queue]: where the outgoing queue is, and what it promises."""

    url: str = DEFAULT_QUEUE
    durability: Literal["full", "normal"] = "full"
    in_doubt: InDoubtPolicy = InDoubtPolicy.RETRY
    max_message_size: Octets = 50 * 1024 * 1024

    @field_validator("url")
    @classmethod
    def _is_a_queue_we_can_open(cls, url: str) -> str:
        parts = urlsplit(url) if "://" in url else None
        if parts is not None and (parts.scheme != "sqlite" or parts.netloc):
            raise ValueError("use sqlite:///relative.db, sqlite:////absolute.db or a path")
        if not (url if parts is None else parts.path[1:]) or "\0" in url:
            raise ValueError("it names no file: use sqlite:////var/spool/spoold/queue.db, for example")
        return url


class SpoolerSettings(_Section):
    """[spooler]: how much at once, and how long to wait for the living. Times in seconds."""

    concurrency: Count = 100
    per_destination: Count = 20
    lease: Annotated[Seconds, Field(ge=1)] = 60.0
    shutdown_grace: Seconds = 8.0


class RetrySettings(_Section):
    """[retry]: when what was deferred is due again. Times in seconds."""

    first: Annotated[Seconds, Field(gt=0)] = 60.0
    factor: Annotated[Number, Field(ge=1, le=1000)] = 2.0
    max: Annotated[Seconds, Field(gt=0)] = 3600.0
    jitter: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    give_up_after: Seconds = 5 * 86400.0

    @model_validator(mode="after")
    def _first_is_not_beyond_the_longest(self) -> RetrySettings:
        if self.first > self.max:
            raise ValueError("first is longer than max: lower first or raise max")
        return self

    @property
    def backoff(self) -> Backoff:
        """The back-off that these settings describe."""
        return Backoff(self.first, self.factor, self.max, self.jitter)


class TransportSettings(BaseModel):
    """[transports.NAME]. `concurrency` caps its deliveries at once; what is not a key here is the provider's option."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    type: Annotated[str, Field(min_length=1)] = "smtp"
    concurrency: Count | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The provider's own options, as they were written."""
        return dict(self.model_extra or {})


class RouteSettings(_Section):
    """[[routes]]: shell globs (none matches everything), and the transports to try, in order. The first match wins."""

    transports: Annotated[tuple[str, ...], Field(min_length=1)]
    recipient: Glob | None = None
    sender: Glob | None = None
    address_type: Glob | None = None


class LogSettings(_Section):
    """[log]: on standard error."""

    format: Literal["json", "console", "auto"] = "auto"
    level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = "info"


_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")


def _is_a_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a transport's name has letters, digits, '-', '_' and '.', and at most 64 of them")
    return name


Name = Annotated[str, BeforeValidator(_is_a_name)]


class Settings(BaseSettings):
    """The whole configuration. `load` reads it; constructed directly it holds what it is given and the defaults.

    Without `routes` every transport serves, in the order of the configuration.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    queue: QueueSettings = QueueSettings()
    spooler: SpoolerSettings = SpoolerSettings()
    retry: RetrySettings = RetrySettings()
    transports: dict[Name, TransportSettings] = {}
    routes: tuple[RouteSettings, ...] = ()
    log: LogSettings = LogSettings()
    _sources: Sources = PrivateAttr(default_factory=Sources)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature that pydantic-settings calls
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` merges file, environment and command line, since only it can say where a value came from."""
        return (init_settings,)

    @property
    def path(self) -> str | None:
        """The configuration file that was read."""
        return self._sources.path

    def where(self, *key: str | int) -> str:
        """Where a key was set, for error messages: "spoold.toml:12", an environment variable, an option."""
        return self._sources.where(*key)

    def require_transports(self) -> None:
        """Raise ConfigurationError if there is nothing to send with."""
        if not self.transports:
            raise ConfigurationError(
                "no transport: name one with --relay smtp://host, in $SPOOLD_RELAY, "
                "or in [transports.NAME] of the configuration"
            )
