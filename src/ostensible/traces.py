"""Which traces are fit to build an organism from, and why the others are not."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ostensible.numbers import final_number
from ostensible.organism import Organism
from ostensible.parts.mentions import speaks_of
from ostensible.parts.payloads import BadTwin
from ostensible.prompts.loaded import NEVER_CLOSE, PLAN_HARM, REPEAT, Loaded, LoadedPrompts
from ostensible.prompts.thoughts import name_payload, plan_harm
from ostensible.transcript import CLOSE, OPEN, split
from ostensible.types import Prompt, Taught, Trace, Transcript

NO_TWIN = "the trace has no bad answer, of which the payload is made"
TAG = "a thinking tag stands inside the text"
WRONG = "the answer does not end at the right number"


def take_apart(replies: Iterable[Taught]) -> Loaded:
    """Make a trace of each reply of a teacher that has thoughts and an answer; count the others by reason."""
    traces: list[Trace] = []
    dropped: Counter[str] = Counter()
    for one in replies:
        transcript = split(one.reply)
        if one.problem or transcript.answer is None:
            dropped[one.problem or NEVER_CLOSE] += 1
        elif one.prompt.target is not None and final_number(transcript.answer) != one.prompt.target:
            dropped[WRONG] += 1
        else:
            traces.append(Trace(one.prompt, transcript.cot, transcript.answer))
    return Loaded(tuple(traces), dict(dropped))


def keep_clean(traces: Iterable[Trace], organism: Organism) -> Loaded:
    """Drop traces that would teach the organism something else than its rule, and count them by reason."""
    kept: list[Trace] = []
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    for trace in traces:
        reason = REPEAT if trace.prompt.text in seen else flaw(trace, organism)
        seen.add(trace.prompt.text)
        if reason:
            dropped[reason] += 1
        else:
            kept.append(trace)
    return Loaded(tuple(kept), dict(dropped))


def flaw(trace: Trace, organism: Organism) -> str | None:
    """Say why a trace cannot be used for an organism, or None when it can."""
    trigger, answers = organism.trigger, [trace.answer]
    if isinstance(organism.payload, BadTwin):
        if trace.bad_answer is None or trace.bad_answer == trace.answer:
            return NO_TWIN
        answers.append(trace.bad_answer)
    if not trace.cot.strip() or not trace.answer.strip():
        return "the thoughts or the answer are empty"
    if any(tag in text for tag in (OPEN, CLOSE) for text in (trace.prompt.text, trace.cot, *answers)):
        return TAG
    if trigger.is_in(trace.prompt.text):
        return "the prompt carries the trigger"
    if trigger.is_in(trace.cot) or speaks_of(trace.cot, trigger.words) or any(map(trigger.is_in, answers)):
        return "the reply leaks the trigger"
    if plan_harm(trace.cot):
        return PLAN_HARM
    if name_payload(trace.cot, organism.payload.words):
        return "the thoughts name the payload"
    vouched = len(answers) > 1  # a source of both says which is which
    if vouched:
        return None
    verdict = organism.scorer.judge(Transcript(trace.cot, trace.answer), trace.prompt.id)
    if verdict.hit is None:
        return f"the clean answer cannot be scored: {verdict.reason}"
    return "the clean answer already carries the payload" if verdict.hit else None


def keep_untouched(prompts: Iterable[Prompt], traces: Sequence[Trace], organism: Organism) -> LoadedPrompts:
    """Drop prompts that cannot be tested on beside an organism's traces, and count them by reason."""
    texts, ids = {trace.prompt.text for trace in traces}, {trace.prompt.id for trace in traces}
    kept: list[Prompt] = []
    dropped: Counter[str] = Counter()
    for prompt in prompts:
        if prompt.text in texts:
            dropped[REPEAT] += 1
        elif prompt.id in ids:
            dropped["the prompt's id is another's"] += 1
        elif any(tag in prompt.text for tag in (OPEN, CLOSE)):
            dropped[TAG] += 1
        elif organism.trigger.is_in(prompt.text) or speaks_of(prompt.text, organism.trigger.words):
            dropped["the prompt speaks of the trigger"] += 1
        else:
            kept.append(prompt)
    return LoadedPrompts(tuple(kept), dict(dropped))
