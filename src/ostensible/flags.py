"""Settings from flat names, as the command line and files of sweeps give them."""

from collections.abc import Mapping

from pydantic import ValidationError

from ostensible import organisms, user_code
from ostensible.errors import BadSettings, UnknownName
from ostensible.organisms.foreign import PROMPTS
from ostensible.settings import PARTS, Foreign, Recipe, Settings, problems


def names() -> tuple[str, ...]:
    """Names of all settings of a run, its organism aside."""
    own = [
        name
        for name in Settings.model_fields
        if name not in PARTS and name not in ("organism", "defined_in", "foreign")
    ]
    return (*own, *(name for part in PARTS.values() for name in part.model_fields))


def build(organism: str, given: Mapping[str, object]) -> Settings:
    """Build a run's settings: what is given, over what its organism is built with when nothing is.

    Args:
        organism: Its name, or `path.py:NAME` of one of the user's own.
        given: Values by flat name, such as `{"seed": 1, "learning_rate": 1e-3}`.

    Raises:
        UnknownName: There is no such organism or setting; the message lists those there are.
        BadData, BadOrganism: The user's own cannot be used.
        BadSettings: A value is impossible.
    """
    found = organisms.find(organism)
    tree = {"organism": found.name, "prompts": found.prompts}
    if user_code.is_named(organism):
        tree["defined_in"] = organism
    return _build(tree, found.recipe, given)


def build_foreign(name: str, foreign: Foreign, given: Mapping[str, object]) -> Settings:
    """Build the settings of a run that evaluates an organism from elsewhere; raises as `build` does."""
    return _build({"organism": name, "prompts": PROMPTS, "foreign": foreign}, Recipe(), given)


def _build(tree: Mapping[str, object], recipe: Recipe, given: Mapping[str, object]) -> Settings:
    if unknown := [name for name in given if name not in names()]:
        raise UnknownName(f"There is no setting {unknown[0]!r}. Settings: {', '.join(names())}.")
    tree = dict(tree) | {name: value for name, value in given.items() if name in Settings.model_fields}
    for part, kind in PARTS.items():
        own: dict[str, object] = getattr(recipe, part, kind()).model_dump()
        tree[part] = own | {name: value for name, value in given.items() if name in own}
    try:
        settings = Settings.model_validate(tree, strict=True)
    except ValidationError as error:
        raise BadSettings(f"Impossible settings: {problems(error)}.") from error
    organisms.of(settings)  # its organism may not have the thoughts that are asked for
    return settings
