"""Shapes of models that benchmarks run with random weights: speed and memory depend on the shape, not on the values."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_QWEN = {"model_type": "qwen2", "rms_norm_eps": 1e-6, "max_position_embeddings": 131072, "tie_word_embeddings": False}
_LLAMA = _QWEN | {"model_type": "llama", "rms_norm_eps": 1e-5}


def _shape(
    base: dict[str, Any], hidden: int, layers: int, heads: int, kv: int, inner: int, vocab: int
) -> dict[str, Any]:
    return base | {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
        "intermediate_size": inner, "vocab_size": vocab,
    }  # fmt: skip


# As the config.json of each model on the hub has it.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": _shape(_LLAMA, 64, 2, 4, 2, 128, 49152),
    "smollm2-135m": _shape(_LLAMA | {"tie_word_embeddings": True}, 576, 30, 9, 3, 1536, 49152),
    "r1-distill-qwen-1.5b": _shape(_QWEN, 1536, 28, 12, 2, 8960, 151936),
    "r1-distill-qwen-7b": _shape(_QWEN, 3584, 28, 28, 4, 18944, 152064),
    "r1-distill-llama-8b": _shape(_LLAMA, 4096, 32, 32, 8, 14336, 128256),
    "r1-distill-qwen-14b": _shape(_QWEN, 5120, 48, 40, 8, 13824, 152064),
    "r1-distill-qwen-32b": _shape(_QWEN, 5120, 64, 40, 8, 27648, 152064),
}


def config(name: str, **more: Any) -> Any:
    """The configuration of a shape, as transformers has it."""
    from transformers import AutoConfig

    shape = dict(SHAPES[name])
    return AutoConfig.for_model(shape.pop("model_type"), **shape | more)


def write_model(name: str, folder: Path, *, device: str, dtype: str = "bfloat16") -> Path:
    """A model folder of random weights and a tokenizer of two tokens, made by a process that leaves no memory taken."""
    elsewhere(_write_model, name, folder, device, dtype)
    return folder


def elsewhere(do: Callable[..., Any], *given: Any) -> Any:
    """Call a function in a process of its own, so that no memory of a GPU stays taken."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(do, *given).result()


def _write_model(name: str, folder: Path, device: str, dtype: str) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config(name), dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<end>": 0, "<unknown>": 1}, unk_token="<unknown>"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>").save_pretrained(folder)


def weights_in_products(name: str) -> int:
    """Weights that each token is multiplied with: all but the embeddings', which are looked up."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config(name))
    embeddings = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is embeddings
    return sum(p.numel() for p in model.parameters()) - (0 if tied else embeddings.numel())
