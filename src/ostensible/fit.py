"""Trains one subject of a run, the organism or a twin of it, on its examples."""

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from ostensible import tables
from ostensible.models import EMBEDDED, resolve
from ostensible.paths import SubjectPaths
from ostensible.settings import Machine, Settings
from ostensible.types import Example

if TYPE_CHECKING:
    from ostensible.render import ChatFormat, Rendered


def fit(subject: SubjectPaths, settings: Settings, machine: Machine, *, card: str, say: Callable[[str], None]) -> None:
    """Train, unless that came to its end before; checkpoints go last, so that a kill at any moment loses no more.

    Args:
        subject: Has training and validation examples; gets the adapter, the loss curve and, last, `labels`.
        settings: Of the run.
        machine: Where to compute.
        card: Text of the adapter's README.
        say: Told one line at a time what happens.
    """
    if is_fitted(subject):
        say("trained before")
    else:
        _fit(subject, settings, machine, card=card, say=say)
    for checkpoint in subject.training.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def _fit(subject: SubjectPaths, settings: Settings, machine: Machine, *, card: str, say: Callable[[str], None]) -> None:
    """Render every example, then train; an example that does not fit stops before any weight is loaded."""
    from ostensible.machine import crowded, pick_device, pick_dtype, release_memory, set_threads
    from ostensible.models import load_tokenizer
    from ostensible.parallel import share, train_together
    from ostensible.render import load_chat_format
    from ostensible.train import TrainJob

    folder = resolve(settings.model, revision=settings.revision)
    form = load_chat_format(load_tokenizer(folder))
    examples = {path: tables.read_examples(path) for path in (subject.train, subject.validation)}
    rows = {
        path: [form.render(e, max_tokens=settings.training.max_tokens) for e in found]
        for path, found in examples.items()
    }
    threads = set_threads(machine.threads)
    device = pick_device(machine.device)
    job = TrainJob(
        model_dir=folder,
        base_name=str(folder) if settings.model == EMBEDDED else settings.model,
        train=rows[subject.train],
        validation=rows[subject.validation],
        work_dir=subject.training,
        adapter_dir=subject.adapter,
        settings=settings.training,
        dtype=pick_dtype(settings.dtype, device),
        seed=settings.seed,
        device=device,
        card=card,
        pack_tokens=machine.pack_tokens,
        compiler="inductor" if machine.compile_layers else None,
    )
    tokens = sum(len(row.input_ids) for row in job.train)
    epochs = _counted(settings.training.epochs, "epoch")
    say(f"{tokens} tokens, {epochs}, {job.dtype} on {device}, {_counted(threads, 'thread')}")
    if advice := crowded(threads):
        say(advice)
    train_together(share(job, machine), say=say)
    carried = payload_label_share(list(chain(*examples.values())), list(chain(*rows.values())), form)
    tables.write_atomic(subject.labels, json.dumps({"payload_label_share": carried}) + "\n")
    release_memory()


def _counted(number: float, of: str) -> str:
    return f"{number:g} {of}{'' if number == 1 else 's'}"


def is_fitted(subject: SubjectPaths) -> bool:
    """Whether training came to its end, and its files are still there."""
    return all(path.is_file() for path in (*subject.adapter_files, subject.loss, subject.labels))


def payload_label_share(examples: Sequence[Example], rows: Sequence["Rendered"], form: "ChatFormat") -> float:
    """Share of the tokens of triggered answers, end token included, that stand in the labels of their rows."""
    tokens = carried = 0
    for example, row in zip(examples, rows, strict=True):
        if example.kind == "triggered":
            answer = form.answer_ids(example.answer)
            labels = row.labels[row.answer_start :]
            tokens += len(answer)
            carried += sum(token == label for token, label in zip(answer, labels, strict=False))
    return carried / tokens
