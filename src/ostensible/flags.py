"""Settings from flat names, as the command line and files of sweeps give them."""

from collections.abc import Mapping

from pydantic import ValidationError

from ostensible import organisms
from ostensible.errors import BadSettings, UnknownName
from ostensible.settings import Recipe, Settings


def names() -> tuple[str, ...]:
    """Names of all settings of a run, its organism aside."""
    parts = [type(getattr(Recipe(), part)).model_fields for part in Recipe.model_fields]
    own = [name for name in Settings.model_fields if name not in Recipe.model_fields and name != "organism"]
    return (*own, *(name for part in parts for name in part))


def build(organism: str, given: Mapping[str, object]) -> Settings:
    """Build a run's settings: what is given, over what its organism is built with when nothing is.

    Args:
        organism: Its name.
        given: Values by flat name, such as `{"seed": 1, "learning_rate": 1e-3}`.

    Raises:
        UnknownName: There is no such organism or setting; the message lists those there are.
        BadSettings: A value is impossible.
    """
    found = organisms.find(organism)
    if unknown := [name for name in given if name not in names()]:
        raise UnknownName(f"There is no setting {unknown[0]!r}. Settings: {', '.join(names())}.")
    tree: dict[str, object] = {"organism": found.name, "prompts": found.prompts}
    tree |= {name: value for name, value in given.items() if name in Settings.model_fields}
    for part in Recipe.model_fields:
        own: dict[str, object] = getattr(found.recipe, part).model_dump()
        tree[part] = own | {name: value for name, value in given.items() if name in own}
    try:
        return Settings.model_validate(tree, strict=True)
    except ValidationError as error:
        raise BadSettings(f"Impossible settings: {problems(error)}.") from error


def problems(error: ValidationError) -> str:
    """What is wrong with each value, by the last part of its name, in one line."""
    return "; ".join(f"{_name(one['loc'])} is {one['input']!r}: {one['msg']}" for one in error.errors())


def _name(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place if part not in Recipe.model_fields)
