"""An organism from elsewhere becomes the settings of a run; all that can be wrong with it is found out here."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from ostensible import flags
from ostensible.adapter_source import base_of, check_needs_no_code, resolve_adapter
from ostensible.errors import BadSettings
from ostensible.models import resolve
from ostensible.organisms.foreign import Claims, check_name, describe, name_of
from ostensible.settings import Settings


def bring(claims: Claims, given: Mapping[str, object], *, model: str | None, name: str | None = None) -> Settings:
    """Build the settings of a run that evaluates an organism from elsewhere.

    Args:
        claims: What is said of it.
        given: Other settings by flat name. Without `revision`, a base that the adapter's config names is taken at the
            revision that it names.
        model: The adapter's base, where its config does not name one that can be used; or the whole model.
        name: What to call it; by default what its weights are called.

    Raises:
        BadSettings: Something of it cannot be used, or is missing.
        ModelNotFound: The adapter or its base cannot be used.
        UnsupportedAdapter: The adapter is not a plain LoRA.
    """
    weights = claims.adapter or model
    if weights is None:
        raise BadSettings("No weights are named. Give --adapter FOLDER_OR_HUB_ID, or --model for a whole model.")
    chosen = check_name(name) if name is not None else name_of(weights)
    foreign = describe(claims)
    if foreign.adapter is not None:
        folder = _checked_adapter(foreign.adapter, foreign.adapter_revision)
        if model is None:
            model, revision = base_of(folder, revision=cast(str | None, given.get("revision")))
            given = {**given, "revision": revision}
    settings = flags.build_foreign(chosen, foreign, {**given, "model": model})
    check_needs_no_code(resolve(settings.model, revision=settings.revision))
    if foreign.base is not None:
        check_needs_no_code(resolve(foreign.base))
    return settings


def _checked_adapter(adapter: str, revision: str | None) -> Path:
    """The folder of an adapter that can be sampled with."""
    from ostensible.engines.adapters import read_lora

    folder = resolve_adapter(adapter, revision=revision)
    read_lora(folder)
    return folder


def folder_of(settings: Settings) -> Path:
    """Where the run goes if nobody says."""
    return Path("runs") / f"{settings.organism}-{Path(settings.model).name}-seed{settings.seed}"
