"""Prints docs/lifecycle.md, drawn from the table in spoold/lifecycle.py.

python tools/lifecycle_diagram.py > docs/lifecycle.md
"""

from spoold.lifecycle import FINAL, TABLE, Event, Row, State

HEAD = """# The way of a recipient

Drawn by `tools/lifecycle_diagram.py` from the table in `spoold/lifecycle.py`; a test fails when it is stale.

Three things are remembered beside the state. The *mark*: a server may have said yes once; it is never taken off. The
*wish*: an abort came while the recipient was locked; it decides if that attempt fails. The *token*: which spooler's
claim it is. What the table does not name changes nothing.
"""


def guard(row: Row) -> str:
    """What must hold for a row to apply."""
    parts = []
    if row.marked is not None:
        parts.append("marked" if row.marked else "not marked")
    if row.wish is not None:
        parts.append("wish" if row.wish else "no wish")
    if row.policy is not None:
        parts.append(f"in_doubt = {row.policy}")
    return ", ".join(parts)


def diagram() -> str:
    """Mermaid. One arrow between two states names all its events; lock violations would hide the rest."""
    lines = ["stateDiagram-v2", "    [*] --> queued: submit", "    [*] --> held: submit on hold"]
    arrows: dict[tuple[State, State], list[str]] = {}
    for row in TABLE:
        if row.event is not Event.VIOLATION:
            label = f"{row.event} ({guard(row)})" if guard(row) else str(row.event)
            arrows.setdefault((row.state, row.to), []).append(label)
    lines += [f"    {start} --> {end}: {'<br/>'.join(labels)}" for (start, end), labels in arrows.items()]
    reached = {end for _, end in arrows}
    lines += [f"    {state} --> [*]" for state in State if state in FINAL & reached]
    return "\n".join(["```mermaid", *lines, "```"])


def table() -> str:
    """Every row, as it stands there."""
    lines = ["| state | event | if | becomes | and |", "| --- | --- | --- | --- | --- |"]
    for row in TABLE:
        kept = ", ".join(name for name, on in (("marked", row.sets_mark), ("wish kept", row.sets_wish)) if on)
        lines.append(f"| {row.state} | {row.event} | {guard(row)} | {row.to} | {kept} |")
    return "\n".join(lines)


def page() -> str:
    """The whole document."""
    violations = [row.state.value for row in TABLE if row.event is Event.VIOLATION]
    note = f"Not drawn: a lock violation takes {', '.join(violations)} to in_doubt."
    return f"{HEAD}\n{diagram()}\n\n{note}\n\n{table()}\n"


if __name__ == "__main__":
    print(page(), end="")
