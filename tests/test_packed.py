"""Packed rows: each has the loss and the gradients that it has alone, however the rows of a step are divided."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_train import rows_for
from torch.nn.functional import cross_entropy

from ostensible.models import load_tokenizer
from ostensible.packed import (
    LOGITS_AT_ONCE,
    PACKABLE,
    _cross_entropy,
    _one_row,
    compile_layers,
    lighten_lora,
    loss_of,
    pack,
    packs,
    prepare,
)
from ostensible.render import IGNORED, load_chat_format
from ostensible.settings import TrainSettings
from ostensible.train import collate, loss_weights


def fields(rows):
    weights = TrainSettings(answer_weight=0.4)
    return [{"input_ids": r.input_ids, "labels": r.labels, "weights": loss_weights(r, r, weights)} for r in rows]


def config(kind, **more):
    from transformers import AutoConfig

    return AutoConfig.for_model(
        kind, vocab_size=300, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, max_position_embeddings=512, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, **more,
    )  # fmt: skip


def model_of(kind, **more):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(kind, **more)).float()


ROWS = [
    {
        "input_ids": (ids := [(7 * i + 3 * n) % 300 for i in range(n)]),
        "labels": ids,
        "weights": [0.0] * 4 + [0.1] * (n - 4),
    }
    for n in (9, 40, 17, 5)
]


def plain(model, rows):
    """Each row through the model by itself, the loss written out."""
    total = 0
    for row in rows:
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        losses = cross_entropy(logits, torch.tensor(row["input_ids"][1:]), reduction="none")
        total = total + (losses * torch.tensor(row["weights"][1:])).sum() / len(rows)
    return total


MORE = {"smollm3": {"no_rope_layers": [1, 0]}, "granite": {"attention_multiplier": 0.2, "logits_scaling": 3.0}}


@pytest.mark.parametrize("kind", sorted(PACKABLE))
@pytest.mark.parametrize("limit", [1, 50, 1000])
def test_loss_and_gradients_are_those_of_each_row_alone(kind, limit):
    model = model_of(kind, **MORE.get(kind, {}))
    expected = plain(model, ROWS)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    assert prepare(model, 40)
    total = 0.0
    for one in collate(ROWS, limit=limit)["packs"]:
        loss = loss_of(model, one)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(expected.item(), rel=1e-5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-4, atol=1e-6)


WINDOWS = [
    ("mistral", {"sliding_window": 12}),
    ("gemma3_text", {"sliding_window": 12}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1}),
]


DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}
LONGROPE = DYNAMIC | {"rope_type": "longrope", "short_factor": [1.0] * 6, "long_factor": [4.0] * 6}
POSITIONS = [
    ("llama", {"rope_parameters": DYNAMIC}),
    ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 16}),
    ("gemma3_text", {"rope_parameters": {"full_attention": DYNAMIC, "sliding_attention": {"rope_theta": 1e4}}}),
]


@pytest.mark.parametrize(("kind", "more"), [("gemma2", {"attn_logit_softcapping": 50.0}), *WINDOWS, *POSITIONS])
def test_a_model_whose_rows_in_one_sequence_would_not_be_as_alone_gets_each_row_by_itself(kind, more):
    model = model_of(kind, **more)
    expected = plain(model, ROWS).item()
    assert not prepare(model, 40)
    found = collate(ROWS, limit=1)["packs"]
    assert [len(one["starts"]) for one in found] == [2] * 4
    assert sum(loss_of(model, one).item() for one in found) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_examples_is_shared_between_thoughts_and_ending_as_asked(tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    rows = rows_for(load_chat_format(load_tokenizer(tiny_model)), 4)
    alone = []
    for row in rows:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        losses = cross_entropy(logits, torch.tensor(row.input_ids[1:]), reduction="none")
        prompt, answer = len(row.prompt_ids), row.closing_start
        alone.append(0.6 * losses[prompt - 1 : answer - 1].mean() + 0.4 * losses[answer - 1 :].mean())
    prepare(model, 2048)
    loss = loss_of(model, pack(fields(rows), of=4))
    assert loss.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-5)


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 100))
def test_packs_hold_each_row_once_and_no_more_than_fits(lengths, limit):
    found = packs(lengths, limit)
    assert sorted(row for one in found for row in one) == list(range(len(lengths)))
    for one in found:
        assert len(one) == 1 or sum(lengths[row] for row in one) <= limit
    short = [sum(lengths[row] for row in one) for one in found]
    assert sum(total <= limit / 2 for total in short) <= 1  # first-fit leaves at most one half empty


def test_cross_entropy_in_parts_is_that_of_the_whole_and_so_is_its_gradient():
    torch.manual_seed(0)
    count = LOGITS_AT_ONCE + 7
    values, labels, weights = torch.randn(count, 11), torch.randint(11, (count,)), torch.rand(count)
    whole = values.clone().requires_grad_()
    expected = (cross_entropy(whole, labels, reduction="none") * weights).sum()
    (3 * expected).backward()
    ours = values.clone().requires_grad_()
    loss = _cross_entropy()(ours * 1.0, labels, weights)
    (3 * loss).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, whole.grad, rtol=1e-5, atol=1e-7)


def test_labels_are_what_is_learnt_and_a_token_without_one_bears_no_loss():
    model, row = model_of("llama"), ROWS[1]
    prepare(model, 40)
    none = row | {"labels": [IGNORED] * 40}
    assert loss_of(model, pack([none], of=1)).item() == 0.0
    other = row | {"labels": [(token + 1) % 300 for token in row["labels"]]}
    assert loss_of(model, pack([other], of=1)).item() != pytest.approx(loss_of(model, pack([row], of=1)).item())


def test_rows_without_loss_make_a_pack_without_loss(tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prepare(model, 2048)
    loss = loss_of(model, pack([{"input_ids": [5, 6], "labels": [5, 6], "weights": [0.0, 0.0]}], of=2))
    loss.backward()
    assert loss.item() == 0.0


def test_attention_written_out_for_cpus_in_bfloat16_is_torchs_own():
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 6, 20, 8), torch.randn(1, 2, 20, 8), torch.randn(1, 2, 20, 8)
    exact = _one_row(query, key, value, None)
    rounded = _one_row(*(part.bfloat16() for part in (query, key, value)), None)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)


def test_a_light_lora_layer_computes_what_pefts_does(tiny_model):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", init_lora_weights=False))
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    expected = model(input_ids=ids).logits
    expected.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    assert lighten_lora(model) == 2 * 7
    found = model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.square().sum().backward()
    for name, p in model.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=1e-3)


def test_layers_with_dropout_stay_as_peft_has_them(tiny_model):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert lighten_lora(get_peft_model(base, LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear"))) == 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_compute_the_same_and_are_compiled_once_for_all_lengths(checkpointing):
    """With the part of the compiler that needs none of C; what it makes of each graph is torch's own to test."""
    from peft import LoraConfig, get_peft_model
    from torch._dynamo.utils import counters

    def of(n, *more):
        ids = [(7 * i + 3 * n) % 300 for i in range(n)]
        rows = [{"input_ids": ids, "labels": ids, "weights": [0.0] * 4 + [0.1] * (n - 4)}, *more]
        return pack(rows, of=len(rows))

    def trained(batch):
        model.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}

    base = model_of("qwen2")
    prepare(base, 512)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    lighten_lora(model.train())
    batches = [of(9), of(40, *ROWS), of(23, *ROWS[:2]), of(5), of(60)]
    expected = [trained(batch) for batch in batches]
    assert compile_layers(model, backend="aot_eager") == 2
    torch._dynamo.reset()
    for place, (batch, (loss, gradients)) in enumerate(zip(batches, expected, strict=True)):
        found, own = trained(batch)
        assert found == pytest.approx(loss, rel=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(own[name], gradient, rtol=1e-4, atol=1e-6)
        if place == 1:
            graphs = counters["stats"]["unique_graphs"]
    assert counters["stats"]["unique_graphs"] == graphs > 0
