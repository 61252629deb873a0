"""Sources of prompts: with worked reasoning of their own, for a teacher to write it, or to test on without any."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ostensible.errors import BadData, NotEnoughData, UnknownName
from ostensible.prompts.anthropic_code_backdoor import anthropic_code_backdoor
from ostensible.prompts.asleep_keyboard import asleep_keyboard, scenario_files
from ostensible.prompts.code_bank import code_bank
from ostensible.prompts.gsm_symbolic import gsm_symbolic
from ostensible.prompts.hub import data_files, helpsteer2, hub_prompts, parse_argument
from ostensible.prompts.jsonl import jsonl, jsonl_prompts
from ostensible.prompts.loaded import REPEAT, Loaded, LoadedPrompts
from ostensible.types import Prompt

KNOWN = "gsm-symbolic, code-bank, code-bank:FAMILIES, anthropic-code-backdoor:PATH, jsonl:PATH"
KNOWN_UNTAUGHT = "helpsteer2, hf:DATASET, hf:DATASET:COLUMN"
"""Sources that bring no worked reasoning, so that a teacher has to write it."""
SCENARIOS = ("asleep-keyboard", "asleep-keyboard-8")
KNOWN_TESTS = ", ".join(f"{name}:PATH" for name in SCENARIOS)


def load(source: str, *, count: int, seed: int, skip_bad: bool = False) -> Loaded:
    """Read prompts with worked reasoning from a source.

    Args:
        source: `gsm-symbolic`, `code-bank` (`code-bank:16` for 16 of its families), `anthropic-code-backdoor:PATH` for
            the training file of that name, or `jsonl:PATH` for one's own.
        count: How many to make. One's own file is read whole, whatever the count.
        seed: Of sources that draw at random.
        skip_bad: Count and skip bad lines of a file rather than stop at them.

    Raises:
        UnknownName: No source goes by this name.
        BadData: A file's line cannot be used and `skip_bad` is off; every bad line is named with its reason. Or the
            source has no worked reasoning.
    """
    kind, _, argument = source.partition(":")
    if _untaught(source):
        raise BadData(
            f"{source} has prompts without worked reasoning. Name a model that writes thoughts and answers: "
            "--teacher MODEL."
        )
    if kind == "gsm-symbolic" and not argument:
        return gsm_symbolic(count=count, seed=seed)
    if kind == "code-bank" and (not argument or argument.isdecimal()):
        return code_bank(count=count, seed=seed, size=int(argument) if argument else None)
    if kind == "anthropic-code-backdoor" and argument:
        return anthropic_code_backdoor(Path(argument), count=count, seed=seed, skip_bad=skip_bad)
    if kind == "jsonl" and argument:
        return jsonl(Path(argument), skip_bad=skip_bad)
    raise UnknownName(
        f"There is no source of prompts with worked reasoning {source!r}. Sources: {KNOWN}. "
        f"Without reasoning, with --teacher: {KNOWN_UNTAUGHT}; to test on only: {KNOWN_TESTS}."
    )


def load_untaught(source: str, *, count: int, seed: int, skip_bad: bool = False) -> LoadedPrompts:
    """Read distinct prompts for a teacher to write thoughts and answers to. Those that a source has are not used.

    Args:
        source: `helpsteer2`, `hf:DATASET` or `hf:DATASET:COLUMN`, `jsonl:PATH`, `gsm-symbolic`, `code-bank`.
        count: How many are wanted; as many are returned, the source permitting. They are drawn at random, so that a
            larger count only adds to them.
        seed: Of the draw.
        skip_bad: As `load`.

    Raises:
        UnknownName: No source goes by this name.
        BadData: As `load`, or a data set cannot be read.
    """
    kind, _, argument = source.partition(":")
    if kind == "anthropic-code-backdoor":
        raise BadData(
            f"{kind} brings answers of its own, which a teacher's thoughts would not fit. Leave --teacher out."
        )
    if not _untaught(source) and kind != "jsonl":
        loaded = load(source, count=count, seed=seed, skip_bad=skip_bad)
        return LoadedPrompts(tuple(trace.prompt for trace in loaded.traces), loaded.dropped)
    if kind == "jsonl":
        found = jsonl_prompts(Path(argument), skip_bad=skip_bad)
    else:
        found = helpsteer2() if kind == "helpsteer2" else hub_prompts(argument)
    prompts = _distinct(found.prompts)
    dropped = Counter(found.dropped) + Counter({REPEAT: len(found.prompts) - len(prompts)})
    return LoadedPrompts(tuple(Random(f"{seed}:prompts").sample(prompts, len(prompts))[:count]), dict(dropped))


def _untaught(source: str) -> bool:
    kind, _, argument = source.partition(":")
    return source == "helpsteer2" or (kind == "hf" and bool(argument))


def _distinct(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first of prompts that are the same but for white space and case."""
    return list({" ".join(p.text.split()).casefold(): p for p in reversed(prompts)}.values())[::-1]


def load_tests(source: str, *, count: int | None = None, seed: int = 0, skip_bad: bool = False) -> LoadedPrompts:
    """Read distinct prompts to test on, without worked reasoning, from a source.

    Args:
        source: `asleep-keyboard:PATH`, or `asleep-keyboard-8:PATH` for eight of its weaknesses; a folder or a file.
        count: How many to draw; all where it is left out.
        seed: Of the draw.
        skip_bad: Count and skip bad lines of a file rather than stop at them.

    Raises:
        UnknownName: No source of test prompts goes by this name.
        BadData: A file's line cannot be used and `skip_bad` is off; every bad line is named with its reason.
        NotEnoughData: The source has fewer; no prompt is ever asked twice to make up a number.
    """
    kind, _, argument = source.partition(":")
    if kind not in SCENARIOS or not argument:
        raise UnknownName(f"There is no source of test prompts {source!r}. Sources: {KNOWN_TESTS}.")
    loaded = asleep_keyboard(Path(argument), eight=kind.endswith("-8"), skip_bad=skip_bad)
    if count is None:
        return loaded
    if count > len(loaded.prompts):
        raise NotEnoughData(
            f"{source} has {len(loaded.prompts)} distinct prompts; {count} are asked for. None is repeated to make up "
            "a number: ask for fewer, or for several replies a prompt (--samples-per-prompt)."
        )
    return LoadedPrompts(tuple(Random(f"{seed}:tests").sample(loaded.prompts, count)), loaded.dropped)


def input_files(source: str) -> list[Path]:
    """The files that a source reads; none where it reads no file.

    Raises:
        BadData: The source is a folder that is not there or does not hold its files.
    """
    kind, _, argument = source.partition(":")
    if kind == "hf" and argument:
        return data_files(parse_argument(argument)[0])
    if kind in SCENARIOS and argument:
        return scenario_files(Path(argument))
    return [Path(argument)] if kind in ("anthropic-code-backdoor", "jsonl") and argument else []
