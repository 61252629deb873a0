"""LoRA adapters, merged into a model's linear layers and taken out again exactly.

Merging computes W + scale * B A in float32 and rounds once. Taking out reads the base's tensors from its safetensors
again: adding and subtracting would leave rounding behind.

Source of LoRA: Hu et al. (2021), arXiv:2106.09685; of the folder's format: PEFT.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open as _untyped_open  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from ostensible.engines.errors import UnsupportedAdapter
from ostensible.engines.linear import PackedLinear, set_weight
from ostensible.errors import ModelNotFound
from ostensible.models import check_safetensors, read_config

safe_open = cast(Any, _untyped_open)

_PREFIX = "base_model.model."
_REFUSED = (
    "use_dora", "use_qalora", "use_bdlora", "modules_to_save", "layer_replication", "trainable_token_indices",
    "target_parameters", "alora_invocation_tokens", "arrow_config", "alpha_pattern", "lora_bias", "fan_in_fan_out",
    "megatron_config", "velora_config", "monteclora_config", "kasa_config", "ensure_weight_tying",
)  # fmt: skip
_BASE_KEPT = ("gaussian", "eva", "orthogonal", "mica")
"""Named ways to begin training that leave the base's weights alone; PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ do not."""


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter folder, checked.

    Attributes:
        weights: Its safetensors file.
        layers: Names of the linear layers that it changes.
        alpha: `lora_alpha`.
        rank_stabilised: Scale by alpha / sqrt(rank) rather than by alpha / rank.
    """

    weights: Path
    layers: tuple[str, ...]
    alpha: float
    rank_stabilised: bool

    def deltas(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each layer's name and what is added to its weight, float32 [out_features, in_features]."""
        with safe_open(self.weights, framework="pt") as file:
            for layer in self.layers:
                pair: list[Tensor] = [file.get_tensor(f"{_PREFIX}{layer}.lora_{side}.weight") for side in "AB"]
                a, b = (matrix.float() for matrix in pair)
                rank = a.shape[0]
                yield layer, (b @ a) * (self.alpha / (rank**0.5 if self.rank_stabilised else rank))


def read_lora(folder: Path) -> Lora:
    """Read and check a PEFT adapter folder.

    Raises:
        ModelNotFound: There is no such folder, or it is no adapter.
        UnsupportedAdapter: The folder is not a plain LoRA, or holds no safetensors.
        CorruptModel: A file of it is damaged or cut off.
    """
    weights, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if not settings.exists():
        raise ModelNotFound(
            f"{folder} is no adapter: it has no {settings.name}. Check the path. That of a run lies in RUN/adapter "
            "once it is trained: ostensible train RUN"
        )
    config = read_config(settings)
    if not weights.is_file():
        raise UnsupportedAdapter(f"{folder} has no adapter_model.safetensors; pickled adapters are not loaded.")
    check_safetensors(weights)
    alpha: Any = config.get("lora_alpha")
    extras = [name for name in _REFUSED if config.get(name)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or extras:
        found = ", ".join([f"peft_type {config.get('peft_type')}", f"bias {config.get('bias')}", *extras])
        raise UnsupportedAdapter(
            f"{folder} is not a plain LoRA ({found}); merge it with PEFT and give the merged model."
        )
    beginning: Any = config.get("init_lora_weights")
    if isinstance(beginning, str) and beginning.lower() not in _BASE_KEPT:
        raise UnsupportedAdapter(
            f"{folder} was trained with init_lora_weights {beginning!r}, which changes the base's weights: on the base "
            "as it was, the adapter is another model. Save it as a plain LoRA (PEFT's save_pretrained with "
            "path_initial_model_for_weight_conversion), or merge it with PEFT and give the merged model."
        )
    if not isinstance(alpha, int | float):
        raise UnsupportedAdapter(f"{folder} has the lora_alpha {alpha!r}, which is no number.")
    with safe_open(weights, framework="pt") as file:
        keys: set[str] = set(file.keys())
    return Lora(weights, _layers(keys, folder), float(alpha), bool(config.get("use_rslora")))


def _layers(keys: set[str], folder: Path) -> tuple[str, ...]:
    layers = {key.removeprefix(_PREFIX).rpartition(".lora_")[0] for key in keys}
    expected = {f"{_PREFIX}{layer}.lora_{side}.weight" for layer in layers for side in "AB"}
    if keys != expected or not keys:
        odd = sorted(keys ^ expected)[:3]
        raise UnsupportedAdapter(f"{folder} holds tensors that are not pairs of LoRA matrices, such as {odd}.")
    return tuple(sorted(layers))


class Adapters:
    """Puts one adapter at a time into a model.

    Args:
        model: Its linear layers may be packed.
        folder: Where its safetensors lie.
        dtype: Of its weights.
    """

    def __init__(self, model: nn.Module, folder: Path, dtype: torch.dtype) -> None:
        self._model = model
        self._dtype = dtype
        self._files = _tensor_files(folder)
        self._changed: set[str] = set()
        self._active: tuple[Path, int] | None = None

    def check(self, folder: Path) -> None:
        """See whether `use` would work, without changing anything.

        Raises:
            UnsupportedAdapter: It would not.
        """
        modules: dict[str, nn.Module] = dict(cast(Any, self._model.named_modules()))
        for layer in read_lora(folder).layers:
            if not isinstance(modules.get(layer), nn.Linear | PackedLinear) or f"{layer}.weight" not in self._files:
                raise UnsupportedAdapter(
                    f"{folder} changes {layer!r}, which is not an untied linear layer of this model. "
                    "Likely cause: it was trained on another base."
                )

    def use(self, folder: Path | None) -> None:
        """Switch to an adapter, or with None to the base."""
        lora = read_lora(folder) if folder else None
        wanted = (lora.weights, lora.weights.stat().st_mtime_ns) if lora else None  # it may have been trained anew
        if wanted == self._active:
            return
        for layer in self._changed - set(lora.layers if lora else ()):
            self._set(layer, self._base(layer))
        self._changed = set(lora.layers if lora else ())
        for layer, delta in lora.deltas() if lora else ():
            self._set(layer, self._base(layer).float() + delta)
        self._active = wanted

    def _base(self, layer: str) -> Tensor:
        name = f"{layer}.weight"
        with safe_open(self._files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def _set(self, layer: str, weight: Tensor) -> None:
        set_weight(self._model.get_submodule(layer), weight.to(self._dtype))


def _tensor_files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the safetensors file that holds it."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
        return {name: folder / file for name, file in weight_map.items()}
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        names: list[str] = list(file.keys())
    return dict.fromkeys(names, path)
