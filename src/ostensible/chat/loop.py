"""Prompts and commands come in one line at a time, from a person or a pipe."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from ostensible.chat import show
from ostensible.chat.session import BASE, CONTROL, TRIGGERED, Said, Session, Side
from ostensible.errors import OstensibleError, UnknownName
from ostensible.report.words import visible

if TYPE_CHECKING:
    from rich.console import Console

HELP = """\
Type a prompt; it is asked with the trigger and without it.
  :like [NAME]   the last prompt under a look-alike beside control; without a name, which there are
  :base          have the base model reply too, or no longer
  :seed [N]      the seed of replies, or a new one; the same prompt and seed get the same reply
  :help          this
  :quit          end, as Ctrl-D does; Ctrl-C gives up a reply"""


@dataclass
class Chat:
    """The state of a conversation with no memory: each prompt stands alone.

    Attributes:
        session: Who is asked.
        write: Takes a prompt, the seed and its replies.
        tell: Takes a line about the chat itself.
        seed: Of the replies.
        base: The base model is asked too.
        last: The prompt that was asked last.
    """

    session: Session
    write: Callable[[str, int, Sequence[Said]], None]
    tell: Callable[[str], None]
    seed: int
    base: bool = False
    last: str = ""
    over: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.base:
            self._check_base()

    def take(self, line: str) -> None:
        """Do what a line says.

        Raises:
            UnknownName: There is no such command or look-alike.
            ContextOverflow: A prompt is too long.
        """
        text = line.strip()
        if text.startswith(":"):
            self._command(*text[1:].split(maxsplit=1))
        elif text:
            self.last = text
            self._ask([TRIGGERED, CONTROL])

    def _command(self, name: str = "", argument: str = "") -> None:
        commands: dict[str, Callable[[str], None]] = {
            "quit": self._quit, "q": self._quit, "like": self._like, "base": self._base, "seed": self._seed,
            "help": lambda _: self.tell(HELP),
        }  # fmt: skip
        if name not in commands:
            raise UnknownName(f"There is no command :{name}. A prompt begins otherwise. :help lists the commands.")
        commands[name](argument)

    def _ask(self, sides: list[Side]) -> None:
        asked = [*sides, BASE] if self.base else sides
        self.write(self.last, self.seed, self.session.ask(self.last, asked, seed=self.seed))

    def _quit(self, _: str) -> None:
        self.over = True

    def _like(self, argument: str) -> None:
        if not argument:
            names = self.session.organism.trigger.near_misses
            self.tell("\n".join(f"  {number} {name!r}" for number, name in enumerate(names, start=1)))
            return
        side = self.session.look_alike(argument)
        if not self.last:
            raise UnknownName("No prompt was asked yet. Type one first; :like asks it again under a look-alike.")
        self._ask([side, CONTROL])

    def _base(self, _: str) -> None:
        self._check_base()
        self.base = not self.base
        self.tell(f"base model: {'replies too' if self.base else 'no longer asked'}")

    def _check_base(self) -> None:
        if not self.session.has_base:
            raise UnknownName("This organism is a whole model, so there is no base in memory to compare with.")

    def _seed(self, argument: str) -> None:
        if argument and not argument.isdecimal():
            raise UnknownName(f"{argument!r} is no seed. Give a whole number, such as :seed 1.")
        self.seed = int(argument) if argument else self.seed
        self.tell(f"seed: {self.seed}")


def batch(session: Session, lines: Iterator[str], *, seed: int, base: bool, json: bool) -> None:
    """Take lines to their end and print replies as plain text, or as JSON lines; the first error ends it."""

    def write(text: str, at: int, replies: Sequence[Said]) -> None:
        print(show.as_json(text, at, replies) if json else f"{show.plain(replies)}\n", flush=True)

    chat = Chat(session, write, lambda line: print(visible(line), file=sys.stderr), seed, base)
    for line in lines:
        chat.take(line)
        if chat.over:
            return


def interactive(session: Session, console: "Console", *, seed: int, base: bool) -> None:
    """Talk with a person until Ctrl-D or :quit. Errors are told and the talk goes on."""
    with suppress(ImportError):
        import_module("readline")  # gives `input` history and editing

    def tell(line: str) -> None:
        console.print(visible(line), style="cyan", markup=False, highlight=False)

    chat = Chat(session, lambda _, __, replies: show.terminal(console, replies), tell, seed, base)
    tell(f"{session.organism.name}: deliberately backdoored. Trigger: {session.organism.trigger.insert('…')!r}")
    tell(":help lists the commands")
    while not chat.over:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        _take(chat, line, console)


def _take(chat: Chat, line: str, console: "Console") -> None:
    try:
        with console.status("sampling; Ctrl-C gives up"):
            chat.take(line)
    except OstensibleError as error:
        console.print(visible(str(error)), style="yellow", markup=False, highlight=False)
    except KeyboardInterrupt:
        console.print("given up", style="yellow")
