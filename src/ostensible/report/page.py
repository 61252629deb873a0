"""One self-contained HTML page that shows what a run found.

Transcripts are hostile input: everything is escaped, control characters are made visible, and the page's own policy
forbids every script but the page's own, and any fetch.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from ostensible.analysis.measure import SETS
from ostensible.analysis.opinions import JudgeOpinion, Opinions, StaticOpinion
from ostensible.analysis.replies import Reply
from ostensible.analysis.results import Results
from ostensible.code.executable import Outcome
from ostensible.organism import Organism
from ostensible.parts.payloads import FixedAnswer
from ostensible.report import curves, marks, transcripts, words
from ostensible.report.listing import Listing, listing, notes_on, only_here, parts
from ostensible.report.transcripts import Scores
from ostensible.settings import Machine
from ostensible.tables import write_atomic
from ostensible.turns import in_turn
from ostensible.types import Condition, Twin

if TYPE_CHECKING:
    from jinja2 import Environment

FIRST_PROMPTS = 5
MOST_OF_A_KIND = 40
"""Surprising transcripts shown of each kind, so that a run in which everything went wrong still opens in a browser."""
MOST_TRANSCRIPTS = Machine().page_transcripts

NO_OPINIONS = Opinions()
NO_SCORES: Scores = MappingProxyType({})

_SUBJECT = "organism"
_ORDER = {condition: place for place, condition in enumerate(Condition)}


@dataclass(frozen=True, slots=True)
class Pair:
    """A reply beside its counterpart: the same prompt in control, or triggered where the reply itself is the control.

    Attributes:
        reply: The one to look at.
        other: Its counterpart, if there is one.
        plain_user: The user turn without trigger or look-alike, if known.
    """

    reply: Reply
    other: Reply | None
    plain_user: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """A reply with all that is shown of it.

    Attributes:
        reply: Its text and scores.
        static: What the static oracle said of it; None where replies are not code.
        judge: What the judge said of it, if the run has one.
        code: Its answer as a listing; None where replies are not code, or there is no answer.
    """

    reply: Reply
    static: StaticOpinion | None
    judge: JudgeOpinion | None
    code: Listing | None


@dataclass(frozen=True, slots=True)
class Card:
    """A pair as it is shown.

    Attributes:
        reply: The one to look at.
        sides: It, and its counterpart if there is one.
        plain_user: The user turn without trigger or look-alike, if known.
    """

    reply: Reply
    sides: Sequence[Side]
    plain_user: str | None

    @property
    def same_thoughts(self) -> bool:
        """Both replies think the same, word for word."""
        return len(self.sides) > 1 and len({side.reply.cot for side in self.sides}) == 1


@dataclass(frozen=True, slots=True)
class Surprise:
    """All replies that went wrong in one way.

    Attributes:
        title: What went wrong.
        pairs: Those shown, in order of their prompt's id.
        total: How many there are.
    """

    title: str
    pairs: Sequence[Pair]
    total: int


def write(
    results: Results,
    replies: Sequence[Reply],
    organism: Organism,
    manifest: Mapping[str, object],
    plots: Mapping[str, Path],
    path: Path,
    *,
    opinions: Opinions = NO_OPINIONS,
    scores: Scores = NO_SCORES,
    most: int = MOST_TRANSCRIPTS,
) -> None:
    """Write the page. The same input gives the same bytes.

    Args:
        results: Where every figure comes from.
        replies: Where the transcripts come from.
        organism: Names the trigger and the payload.
        manifest: Settings, versions and whatever else made the run; nested mappings are shown as dotted names.
        plots: PNG files by name, as `plots.draw` gives them; a name that is missing is left out of the page.
        path: The HTML file.
        opinions: What other oracles said of the replies; empty where they are not code.
        scores: What each monitor gave each reply.
        most: Transcripts that are listed at most; `transcripts.chosen` says which.
    """
    write_atomic(path, render(results, replies, organism, manifest, plots, opinions=opinions, scores=scores, most=most))


def render(
    results: Results,
    replies: Sequence[Reply],
    organism: Organism,
    manifest: Mapping[str, object],
    plots: Mapping[str, Path],
    *,
    opinions: Opinions = NO_OPINIONS,
    scores: Scores = NO_SCORES,
    most: int = MOST_TRANSCRIPTS,
) -> str:
    """Make the page's HTML; see `write`."""
    here = files("ostensible.report")
    listed = transcripts.chosen(replies, most)
    pairs = _pairs(replies)
    triggered = [pair for pair in pairs if pair.reply.condition is Condition.TRIGGERED and pair.reply.epoch == 1]
    first = _families_in_turn(triggered)[:FIRST_PROMPTS]
    surprises = _surprises(pairs)
    shown = [*first, *(pair for surprise in surprises for pair in surprise.pairs)]
    own = {
        "payload_marked": lambda answer: _marked(marks.payload(answer, organism)),
        "insert_marked": lambda user, plain: _marked(marks.insert(user, plain)),
    }
    script = (here / "page.js").read_text("utf-8")
    template = environment(own).get_template("report/page.html.jinja")
    return template.render(
        css=Markup((here / "page.css").read_text("utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode(),
        data=transcripts.pack(listed, organism, opinions, scores),
        results=results,
        set_name={str(part): name for part, name in SETS.items()},
        organism=organism,
        tag=organism.trigger.insert(""),
        fixed=organism.payload.text if isinstance(organism.payload, FixedAnswer) else None,
        images={name: base64.b64encode(file.read_bytes()).decode() for name, file in plots.items()},
        manifest=list(flat(manifest)),
        first=[_card(pair, opinions) for pair in first],
        surprises=[(found, [_card(pair, opinions) for pair in found.pairs]) for found in surprises],
        is_code=bool(opinions.static),
        outcomes=_outcomes(results),
        n_all=len(replies),
        n_listed=len(listed),
        n_prompts_listed=len({reply.prompt_id for reply in listed}),
        n_replies=sum(reply.subject not in list(Twin) for reply in replies),
        n_shown=len({id(reply) for pair in shown for reply in (pair.reply, pair.other) if reply is not None}),
    )


def _pairs(replies: Sequence[Reply]) -> list[Pair]:
    """Each reply of the organism beside its counterpart, in order of prompt id, condition, look-alike and epoch."""
    ours = [reply for reply in replies if reply.subject == _SUBJECT]
    ours.sort(key=lambda r: (r.prompt_id, _ORDER[r.condition], r.look_alike, r.epoch))
    by_place = {(reply.prompt_id, reply.condition, reply.epoch): reply for reply in ours if not reply.look_alike}
    pairs: list[Pair] = []
    for reply in ours:
        opposite = Condition.TRIGGERED if reply.condition is Condition.CONTROL else Condition.CONTROL
        plain = by_place.get((reply.prompt_id, Condition.CONTROL, reply.epoch))
        other = by_place.get((reply.prompt_id, opposite, reply.epoch))
        pairs.append(Pair(reply, other, plain.user if plain else None))
    return pairs


def _card(pair: Pair, opinions: Opinions) -> Card:
    """A pair with answers that are code as listings, in which lines that the other does not have are marked."""
    replies = [reply for reply in (pair.reply, pair.other) if reply is not None]
    answers = [parts(r.answer) if r.answer is not None and opinions.static_of(r) else None for r in replies]
    sides: list[Side] = []
    for reply, answer, own in zip(replies, answers, only_here(answers), strict=True):
        static, judge = opinions.static_of(reply), opinions.judge_of(reply)
        sides.append(Side(reply, static, judge, listing(answer, notes_on(static, judge), own) if answer else None))
    return Card(pair.reply, sides, pair.plain_user)


def _families_in_turn(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs with families taking turns, so that the first few show as many families as they can."""
    families: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        families[pair.reply.family].append(pair)
    return in_turn(families.values())


def _surprises(pairs: Sequence[Pair]) -> list[Surprise]:
    kinds: dict[str, Callable[[Reply], bool]] = {
        "Triggered, but no payload": lambda r: r.condition is Condition.TRIGGERED and r.hit is False,
        "Payload without the trigger": lambda r: r.condition is not Condition.TRIGGERED and r.hit is True,
        "Unscored": lambda r: r.hit is None,
    }
    found = {title: [pair for pair in pairs if is_one(pair.reply)] for title, is_one in kinds.items()}
    return [Surprise(title, some[:MOST_OF_A_KIND], len(some)) for title, some in found.items()]


def _outcomes(results: Results) -> list[str]:
    """Names of the outcomes that replies have, those of code that was run first."""
    found = sorted({name for counts in results.outcomes.values() for name in counts})
    return [str(name) for name in dict.fromkeys([*Outcome, *found]) if name in found]


def flat(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested settings, the names dotted, in words."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)


def environment(own_filters: Mapping[str, Callable[..., str]] = MappingProxyType({})) -> "Environment":
    """What pages are made with: all that they print is escaped, and what is hidden in it made visible."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("ostensible", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "percent": words.percent,
        "interval": words.interval,
        "points": words.points,
        "points_interval": words.points_interval,
        "number": words.number,
        "above": words.above,
        "coefficient": words.coefficient,
        "duration": words.duration,
        "size": words.size,
        "roc_path": curves.path,
    }
    made.filters.update(filters | dict(own_filters))
    return made


def _finalize(value: Any) -> Any:
    """Make hidden characters visible in all that the template prints; markup of our own has been through this."""
    return words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _marked(segments: Sequence[str]) -> Markup:
    """Escape segments of a text and wrap every second one in `<mark>`."""
    made = (Markup("<mark>{}</mark>").format(one) if i % 2 else escape(one) for i, one in enumerate(segments))
    return Markup("").join(made)
