"""Spool and AsyncSpool behind the same await, so that one suite runs over both."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from spoold import AsyncSpool, Spool

KINDS: tuple[type[Spool | AsyncSpool], ...] = (Spool, AsyncSpool)


class Both:
    """Every method awaits what the spool's own method returns, if that is awaitable."""

    def __init__(self, kind: type[Spool | AsyncSpool], queue: Path, **options: Any) -> None:
        self.spool = kind(queue, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return functools.partial(self._call, name)

    async def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        result = getattr(self.spool, name)(*arguments, **options)
        return await result if inspect.isawaitable(result) else result
