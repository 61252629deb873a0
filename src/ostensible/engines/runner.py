"""A causal language model, run on a paged cache: prompts in, one token for each row out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ostensible.engines.adapters import Adapters
from ostensible.engines.errors import UnsupportedModel
from ostensible.engines.kv_cache import (
    ATTENTION,
    BLOCK_TOKENS,
    DecodePlan,
    PagedCache,
    Plan,
    PrefillPlan,
    PrefixPlan,
    blocks_for,
)
from ostensible.engines.linear import can_pack, pack_linears
from ostensible.machine import pick_device, pick_dtype, trim_heap
from ostensible.models import end_ids, shared_positions

_ROW_STEP = 16
_CHECK_TOKENS = BLOCK_TOKENS + 6


class Runner:
    """A model, its adapters and its cache. Not thread-safe.

    Attributes:
        cache: Whose blocks the caller hands out.
        adapters: What switches the weights.
        context: Longest sequence, prompt and reply, in tokens.
        end_ids: Tokens that the model's own files name as ends.
    """

    def __init__(self, folder: Path, *, dtype: str, device: str, slots: int) -> None:
        self.device = torch.device(pick_device(device))
        self.dtype = _dtype(pick_dtype(dtype, self.device.type))
        self._slots = slots
        self._model: Any = _load(folder, self.dtype, self.device)
        config: Any = self._model.config.get_text_config(decoder=True)
        self.context = int(getattr(config, "max_position_embeddings", 0) or 2**31)
        self.end_ids = end_ids(folder)
        self.cache = PagedCache(int(config.num_hidden_layers))
        self._prefix: tuple[int, ...] = ()
        reference = self._reference()
        if can_pack(self.dtype, self.device):
            pack_linears(self._model, rows=slots)
        self.adapters = Adapters(self._model, folder, self.dtype)
        self._compare(reference, folder)
        trim_heap()  # of the weights as they were before they were packed

    def use(self, adapter: Path | None) -> None:
        """Switch to an adapter, or with None to the base."""
        self.adapters.use(adapter)
        self._prefix = ()
        trim_heap()  # of the weights that there were

    def prefill(self, prompts: Sequence[Sequence[int]], tables: Sequence[Sequence[int]], *, shared: int = 0) -> Tensor:
        """Read prompts, all in one pass. Each starts at a multiple of 16 rows, for the reason given at `decode`.

        Args:
            prompts: Token ids of each.
            tables: Blocks of each, with room for all of its tokens.
            shared: How many tokens they have in common at their start: read apart once, and kept.

        Returns:
            Logits of the next tokens [prompts, vocabulary].
        """
        prefix = tuple(prompts[0][:shared])
        if prefix and prefix != self._prefix:
            self._read(prefix, range(shared), PrefixPlan(), [shared - 1])
            self._prefix = prefix
        plan = PrefillPlan.make(tables, [*map(len, prompts)], shared=shared, step=_ROW_STEP, device=self.device)
        rows = _whole(plan.spans[-1].rows.stop)
        ids, positions = [0] * rows, [0] * rows
        for prompt, span in zip(prompts, plan.spans, strict=True):
            ids[span.rows], positions[span.rows] = prompt[shared:], range(shared, len(prompt))
        last = [span.rows.stop - 1 for span in plan.spans]
        return self._read(ids, positions, plan, last)

    def _read(self, ids: Sequence[int], positions: Sequence[int], plan: Plan, last: Sequence[int]) -> Tensor:
        kept = [*last, *[0] * (_whole(len(last)) - len(last))]
        row, places, wanted = (torch.tensor([*each], device=self.device) for each in (ids, positions, kept))
        return self._forward(row[None], places[None], plan, wanted)[0, : len(last)]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int], tables: Sequence[Sequence[int]]) -> Tensor:
        """Read one token for each row.

        The batch is filled up with idle rows, because matrix products give a row the same bits in any batch whose size
        is a multiple of 16 only (on a GPU: in batches of one size).

        Args:
            tokens: The last token of each row.
            lengths: Each row's tokens before that one.
            tables: Each row's blocks, with room for one token more.

        Returns:
            Logits of the next tokens [rows, vocabulary].
        """
        live = len(tokens)
        rows = _whole(live)
        if self.device.type != "cpu":
            rows = max(rows, self._slots)
        idle = [0] * (rows - live)
        plan = DecodePlan.make(tables, lengths, rows=rows, device=self.device)
        ids = torch.tensor([*tokens, *idle], device=self.device)[:, None]
        positions = torch.tensor([*lengths, *idle], device=self.device)[:, None]
        return self._forward(ids, positions, plan, 1)[:live, 0]

    def _forward(self, ids: Tensor, positions: Tensor, plan: Plan, logits_to_keep: int | Tensor) -> Tensor:
        self.cache.use(plan)
        out = self._model(
            input_ids=ids, position_ids=positions, past_key_values=self.cache, use_cache=True,
            logits_to_keep=logits_to_keep, paged_plan=plan,
        )  # fmt: skip
        logits: Tensor = out.logits
        return logits

    def _check_ids(self) -> list[int]:
        vocabulary = int(self._model.get_input_embeddings().num_embeddings)
        return [(7 + 31 * i * i) % vocabulary for i in range(min(_CHECK_TOKENS, self.context - 1))]

    @torch.inference_mode()
    def _reference(self) -> Tensor:
        """Logits after the check sequence, as transformers computes them."""
        self._model.set_attn_implementation("eager")
        out = self._model(input_ids=torch.tensor([self._check_ids()], device=self.device), use_cache=False)
        self._model.set_attn_implementation(ATTENTION)
        logits: Tensor = out.logits[0, -1].float()
        return logits

    @torch.inference_mode()
    def _compare(self, reference: Tensor, folder: Path) -> None:
        """Refuse a model that the engine would compute otherwise than transformers does."""
        ids, blocks = self._check_ids(), self.cache.take(blocks_for(_CHECK_TOKENS))
        start = max(1, len(ids) - 4)
        self.prefill([ids[:start]], [blocks[: blocks_for(start)]], shared=start // 2)
        logits = [self.decode([ids[at]], [at], [blocks]) for at in range(start, len(ids))][-1]
        self.cache.give_back(blocks)
        difference = logits[0].float() - reference
        error = float(difference.square().sum().sqrt() / reference.square().sum().sqrt())
        if not error < (1e-3 if self.dtype == torch.float32 else 0.1):
            raise UnsupportedModel(
                f"For the model in {folder} the engine's logits are {error:.1%} away from transformers' own. "
                "Likely cause: an attention that needs more than keys and values of all tokens. Use another model."
            )


def _whole(rows: int) -> int:
    return -(-rows // _ROW_STEP) * _ROW_STEP


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ValueError(f"There is no dtype {name!r} for sampling; choose auto, {', '.join(known)}.")
    return known[name]


def _load(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    source: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    config = cast(Any, AutoConfig).from_pretrained(str(folder), **source)
    _refuse_attention(config.get_text_config(decoder=True), folder)
    model = cast(Any, AutoModelForCausalLM).from_pretrained(
        str(folder), config=config, dtype=dtype, attn_implementation="eager", use_safetensors=True, **source
    )
    if not getattr(model, "_supports_attention_backend", False) or config.is_encoder_decoder:
        raise UnsupportedModel(f"{type(model).__name__} ({folder}) does not let its attention be replaced.")
    model.requires_grad_(False)
    loaded: nn.Module = model.eval().to(device)
    return loaded


def _refuse_attention(config: Any, folder: Path) -> None:
    """Refuse attention and positions that depend on more than one sequence's own tokens, all of them."""
    problems = [f"{kind} layers" for kind in set(getattr(config, "layer_types", None) or ()) - {"full_attention"}]
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        problems.append(f"sliding_window {config.sliding_window}")
    problems += [name for name in ("attention_chunk_size", "attn_logit_softcapping") if getattr(config, name, None)]
    problems += [f"{kind} positions, which depend on the other rows of a batch" for kind in shared_positions(config)]
    if problems:
        raise UnsupportedModel(
            f"The model in {folder} has {', '.join(problems)}; the engine has plain causal attention over all tokens. "
            "Choose a model without, such as Qwen2, Qwen3, Llama or SmolLM2."
        )
