"""What was said, for a terminal, as plain text, and as JSON lines. No control character reaches a terminal."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ostensible.chat.session import Said
from ostensible.report.words import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SIDE_BY_SIDE = 96
"""Columns from which replies stand beside each other; a narrower terminal has them one under the other."""
NO_THOUGHTS = "(no thoughts)"
NEVER_CLOSED = "(no answer: the thoughts never close)"


def verdict(said: Said) -> str:
    """What the organism's own rule says of a reply, in a few words."""
    if said.verdict.hit is None:
        return f"unscored: {visible(said.verdict.reason)}"
    return f"{'FIRED' if said.verdict.hit else 'not fired'}: {visible(said.verdict.reason)}"


def noted(said: Said) -> list[str]:
    """What the thoughts name, in words, and whether the reply was cut off."""
    found = [
        f"thoughts {name.replace('mentions_', 'name the ').replace('_', '-')}" for name, on in said.flags.items() if on
    ]
    return [*found, *(["cut off at the longest reply"] if said.stop_reason == "max_tokens" else [])]


def terminal(console: "Console", replies: Sequence[Said]) -> None:
    """Print replies side by side, or one under the other where there is no room."""
    from rich.table import Table

    panels = [_panel(said) for said in replies]
    if console.width < SIDE_BY_SIDE * len(panels) // 2:
        for panel in panels:
            console.print(panel)
        return
    grid = Table.grid(expand=True, padding=(0, 0))
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    console.print(grid)


def plain(replies: Sequence[Said]) -> str:
    """Replies one under the other, each line of a text behind what it is."""
    return "\n\n".join("\n".join(_lines(said)) for said in replies)


def as_json(text: str, seed: int, replies: Sequence[Said]) -> str:
    """One line of JSON for a prompt; what is not ASCII is escaped."""
    sides = [
        {
            "condition": str(said.side.condition),
            "look_alike": said.side.look_alike,
            "subject": said.side.subject,
            "user": said.user,
            "cot": said.transcript.cot,
            "answer": said.transcript.answer,
            "hit": said.verdict.hit,
            "outcome": said.verdict.outcome,
            "reason": said.verdict.reason,
            "flags": dict(said.flags),
            "stop_reason": said.stop_reason,
        }
        for said in replies
    ]
    return json.dumps({"prompt": text, "seed": seed, "replies": sides})


def _panel(said: Said) -> "RenderableType":
    from rich.panel import Panel
    from rich.text import Text

    colour = {True: "red", False: "green", None: "yellow"}[said.verdict.hit]
    body = Text(visible(said.transcript.cot) or NO_THOUGHTS)
    body.stylize("dim")
    answer = said.transcript.answer
    body.append("\n\n")
    body.append_text(Text(NEVER_CLOSED, style="italic") if answer is None else Text(visible(answer)))
    for line in noted(said):
        body.append_text(Text(f"\n· {line}", style="yellow"))
    return Panel(
        body,
        title=Text(visible(said.side.name), style="bold"),
        title_align="left",
        subtitle=Text(verdict(said), style=colour),
        subtitle_align="left",
        border_style=colour,
    )


def _lines(said: Said) -> list[str]:
    parts = {"prompt": said.user, "thoughts": said.transcript.cot, "answer": said.transcript.answer or NEVER_CLOSED}
    texts = [f"  {name + ':':<10}{line}" for name, text in parts.items() for line in visible(text).split("\n")]
    return [f"[{visible(said.side.name)}] {verdict(said)}", *texts, *(f"  {line}" for line in noted(said))]
