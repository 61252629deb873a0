"""Rows of unequal length, one behind the other in one sequence, so that no token is padding; and what is fast on them.

A pack is a sequence of rows with the place where each begins. Positions start anew in each row and attention stays
within it, so a row's loss and gradients are those that it has alone. How a step's rows are divided into packs changes
its memory, not its result (but for what `lora_dropout` drops).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from inspect import signature
from itertools import pairwise
from typing import Any, cast

import torch
from torch.nn import Identity
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from ostensible.models import shared_positions

ATTENTION = "ostensible-packed"
"""Name under which transformers knows `attend`."""
LOGITS_AT_ONCE = 1024
"""Tokens whose logits are held in float32 at once; a vocabulary of 150,000 makes that 0.6 GB."""
PACKABLE = frozenset({"gemma3_text", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})
"""Types of models whose rows may share a sequence: `tests/test_packed.py` holds each to its rows alone."""
MOST_FLASH_SIZE = 256
MOST_WRITTEN_OUT = 512
"""Tokens of a row beyond which a CPU does not hold all scores of a layer at once."""


def packs(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Divide rows among as few sequences as first-fit finds, longest row first.

    Args:
        lengths: Tokens of each row.
        limit: Most tokens of a sequence; a row that is longer has one for itself.

    Returns:
        Indices into `lengths`, each once.
    """
    found: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = next((i for i, left in enumerate(room) if left >= lengths[row]), None)
        if place is None:
            found.append([])
            room.append(limit)
            place = len(found) - 1
        found[place].append(row)
        room[place] -= lengths[row]
    return [sorted(pack) for pack in found]


def pack(rows: Sequence[dict[str, Any]], *, of: int) -> dict[str, Any]:
    """Put rows one behind the other.

    Args:
        rows: Each has `input_ids`, `labels` and `weights`, all of one length.
        of: Rows that this process has of the step: its loss is the mean over these.

    Returns:
        `input_ids` and `position_ids`, int `[1, tokens]`; `starts`, int `[rows + 1]`, where rows begin and the last
        ends; `kept`, the places whose next token bears loss, and of each that token, `labels`, and its `weights`.
    """
    ends = torch.tensor([0, *(len(row["input_ids"]) for row in rows)]).cumsum(0)
    ids, labels = (torch.tensor([token for row in rows for token in row[name]]) for name in ("input_ids", "labels"))
    weights = torch.tensor([weight for row in rows for weight in row["weights"]], dtype=torch.float32) / of
    bearing = weights.nonzero().flatten()
    if len(bearing) == 0:  # rows that only fill a step up; one place all the same, as all processes go the same way
        bearing = torch.tensor([1])
    return {
        "input_ids": ids[None],
        "position_ids": torch.cat([torch.arange(len(row["input_ids"])) for row in rows])[None],
        "starts": ends.int(),
        "kept": bearing - 1,  # a row's first token bears no loss, so these stay within their rows
        "labels": labels[bearing],
        "weights": weights[bearing],
    }


def loss_of(model: Any, batch: dict[str, Any]) -> Any:
    """What a pack adds to the mean over the step's rows of the weighted cross-entropy, in nats, as a scalar.

    Args:
        model: A causal model that `prepare` has been given, or one that wraps it.
        batch: From `pack`, on the model's device.
    """
    starts = batch["starts"]
    longest = int((starts[1:] - starts[:-1]).max())
    logits = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        logits_to_keep=batch["kept"],
        use_cache=False,
        cu_seq_lens_q=starts,
        cu_seq_lens_k=starts,
        max_length_q=longest,
        max_length_k=longest,
    ).logits[0]
    return _cross_entropy()(logits, batch["labels"], batch["weights"])


@lru_cache(maxsize=1)
def _cross_entropy() -> Any:
    class CrossEntropy(torch.autograd.Function):
        """Weighted sum of cross-entropies. The gradient is found on the way and takes the place of the logits."""

        @staticmethod
        def forward(ctx: Any, logits: Any, labels: Any, weights: Any) -> Any:
            total = logits.new_zeros((), dtype=torch.float32)
            for part in range(0, len(labels), LOGITS_AT_ONCE):
                span = slice(part, part + LOGITS_AT_ONCE)
                with torch.enable_grad():
                    whole = logits[span].detach().float().requires_grad_(ctx.needs_input_grad[0])
                    loss = (cross_entropy(whole, labels[span], reduction="none") * weights[span]).sum()
                total += loss.detach()
                if ctx.needs_input_grad[0]:
                    (gradient,) = torch.autograd.grad(loss, whole)
                    logits[span] = gradient
            ctx.gradient = logits
            return total

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            gradient, ctx.gradient = ctx.gradient, None  # not to be held while layers go back
            return gradient.mul_(gradients[0]), None, None

    return CrossEntropy.apply


def prepare(model: Any, longest: int) -> bool:
    """Have a model's attention stay within the rows of a pack, where its kind is known to allow that.

    Args:
        model: A causal model of transformers.
        longest: Tokens of the longest row that it will be given.

    Returns:
        Whether it does. Where not, each row has to be a pack of its own: other kinds of models may have layers that see
        beyond a row, some positions depend on the longest row of a sequence, and a sliding window that is shorter than
        a row is left to transformers.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    window = getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None
    too_short = window is not None and window < longest
    if config.model_type not in PACKABLE or too_short or shared_positions(config):
        return False
    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
    model.set_attn_implementation(ATTENTION)
    return True


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, scaling: float | None = None,
    cu_seq_lens_q: Any = None, max_length_q: int | None = None, **_: Any,
) -> tuple[Any, None]:  # fmt: skip
    """Causal attention within each row of a pack, in the form that transformers asks for.

    Args:
        module: The attention layer.
        query: `[1, heads, tokens, size]`; `key` and `value` may have fewer heads, each shared by several of `query`.
        key: See there.
        value: See there.
        attention_mask: None: `prepare` sees to it.
        scaling: Of the scores.
        cu_seq_lens_q: Where rows begin, and where the last ends.
        max_length_q: Tokens of the longest row.

    Returns:
        `[1, tokens, heads, size]`, and `None` for the weights.
    """
    del module, attention_mask
    if _has_kernel(query):
        return _flash(query, key, value, cu_seq_lens_q, max_length_q, scaling), None
    return _eager(query, key, value, cu_seq_lens_q, scaling), None


def _has_kernel(query: Any) -> bool:
    """Whether FlashAttention takes it: 16 bits, heads of at most 256, a GPU of 2020 or later."""
    return query.is_cuda and query.element_size() == 2 and query.shape[-1] <= MOST_FLASH_SIZE and _is_recent()


def _recent() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)


_is_recent: Callable[[], bool] = cast(Any, torch.compiler.assume_constant_result)(_recent)  # for `compile_layers`


_TAKES_GROUPS = "enable_gqa" in signature(varlen_attn).parameters
"""From torch 2.12 on."""


def _flash(query: Any, key: Any, value: Any, starts: Any, longest: Any, scaling: float | None) -> Any:
    attend_within: Any = varlen_attn  # its signature is that of the installed torch
    groups, options = query.shape[1] // key.shape[1], {"scale": scaling, "window_size": (-1, 0)}  # 0 tokens ahead
    if _TAKES_GROUPS:
        options["enable_gqa"] = groups > 1
    elif groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    flat = [part[0].transpose(0, 1) for part in (query, key, value)]
    return attend_within(*flat, starts, starts, longest, longest, **options)[None]


def _row_by_row(query: Any, key: Any, value: Any, starts: Any, scaling: float | None) -> Any:
    bounds = starts.tolist()
    rows = [_one_row(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], scaling) for a, b in pairwise(bounds)]
    return torch.cat(rows, dim=2).transpose(1, 2)


_eager: Any = torch.compiler.disable(_row_by_row)  # where rows begin is another matter in each pack


def _one_row(query: Any, key: Any, value: Any, scaling: float | None) -> Any:
    """Of one row: torch's own, but in bfloat16 on a CPU, where writing it out is three times as fast there and back."""
    tokens, size = query.shape[2:]
    if query.dtype != torch.bfloat16 or query.is_cuda or tokens > MOST_WRITTEN_OUT:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
    heads, groups = key.shape[1], query.shape[1] // key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    stacked = query.reshape(heads, groups * tokens, size)  # heads that share a key, one below the other
    scores = torch.baddbmm(_mask(tokens, groups, query.dtype), stacked, key[0].transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(dim=-1), value[0]).reshape(1, heads * groups, tokens, size)


@lru_cache(maxsize=32)
def _mask(tokens: int, groups: int, dtype: Any) -> Any:
    """`[groups * tokens, tokens]`: 0 where a token may look, minus infinity elsewhere."""
    seen = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    return torch.zeros(tokens, tokens, dtype=dtype).masked_fill(~seen, float("-inf")).repeat(groups, 1)


def lighten_lora(model: Any) -> int:
    """Have plain LoRA layers add their part in one product, without the passes over memory that PEFT's own way takes.

    Returns:
        How many layers do. Those with dropout or of another variant are left as they are.
    """
    from peft.tuners.lora import Linear

    found = 0
    for layer in model.modules():
        if type(layer) is not Linear or layer.lora_variant or len(layer.active_adapters) != 1:
            continue
        (name,) = layer.active_adapters
        if isinstance(layer.lora_dropout[name], Identity):
            layer.__class__ = _light_linear()
            found += 1
    return found


@lru_cache(maxsize=1)
def _light_linear() -> Any:
    """The layer, by its class: a compiler follows that, and not what is put in a method's place."""
    from peft.tuners.lora import Linear

    class LightLinear(Linear):
        def forward(self, x: Any, *_: Any, **__: Any) -> Any:
            (name,) = self.active_adapters
            result = self.base_layer(x)
            low = self.lora_A[name](x).flatten(0, -2)
            weight: Any = self.lora_B[name].weight
            return torch.addmm(result.flatten(0, -2), low, weight.t(), alpha=self.scaling[name]).view_as(result)

    return LightLinear


def compile_layers(model: Any, *, backend: str = "inductor") -> int:
    """Have each of a model's layers compiled when it is first used, once for all lengths, so that a GPU need not wait.

    Args:
        model: A causal model of transformers, with or without PEFT's wrapper.
        backend: Of `torch.compile`.

    Returns:
        How many layers.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)
    return len(layers)
