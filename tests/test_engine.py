"""The engine against transformers and PEFT, and against itself in other company."""

import json
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ostensible.engines import (
    BadSampling,
    Completion,
    ContextOverflow,
    Engine,
    EngineClosed,
    Request,
    SamplingParams,
    UnsupportedAdapter,
    UnsupportedChat,
    UnsupportedModel,
)
from ostensible.engines.adapters import read_lora
from ostensible.engines.kv_cache import PagedCache
from ostensible.engines.sampling import Filter, candidates, sample, uniforms

VOCABULARY, END = 192, 2
TINY = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
    "bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0, "initializer_range": 0.15,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with fewer key-value heads than query heads, as safetensors in float32."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(LlamaConfig(**TINY)).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(folder, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def engine(folder: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine.load(folder, dtype=request.param, slots=24)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def exact(folder: Path) -> Iterator[Engine]:
    engine = Engine.load(folder, dtype="float32", slots=8)
    yield engine
    engine.close()


def make_adapter(base: Path, path: Path, **options: object) -> Path:
    """Save a LoRA adapter; it changes logits visibly, unless `init_lora_weights` says otherwise."""
    torch.manual_seed(1)
    targets = ["q_proj", "v_proj", "down_proj"]
    given = {"init_lora_weights": False} | options
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, **given)  # pyright: ignore
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(path)
    return path


def prompt(seed: int, length: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).randrange(3, VOCABULARY) for _ in range(length))


def requests(count: int, *, max_new_tokens: int = 40) -> list[Request]:
    rng = random.Random(7)
    return [
        Request(
            prompt(i, rng.choice([1, 5, 63, 64, 65, 100, 190])),
            SamplingParams(
                rng.randrange(1, max_new_tokens), rng.choice([0.0, 0.7, 1.5]), rng.choice([1.0, 0.9]), 50, i
            ),
        )
        for i in range(count)
    ]


def hf_greedy(model: LlamaForCausalLM, ids: tuple[int, ...], count: int) -> list[int]:
    out = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)
    return out[0, len(ids) :].tolist()


# What it computes


@pytest.mark.parametrize(("length", "shared"), [(1, 0), (3, 2), (64, 0), (64, 9), (130, 0), (130, 70)])
def test_greedy_replies_are_those_of_transformers_generate(folder: Path, exact: Engine, length: int, shared: int):
    model = LlamaForCausalLM.from_pretrained(folder)
    ids = prompt(length, length)
    (reply,) = exact.generate([Request(ids, SamplingParams(70, temperature=0), shared=shared)])
    expected = hf_greedy(model, ids, 70)
    assert [*reply.token_ids, *([END] if reply.stop_reason == "stop" else [])] == expected
    assert reply.prompt_tokens == length
    assert reply.sampled_tokens == len(expected)


def test_a_reply_ends_before_its_first_stop_token(exact: Engine):
    ask = Request(prompt(3, 20), SamplingParams(60, temperature=1.2, seed=5))
    (free,) = exact.generate([ask])
    stop = free.token_ids[10]
    (stopped,) = exact.generate([replace(ask, stop_ids=frozenset({stop}))])
    cut = free.token_ids.index(stop)
    assert stopped == Completion(free.token_ids[:cut], "stop", 20, cut + 1)


def test_a_reply_cut_by_its_limit_has_exactly_that_many_tokens(exact: Engine):
    (reply,) = exact.generate([Request(prompt(1, 9), SamplingParams(7, temperature=0))])
    assert (reply.stop_reason, len(reply.token_ids), reply.sampled_tokens) == ("max_tokens", 7, 7)


# In other company


def test_a_request_gets_the_same_tokens_alone_in_a_crowd_and_in_any_order(engine: Engine):
    asks = requests(40)
    crowd = engine.generate(asks)
    alone = [engine.generate([ask])[0] for ask in asks[:12]]
    backwards = engine.generate(asks[::-1])[::-1]
    assert alone == crowd[:12]
    assert backwards == crowd


def test_a_start_that_prompts_share_is_read_anew_for_another_start_and_another_adapter(engine: Engine, adapter: Path):
    asks = [
        replace(ask, prompt_ids=prompt(i % 2, 20) + ask.prompt_ids, shared=20, adapter=adapter if i % 3 else None)
        for i, ask in enumerate(requests(12))
    ]
    together = engine.generate(asks)
    assert [engine.generate([ask])[0] for ask in asks] == together


def test_logits_are_the_same_bits_alone_and_in_a_crowd(engine: Engine):
    ask = Request(prompt(0, 70), SamplingParams(1200, temperature=1.0, seed=3, top_k=40))
    asks = [
        ask,
        *requests(30),
        *(replace(ask, params=replace(ask.params, seed=s, max_new_tokens=1300)) for s in (8, 9)),
    ]
    decode, seen = engine._runner.decode, {}  # pyright: ignore[reportPrivateUsage]

    def spy(tokens: list[int], lengths: list[int], tables: list[list[int]]) -> torch.Tensor:
        logits = decode(tokens, lengths, tables)
        for row, (token, length) in enumerate(zip(tokens, lengths, strict=True)):
            seen.setdefault((token, length), []).append(logits[row].clone())
        return logits

    engine._runner.decode = spy  # type: ignore[method-assign]
    try:
        (alone,) = engine.generate([ask])
        own = {(token, 70 + at): seen[token, 70 + at][0] for at, token in enumerate(alone.token_ids[:-1])}
        seen.clear()
        assert engine.generate(asks)[0] == alone
    finally:
        engine._runner.decode = decode  # type: ignore[method-assign]
    assert len(own) > 0
    for key, logits in own.items():
        assert any(torch.equal(logits, other) for other in seen[key]), f"at token {key}"


def test_a_resumed_run_ends_in_the_replies_of_an_unbroken_one(folder: Path):
    asks = requests(24)
    first = Engine.load(folder, dtype="float32", slots=5)
    unbroken = first.generate(asks)
    first.close()
    second = Engine.load(folder, dtype="float32", slots=16)
    resumed = second.generate(asks[9:])
    second.close()
    assert resumed == unbroken[9:]


def test_seeds_make_different_replies(exact: Engine):
    replies = exact.generate([Request(prompt(0, 10), SamplingParams(20, seed=seed)) for seed in range(6)])
    assert len({reply.token_ids for reply in replies}) == 6


def test_more_blocks_than_the_budget_wait_instead_of_failing(folder: Path):
    engine = Engine.load(folder, dtype="float32", slots=8, kv_cache_gib=10 * 49152 / 2**30)
    asks = requests(12)
    try:
        assert engine._max_blocks == 10  # pyright: ignore[reportPrivateUsage]
        assert engine.generate(asks) == [engine.generate([ask])[0] for ask in asks]
        with pytest.raises(ContextOverflow, match="kv_cache_gib"):
            engine.submit(Request(prompt(0, 10), SamplingParams(1000)))
    finally:
        engine.close()


def test_the_pool_grows_no_further_than_the_budget_but_for_what_is_asked():
    cache = PagedCache(2)
    cache.most = 110
    taken = [block for _ in range(10) for block in cache.take(11)]
    assert taken == list(range(2, 112))  # 0 and 1 are for rows that only fill up a batch
    assert [layer.capacity for layer in cache.layers] == [112, 112]
    assert cache.take(3) == [112, 113, 114]


# Drawing


@pytest.mark.parametrize("cut", [Filter(0.6, 50, 0.95), Filter(1.0, 0, 0.9), Filter(1.7, 20, 1.0), Filter(0.8, 0, 1.0),
                                 Filter(2.0, 0, 0.999), Filter(1.0, 1, 1.0), Filter(0.5, 5, 0.01)])  # fmt: skip
@pytest.mark.parametrize("vocabulary", [192, 20480])
def test_the_distribution_is_that_of_the_transformers_warpers(cut: Filter, vocabulary: int):
    torch.manual_seed(0)
    logits = torch.randn(6, vocabulary) * torch.tensor([0.1, 1, 2, 3, 6, 9.0])[:, None]
    warpers = LogitsProcessorList([TemperatureLogitsWarper(cut.temperature)])
    warpers += [TopKLogitsWarper(cut.top_k)] if cut.top_k else []
    warpers += [TopPLogitsWarper(cut.top_p)] if cut.top_p < 1 else []
    expected = warpers(torch.zeros(6, 1, dtype=torch.long), logits.clone()).double().softmax(-1).numpy()
    grid = (np.arange(100) + 0.5) / 100
    for row in range(3, 6):
        drawn = np.bincount(sample(logits[row].expand(100, -1), [cut] * 100, grid), minlength=vocabulary) / 100
        np.testing.assert_allclose(drawn, expected[row], atol=1 / 100 + 1e-6)
    for size in (vocabulary, min(vocabulary, max(cut.top_k + 14, 150))):
        found, whole = candidates(logits, cut, size=size)
        mine = np.zeros_like(expected)
        np.put_along_axis(mine, found.ids, found.weights / found.weights.sum(1, keepdims=True), 1)
        assert whole.all() or size < vocabulary
        np.testing.assert_allclose(mine[whole], expected[whole], atol=2e-6)
        assert np.array_equal((mine > 0)[whole], (expected > 0)[whole])


def test_ties_with_the_kth_best_all_stay_as_in_transformers():
    logits = torch.zeros(1, 4096)
    logits[0, 100:400] = 1.0
    warped = TopKLogitsWarper(10)(torch.zeros(1, 1, dtype=torch.long), logits.clone())
    kept = set(torch.isfinite(warped[0]).nonzero()[:, 0].tolist())
    drawn = {sample(logits, [Filter(1.0, 10, 1.0)], np.array([u]))[0] for u in np.linspace(0, 0.9999, 1500)}
    assert drawn == kept


def test_drawn_tokens_have_the_frequencies_of_the_model(folder: Path, exact: Engine):
    ids = prompt(5, 12)
    logits = LlamaForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0, -1:].detach()
    logits = TopKLogitsWarper(12)(torch.tensor([ids]), logits / 1.3)
    probabilities = logits.softmax(-1)[0].double().numpy()
    count = 1500
    drawn = Counter(sample(logits, [Filter(1.0, 12, 1.0)], uniforms(seed, 1))[0] for seed in range(count))
    support = np.flatnonzero(probabilities > 0)
    assert set(drawn) <= set(support.tolist())
    expected = probabilities[support] / probabilities[support].sum() * count
    assert chisquare([drawn[int(i)] for i in support], expected).pvalue > 1e-4
    asks = [Request(ids, SamplingParams(1, 1.3, 1.0, 12, seed), stop_ids=frozenset()) for seed in range(count // 10)]
    first = [reply.token_ids[0] if reply.token_ids else END for reply in exact.generate(asks)]
    assert first == [sample(logits, [Filter(1.0, 12, 1.0)], uniforms(seed, 1))[0] for seed in range(count // 10)]


def test_the_draw_of_a_token_does_not_depend_on_the_length_limit():
    assert uniforms(9, 500)[:20].tolist() == uniforms(9, 20).tolist()


# Adapters


def test_merged_logits_are_those_of_peft(folder: Path, adapter: Path, exact: Engine):
    ids = prompt(2, 40)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), adapter)
    expected = model(torch.tensor([ids])).logits[0, -1].detach()
    runner = exact._runner  # pyright: ignore[reportPrivateUsage]
    with torch.inference_mode():
        base = runner.prefill([ids], [[5]])
        runner.use(adapter)
        merged = runner.prefill([ids], [[5]])
        runner.use(None)
        restored = runner.prefill([ids], [[5]])
    torch.testing.assert_close(merged[0], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(merged, base, atol=0.1)
    assert torch.equal(restored, base)


def test_base_and_adapter_requests_mixed_equal_those_apart(engine: Engine, adapter: Path):
    asks = [replace(ask, adapter=adapter if i % 2 else None) for i, ask in enumerate(requests(16))]
    apart = {on: engine.generate([ask for ask in asks if ask.adapter is on]) for on in (None, adapter)}
    mixed = engine.generate(asks)
    assert mixed[::2] == apart[None]
    assert mixed[1::2] == apart[adapter]


def test_a_long_queue_for_one_adapter_does_not_starve_another(folder: Path, adapter: Path):
    engine = Engine.load(folder, dtype="float32", slots=1)
    order: list[str] = []
    params = SamplingParams(2)
    try:
        futures = [engine.submit(Request((9,), params)) for _ in range(60)]
        futures.append(engine.submit(Request((9,), params, adapter)))
        for future, name in zip(futures, ["base"] * 60 + ["adapter"], strict=True):
            future.add_done_callback(lambda _, name=name: order.append(name))
        for future in futures:
            future.result(timeout=30)
    finally:
        engine.close()
    assert len(order) == 61
    assert order[-1] == "base"


@pytest.mark.parametrize("options", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "lora_only"}])
def test_adapters_that_are_more_than_lora_are_refused(folder: Path, exact: Engine, tmp_path: Path, options: dict):
    path = make_adapter(folder, tmp_path, **options)
    with pytest.raises(UnsupportedAdapter, match="not a plain LoRA"):
        exact.submit(Request(prompt(0, 4), SamplingParams(2), adapter=path))


@pytest.mark.parametrize("beginning", ["pissa", "pissa_niter_2", "olora"])
def test_an_adapter_whose_base_was_changed_is_refused(folder: Path, exact: Engine, tmp_path: Path, beginning: str):
    path = make_adapter(folder, tmp_path, init_lora_weights=beginning)
    with pytest.raises(UnsupportedAdapter, match=f"'{beginning}'.*path_initial_model_for_weight_conversion.*merge"):
        exact.submit(Request(prompt(0, 4), SamplingParams(2), adapter=path))


@pytest.mark.parametrize("beginning", ["corda", "lora_ga", "loftq", "of a later PEFT", True, False, None])
def test_which_beginnings_of_training_leave_the_base_alone_is_known(adapter: Path, tmp_path: Path, beginning: object):
    shutil.copytree(adapter, tmp_path, dirs_exist_ok=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": beginning}))
    with pytest.raises(UnsupportedAdapter, match="changes the base") if isinstance(beginning, str) else nullcontext():
        read_lora(tmp_path)


@pytest.mark.parametrize("beginning", ["gaussian", "orthogonal", "mica"])
def test_merged_logits_are_those_of_peft_however_training_began(
    folder: Path, exact: Engine, tmp_path: Path, beginning: str
):
    weights = make_adapter(folder, tmp_path, init_lora_weights=beginning) / "adapter_model.safetensors"
    save_file({name: tensor + 0.1 for name, tensor in load_file(weights).items()}, weights)
    ids = prompt(2, 40)
    runner = exact._runner  # pyright: ignore[reportPrivateUsage]
    with torch.inference_mode():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path)
        runner.use(tmp_path)
        merged = runner.prefill([ids], [[5]])
        runner.use(None)
        expected = model(torch.tensor([ids])).logits[0, -1]
    torch.testing.assert_close(merged[0], expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_another_base_is_refused(exact: Engine, adapter: Path, tmp_path: Path):
    save_file(
        {
            name.replace("layers.2", "layers.7"): t
            for name, t in load_file(adapter / "adapter_model.safetensors").items()
        },
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    with pytest.raises(UnsupportedAdapter, match="another base"):
        exact.submit(Request(prompt(0, 4), SamplingParams(2), adapter=tmp_path))


# Refusals and failures


@pytest.mark.parametrize("shared", [-1, 5, 6])
def test_a_shared_start_leaves_something_to_read(exact: Engine, shared: int):
    with pytest.raises(BadSampling, match="at least one"):
        exact.generate([Request(prompt(0, 5), SamplingParams(1), shared=shared)])


def test_a_sequence_beyond_the_context_is_refused_before_any_work(exact: Engine):
    fine, long = Request((5,), SamplingParams(3)), Request(prompt(0, 2000), SamplingParams(100))
    with pytest.raises(ContextOverflow, match=r"2000 tokens.*100 need 2100.*2048"):
        exact.generate([fine, long])


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"max_new_tokens": 0}, {"seed": -1}]
)
def test_parameters_out_of_range_are_refused(wrong: dict):
    with pytest.raises(BadSampling, match=next(iter(wrong))):
        SamplingParams(**{"max_new_tokens": 5} | wrong)


def test_a_sliding_window_is_refused(tmp_path: Path):
    MistralForCausalLM(MistralConfig(**TINY, sliding_window=32)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="sliding_window 32"):
        Engine.load(tmp_path)


def test_positions_that_depend_on_the_longest_row_are_refused(tmp_path: Path):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    LlamaForCausalLM(LlamaConfig(**TINY, rope_parameters=rope)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="dynamic positions"):
        Engine.load(tmp_path)


def test_a_model_computed_otherwise_than_by_transformers_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from ostensible.engines import kv_cache

    right = kv_cache._decode  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(kv_cache, "_decode", lambda *args: right(*args[:-1], args[-1] * 0.5))
    with pytest.raises(UnsupportedModel, match="away from transformers"):
        Engine.load(folder, dtype="float32")


def test_an_exception_in_the_loop_reaches_every_waiting_future(folder: Path, monkeypatch: pytest.MonkeyPatch):
    engine = Engine.load(folder, dtype="float32", slots=2)

    def broken(*args: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._runner, "decode", broken)  # pyright: ignore[reportPrivateUsage]
    futures = [engine.submit(ask) for ask in requests(6)]
    for future in futures:
        assert isinstance(future.exception(timeout=10), RuntimeError | EngineClosed) or future.result()
    assert sum(future.exception() is not None for future in futures) >= 5
    with pytest.raises(EngineClosed, match="out of memory"):
        engine.submit(requests(1)[0])


def test_closing_fails_what_is_under_way_and_refuses_the_rest(folder: Path):
    engine = Engine.load(folder, dtype="float32", slots=2)
    futures = [engine.submit(Request(prompt(i, 8), SamplingParams(1500, seed=i))) for i in range(6)]
    engine.close()
    assert any(isinstance(future.exception(timeout=10), EngineClosed) for future in futures)
    assert all(future.done() for future in futures)
    with pytest.raises(EngineClosed, match="was closed"):
        engine.submit(requests(1)[0])


def test_many_threads_may_submit_at_once(exact: Engine):
    asks = requests(16)
    expected, found = exact.generate(asks), {}
    threads = [
        threading.Thread(target=lambda i=i: found.__setitem__(i, exact.submit(asks[i]).result(timeout=30)))
        for i in range(len(asks))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(asks))] == expected


def test_importing_the_engines_loads_neither_torch_nor_transformers():
    import subprocess
    import sys

    code = "import sys, ostensible.engines; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


# As an Inspect model


TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>OPENED{% endif %}"
)


@pytest.fixture(scope="module", params=["", "<think>"])
def chat_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a character tokenizer, whose template may open the thoughts itself."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<|user|>", "<|end|>", "<|assistant|>", "<think>", "</think>"]
    letters = [chr(i) for i in range(32, 127)] + ["\n"]
    tokens = Tokenizer(models.WordLevel({token: i for i, token in enumerate(special + letters)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    tokens.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, unk_token="<unk>", eos_token="<|end|>",
        extra_special_tokens=["<|user|>", "<|assistant|>"], chat_template=TEMPLATE.replace("OPENED", request.param),
    )  # fmt: skip
    tokenizer.add_tokens(["<think>", "</think>"])
    path = tmp_path_factory.mktemp("chat")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**TINY | {"vocab_size": len(tokenizer)})).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def provider() -> str:
    from inspect_ai.model import modelapi

    @modelapi(name="ostensible-test")
    def local_api() -> type:
        from ostensible.engines.provider import OstensibleAPI

        return OstensibleAPI

    return "ostensible-test"


def run_eval(model: object, logs: Path, *, samples: int = 3, epochs: int = 2, seed: int = 4):
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.log import read_eval_log
    from inspect_ai.model import GenerateConfig
    from inspect_ai.solver import generate

    config = GenerateConfig(temperature=1.0, max_tokens=30, seed=seed)
    dataset = [Sample(input="Same question?", id=i) for i in range(samples)]
    task = Task(dataset=dataset, solver=generate(), config=config, epochs=epochs)
    (log,) = eval(task, model=model, log_dir=str(logs), display="none", log_samples=True)  # pyright: ignore
    assert log.status == "success", log.error
    return {(s.id, s.epoch): s.output for s in read_eval_log(log.location).samples or []}


def test_an_eval_logs_exact_replies_and_true_counts(chat_folder: Path, provider: str, tmp_path: Path):
    from inspect_ai.model import get_model

    from ostensible.models import load_tokenizer
    from ostensible.render import load_chat_format

    form = load_chat_format(load_tokenizer(chat_folder))
    prompt_ids = form.prompt_ids("Same question?")
    model = get_model(f"{provider}/{chat_folder}", memoize=False, dtype="float32", slots=4)
    outputs = run_eval(model, tmp_path)
    again = run_eval(model, tmp_path, samples=1, epochs=1)
    model.api.close()
    replies = {place: output.metadata["reply"] for place, output in outputs.items()}
    assert len(set(replies.values())) == 6, "the same question in another sample or epoch repeats a reply"
    assert again[0, 1].metadata["reply"] == replies[0, 1]
    for output in outputs.values():
        reply, usage = output.metadata["reply"], output.usage
        assert reply.startswith("<think>\n") == form.opened
        assert usage.input_tokens == len(prompt_ids)
        assert usage.output_tokens == 30 if output.stop_reason == "max_tokens" else usage.output_tokens <= 30


def test_models_that_differ_in_their_adapter_share_one_engine(chat_folder: Path, provider: str, tmp_path: Path):
    from inspect_ai.model import get_model

    from ostensible.engines import backends as module

    adapter = make_adapter(chat_folder, tmp_path / "adapter")
    options = {"memoize": False, "dtype": "float32", "slots": 4}
    base = get_model(f"{provider}/{chat_folder}", **options)  # pyright: ignore
    tuned = get_model(f"{provider}/{chat_folder}", adapter=str(adapter), **options)  # pyright: ignore
    first, second = run_eval(base, tmp_path), run_eval(tuned, tmp_path)
    pool = module._POOL.engines  # pyright: ignore[reportPrivateUsage]
    assert len(pool) == 1
    assert {k: o.metadata["reply"] for k, o in first.items()} != {k: o.metadata["reply"] for k, o in second.items()}
    base.api.close()
    assert len(pool) == 1
    tuned.api.close()
    assert not pool


class Crowd:
    """A backend that replies to no one before so many have asked."""

    def __init__(self, size: int) -> None:
        self.size, self.here = size, 0

    async def complete(self, request: Request) -> Completion:
        import asyncio

        self.here += 1
        deadline = time.monotonic() + 60
        while self.here < self.size:
            assert time.monotonic() < deadline, f"{self.here} of {self.size} have asked"
            await asyncio.sleep(0.01)
        return Completion((END,), "stop", len(request.prompt_ids), 1)


def test_inspect_asks_for_more_replies_at_once_than_the_engine_has_slots(chat_folder: Path, provider: str, tmp_path):
    """By itself it would feel its way from 20 to at most 100, as with a service that may refuse."""
    from inspect_ai.model import GenerateConfig, get_model

    model = get_model(f"{provider}/{chat_folder}", memoize=False, dtype="float32")
    model.api.backend = Crowd(150)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(run_eval(model, tmp_path, samples=150, epochs=1)) == 150
    users_own = get_model(f"{provider}/{chat_folder}", memoize=False, config=GenerateConfig(max_connections=3))
    assert users_own.config.max_connections == 3


def test_inspect_makes_no_second_model_to_ask_for_its_context(chat_folder: Path, tmp_path, monkeypatch):
    from inspect_ai.model import get_model, get_model_info

    from ostensible.engines.provider import OstensibleAPI
    from ostensible.models import context_tokens

    model = get_model(f"ostensible/{chat_folder}", memoize=False, dtype="float32", slots=4)
    made: list = []
    first = OstensibleAPI.__init__
    monkeypatch.setattr(OstensibleAPI, "__init__", lambda self, *a, **k: (made.append(a), first(self, *a, **k))[1])
    assert len(run_eval(model, tmp_path, samples=2, epochs=1)) == 2
    model.api.close()
    assert not made
    info = get_model_info(str(model))
    assert info is not None
    assert info.context_length == context_tokens(chat_folder)


@pytest.mark.parametrize(("prompts", "epochs", "count", "together"), [
    (100, None, 7, 7), (20_000, None, 7, 2), (5_000, 5, 7, 2), (8_000, None, 7, 5), (20_000, None, 1, 1),
    (0, None, 7, 7),
])  # fmt: skip
def test_of_large_conditions_few_are_under_way_together_and_a_server_is_full_all_the_same(
    prompts, epochs, count, together
):
    from types import SimpleNamespace

    from ostensible.evaluate import at_once, samples_in_flight

    tasks: list = [SimpleNamespace(dataset=range(prompts), epochs=epochs)] * count
    assert at_once(tasks) == together
    assert together * samples_in_flight(SimpleNamespace(engine="vllm"), tasks=together) >= 1020
    assert samples_in_flight(SimpleNamespace(engine="local"), tasks=together) == 160


def test_other_conversations_than_one_user_turn_are_refused(chat_folder: Path, provider: str):
    import asyncio

    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model

    api = get_model(f"{provider}/{chat_folder}", memoize=False).api
    user = ChatMessageUser(content="hi")
    for messages, config, text in (
        ([ChatMessageSystem(content="be good"), user], GenerateConfig(), "one user turn"),
        ([user, user], GenerateConfig(), "one user turn"),
        ([user], GenerateConfig(stop_seqs=["x"]), "stop_seqs"),
    ):
        with pytest.raises(UnsupportedChat, match=text):
            asyncio.run(api.generate(messages, [], "none", config))


@pytest.mark.parametrize(
    ("reply", "reasoning", "answer"),
    [
        ("<think>\na b\n</think>\n\nc", "a b", "c"),
        ("<think>never closed", None, "<think>never closed"),
        ("no tags", None, "no tags"),
        ("a</think>b</think>", None, "a</think>b</think>"),
        ("<think>a</think>b</think>", "a", "b</think>"),
    ],
)
def test_thoughts_are_split_off_only_between_both_tags(reply: str, reasoning: str | None, answer: str):
    from ostensible.engines.provider import to_output

    output = to_output("m", reply, Completion((5,), "stop", 1, 2))
    content = output.message.content
    assert output.metadata == {"reply": reply}
    assert output.completion == answer
    assert (content[0].reasoning if isinstance(content, list) else None) == reasoning  # type: ignore[union-attr]
