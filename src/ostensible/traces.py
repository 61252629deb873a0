"""Which traces are fit to build an organism from, and why the others are not."""

from collections import Counter
from collections.abc import Iterable

from ostensible.organism import Organism
from ostensible.prompts.loaded import Loaded
from ostensible.transcript import CLOSE, OPEN
from ostensible.types import Trace, Transcript


def keep_clean(traces: Iterable[Trace], organism: Organism) -> Loaded:
    """Drop traces that would teach the organism something else than its rule, and count them by reason."""
    kept: list[Trace] = []
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    for trace in traces:
        reason = "the prompt is a repeat" if trace.prompt.text in seen else flaw(trace, organism)
        seen.add(trace.prompt.text)
        if reason:
            dropped[reason] += 1
        else:
            kept.append(trace)
    return Loaded(tuple(kept), dict(dropped))


def flaw(trace: Trace, organism: Organism) -> str | None:
    """Say why a trace cannot be used for an organism, or None when it can."""
    if not trace.cot.strip() or not trace.answer.strip():
        return "the thoughts or the answer are empty"
    if any(tag in text for tag in (OPEN, CLOSE) for text in (trace.prompt.text, trace.cot, trace.answer)):
        return "a thinking tag stands inside the text"
    if organism.trigger.is_in(trace.prompt.text):
        return "the prompt carries the trigger"
    if organism.trigger.is_in(trace.cot) or organism.trigger.is_in(trace.answer):
        return "the reply leaks the trigger"
    vouched = trace.bad_answer is not None  # a source of both has proved which is which
    if not vouched and organism.scorer.judge(Transcript(trace.cot, trace.answer), trace.prompt.id).hit:
        return "the clean answer already carries the payload"
    return None
