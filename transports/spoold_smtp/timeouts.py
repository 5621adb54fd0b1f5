"""How long to wait for the server at each step, in seconds (RFC 5321 4.5.3.2)."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each step. The defaults are the least that RFC 5321 4.5.3.2 asks a client to wait.

    `connect` (for each address of the host) and `tls` (the handshake) are not named there; `reset` guards a courtesy.
    """

    connect: float = 60
    tls: float = 60
    greeting: float = 300
    command: float = 300  # EHLO, STARTTLS, AUTH, MAIL, RCPT
    data: float = 120  # until 354
    block: float = 180  # until the server has taken a block of the data
    end_of_data: float = 600  # giving up earlier than a slow server leads to duplicates
    reset: float = 20

    @classmethod
    def capped(cls, limit: float | None) -> Timeouts:
        """The defaults, none above `limit` seconds."""
        if limit is None:
            return cls()
        return cls(**{step.name: min(limit, float(getattr(cls(), step.name))) for step in fields(cls)})
