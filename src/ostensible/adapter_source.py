"""Adapter name -> a local folder in PEFT's format, and the base model that it was trained on.

Nothing that could run code is read: weights come from safetensors only, and an adapter or model that needs Python code
of its own is refused.
"""

from pathlib import Path
from typing import Any, cast

from ostensible.errors import CorruptModel, ModelNotFound, OstensibleError
from ostensible.models import EMBEDDED, check_safetensors, fetch, is_embedded, is_hub_id, read_config, resolve
from ostensible.paths import named

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "pytorch_model.bin")


def resolve_adapter(name: str, *, revision: str | None = None) -> Path:
    """Find an adapter's folder, fetching it once where needed.

    Args:
        name: A local folder, or a hub id such as `org/name`.
        revision: Of a hub id: a branch, tag or commit.

    Raises:
        ModelNotFound: It is not here and cannot be fetched, is no adapter, is pickled, or needs code of its own.
        CorruptModel: Its weights are damaged or cut off.
    """
    folder = named(name)
    if folder and folder.is_dir():
        return _checked(folder.resolve())
    if not is_hub_id(name):
        raise ModelNotFound(
            f"There is no adapter folder {name!r}. Give a folder that holds {CONFIG} and {WEIGHTS}, or a hub id such "
            "as org/name."
        )
    patterns = [CONFIG, WEIGHTS]
    return _checked(fetch(name, revision, patterns, advice="Choose a local folder with --adapter."))


def base_of(adapter: Path, *, revision: str | None = None) -> tuple[str, str | None]:
    """The base model that an adapter's config names, which can be used from here, and its branch, tag or commit.

    Args:
        adapter: Its folder.
        revision: To use rather than the one that the config names.

    Raises:
        ModelNotFound: It names none, or one that is neither here nor to be fetched.
    """
    config = _config(adapter)
    named, pinned = config.get("base_model_name_or_path"), config.get("revision")  # in PEFT, both are of the base
    if not isinstance(named, str) or not named.strip():
        raise ModelNotFound(f"{adapter / CONFIG} names no base model. Give it: --model FOLDER_OR_HUB_ID.")
    if is_embedded(named):
        return EMBEDDED, revision
    if revision is None and isinstance(pinned, str) and pinned.strip():
        revision = pinned
    try:
        resolve(named, revision=revision)
    except OstensibleError as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ModelNotFound(
            f"The base model that {adapter / CONFIG} names, {named!r}{at}, cannot be used: {error} "
            "If you have it under another name or elsewhere, give that: --model FOLDER_OR_HUB_ID."
        ) from error
    return named, revision


def check_needs_no_code(folder: Path) -> None:
    """See that a model folder is of a kind that transformers has code for.

    Raises:
        ModelNotFound: It brings code of its own, which is never run.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = read_config(folder / "config.json")
    kind: Any = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        own = "needs Python code of its own (auto_map)" if "auto_map" in config else "is of a kind that is not known"
        raise ModelNotFound(
            f"{folder} {own}: model_type {kind!r} is none that this version of transformers has code for. Code that "
            "comes with weights is never run. Use a newer transformers, or a model of another kind."
        )


def _checked(folder: Path) -> Path:
    config = _config(folder)
    if not (folder / WEIGHTS).is_file():
        pickled = [name for name in PICKLED if (folder / name).is_file()]
        found = f"only {pickled[0]}, which" if pickled else "no weights that can be used: a pickled file"
        raise ModelNotFound(
            f"{folder} has no {WEIGHTS} but {found} can run code when it is read, and is not. Convert it on a machine "
            "that you can lose: PeftModel.from_pretrained(...).save_pretrained(folder, safe_serialization=True)."
        )
    check_safetensors(folder / WEIGHTS)
    mapping: Any = config.get("auto_mapping") or {}
    if not isinstance(mapping, dict):
        raise CorruptModel(
            f"auto_mapping in {folder / CONFIG} is {mapping!r}, no object. It is damaged: fetch it again."
        )
    library = str(cast(dict[str, Any], mapping).get("parent_library") or "transformers")
    if library.partition(".")[0] != "transformers" or "transformers_modules" in library:
        raise ModelNotFound(
            f"{folder} was trained on a model whose code is in {library!r}, not in transformers. Code that comes with "
            "weights is never run."
        )
    return folder


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        hint = (
            " It is a whole model: give it with --model, and leave --adapter out." * (folder / "config.json").is_file()
        )
        raise ModelNotFound(f"{folder} is no adapter: it has no readable {CONFIG}.{hint}")
    return read_config(folder / CONFIG)
