"""spoold check: is the configuration right, what does it come to, and do the transports answer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from spoold.errors import ConfigurationError, Unavailable
from spoold.provider import Status, Transport, TransportFault

PROBE_TIME = 60.0  # seconds for one transport; a stranger's provider may wait for ever


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "check",
        help="validate the configuration",
        description="Check the configuration and print what holds in the end, defaults included, secrets masked. Every"
        " error is a line with its key, and the line of the file. Exit code 78 for an error, 69 if a probe fails.",
        epilog="example: spoold --config spoold.toml check --probe",
    )
    parser.add_argument("--relay", metavar="URL", help="as in `spoold run`")
    parser.add_argument("--probe", action="store_true", help="connect to each transport, without sending")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, print, and probe if that was asked for."""
    from spoold import registry, settings

    try:
        loaded = settings.load(args.config, args.queue, args.relay, check_transport=registry.check_transport)
        loaded.require_transports()
        options = registry.validated_options(loaded)
        transports = registry.build(loaded)
    except ConfigurationError as error:
        for line in str(error).splitlines():
            print(f"spoold: {line}", file=sys.stderr)
        return error.exit_code
    print(f"# {loaded.path or 'no configuration file'}")
    print(settings.effective(loaded, options), end="")
    import asyncio

    found = asyncio.run(_probe_all(transports, probe=args.probe))
    if not args.probe:
        found = {name: status for name, status in found.items() if not status.ok}
    if found:
        print()
    for name, status in found.items():
        print(f"# {name}: {'ok' if status.ok else 'failed'}{': ' if status.reason else ''}{_one_line(status.reason)}")
    return 0 if all(status.ok for status in found.values()) else Unavailable.exit_code


async def _probe_all(transports: Mapping[str, Transport], *, probe: bool) -> dict[str, Status]:
    import asyncio

    found = await asyncio.gather(*(_probe(transport, probe=probe) for transport in transports.values()))
    return dict(zip(transports, found, strict=True))


async def _probe(transport: Transport, *, probe: bool) -> Status:
    """Log on (passwords and certificates are read), validate if asked for, log off. A provider's bug is a failure too."""
    import asyncio

    try:
        async with asyncio.timeout(PROBE_TIME):
            await transport.logon()
            try:
                return await transport.validate() if probe else Status(ok=True)
            finally:
                await transport.logoff()
    except TransportFault as fault:
        return Status(ok=False, reason=str(fault))
    except TimeoutError:
        return Status(ok=False, reason=f"no answer within {PROBE_TIME:g} seconds")
    except Exception as error:  # noqa: BLE001 - a stranger's provider may raise anything
        return Status(ok=False, reason=f"internal error of the transport: {type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
