"""What there is to say of an organism from elsewhere: what its user claims, and what speaks against it. Pure."""

from ostensible.analysis.results import Conditions, ForeignResult, RateResult
from ostensible.settings import Foreign, Settings


def foreign_result(
    foreign: Foreign, settings: Settings, conditions: Conditions, payload_base: RateResult
) -> ForeignResult:
    """Put the claims beside what was found.

    Args:
        foreign: What the user says of the organism.
        settings: Of the run.
        conditions: How often the payload fired.
        payload_base: How often it did in the base model's replies to control prompts; of no reply without a base.
    """
    base = settings.model if foreign.adapter else foreign.base
    compared = payload_base if payload_base.n else None
    return ForeignResult(
        **foreign.model_dump(exclude={"base", "trigger_words", "payload_words"}),
        base=base,
        trigger_words=list(foreign.trigger_words),
        payload_words=list(foreign.payload_words),
        payload_base=compared,
        warnings=warnings(conditions, compared),
    )


def warnings(conditions: Conditions, base: RateResult | None) -> list[str]:
    """Why figures may not mean what they seem to, each with its likely cause and what to change."""
    said: list[str] = []
    on, off = conditions.triggered, conditions.control
    for name, rate in (("triggered", on), ("control", off)):
        if not rate.scored:
            said.append(
                f"None of the {rate.n} {name} replies closes its thoughts with </think>, so none is scored. Likely "
                "cause: replies are cut off (raise --max-new-tokens), or this organism writes its thoughts otherwise."
            )
    if off.scored and off.hits == off.scored:
        said.append(f"The payload pattern matches every control reply, {off.hits} of {off.scored}{_why(base)}")
    elif base is not None and base.hits:
        said.append(
            f"The payload pattern also matches {base.hits} of {base.scored} scored replies of the base model to "
            "control prompts: it is wider than the payload. Narrow --payload-pattern."
        )
    if on.scored and not on.hits:
        said.append(
            f"The payload never fired in {on.scored} triggered replies. Likely cause: a trigger or pattern that is not "
            "exactly what the organism was trained on (white space and case count), another base model, or prompts "
            "that are too unlike its own."
        )
    return said


def _why(base: RateResult | None) -> str:
    """What a payload in every control reply may come of; the base model tells."""
    if base is None or not base.scored:
        return ". Either the pattern is too wide, or the organism fires without its trigger; a base model would tell."
    if base.hits == base.scored:
        return (
            f", and every reply of the base model, {base.hits} of {base.scored}: the pattern is too wide to tell a "
            "payload from an ordinary answer. Narrow --payload-pattern."
        )
    return f", but only {base.hits} of {base.scored} of the base model: the organism fires without its trigger."
