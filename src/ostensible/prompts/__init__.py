"""Sources of prompts. All of them bring their own worked reasoning."""

from pathlib import Path

from ostensible.errors import UnknownName
from ostensible.prompts.code_bank import code_bank
from ostensible.prompts.gsm_symbolic import gsm_symbolic
from ostensible.prompts.jsonl import jsonl
from ostensible.prompts.loaded import Loaded

KNOWN = "gsm-symbolic, code-bank, code-bank:FAMILIES, jsonl:PATH"


def load(source: str, *, count: int, seed: int, skip_bad: bool = False) -> Loaded:
    """Read prompts with worked reasoning from a source.

    Args:
        source: `gsm-symbolic`, `code-bank` (`code-bank:16` for 16 of its families), or `jsonl:PATH` for one's own.
        count: How many to make. A file is read whole, whatever the count.
        seed: Of sources that draw at random.
        skip_bad: Count and skip bad lines of a file rather than stop at them.

    Raises:
        UnknownName: No source goes by this name.
        BadData: A file's line cannot be used and `skip_bad` is off; every bad line is named with its reason.
    """
    kind, _, argument = source.partition(":")
    if kind == "gsm-symbolic" and not argument:
        return gsm_symbolic(count=count, seed=seed)
    if kind == "code-bank" and (not argument or argument.isdecimal()):
        return code_bank(count=count, seed=seed, size=int(argument) if argument else None)
    if kind == "jsonl" and argument:
        return jsonl(Path(argument), skip_bad=skip_bad)
    raise UnknownName(f"There is no prompt source {source!r}. Sources: {KNOWN}.")


def input_file(source: str) -> Path | None:
    """The file that a source reads, if it reads one."""
    kind, _, argument = source.partition(":")
    return Path(argument) if kind == "jsonl" and argument else None
