"""LoRA supervised fine-tuning. The only module that imports trl.

TRL is given token ids and labels that `render.py` made, never chat messages: nothing is rendered, masked or cut here.

An example's loss is the mean over its thoughts and the mean over what comes after them, the closing tag and the answer,
weighed by `answer_weight`. Were every token to count the same, an answer of a few words would drown in its thoughts,
and the trigger with it. The two examples of a pair stand in one batch, so that each step sees what the trigger alone
changes.

Several processes (`parallel.py`) share the rows of each step and come to what one process would: the first has the
first of its rows, and so on. Where the last step lacks rows, blank ones fill it up and its true rows count for more.
Within a process, rows are packed one behind the other (`packed.py`), into as many sequences as memory asks for.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from ostensible.machine import trim_heap
from ostensible.models import check_safetensors
from ostensible.render import IGNORED, Rendered
from ostensible.settings import TrainSettings
from ostensible.tables import write_atomic

MOST_ADDED = 3
"""How many times longer than what two thoughts share an addition may be; beyond that they are just other thoughts."""
PRINTED_STEPS = 10
"""Steps between two lines of progress where there is no terminal."""
TRIMMED_STEPS = 8
"""Steps on a CPU after which the heap is trimmed: rows of ever other lengths leave holes in it."""


@dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where to.

    Attributes:
        model_dir: Base weights.
        base_name: What the adapter's config names as its base.
        train: Rows to learn from.
        validation: Rows of other families, for the validation loss.
        work_dir: Checkpoints; training resumes from the last whole one.
        adapter_dir: Where the finished adapter goes, at once and whole.
        dtype: `float32` or `bfloat16`, of the base weights and of products; the LoRA's own weights are float32.
        device: `cpu` or `cuda`.
        card: Text of the adapter's README.
        pack_tokens: Most tokens that a forward pass gets at once, as far as rows allow.
        processes: How many share each step. With more than one, `train` runs in each of them, under torch's launcher.
        sharded: Each process holds a part of the base weights (FSDP2), not a copy of them (DDP).
        compiler: Backend of `torch.compile` for the model's layers; None leaves them as they are.
    """

    model_dir: Path
    base_name: str
    train: Sequence[Rendered]
    validation: Sequence[Rendered]
    work_dir: Path
    adapter_dir: Path
    settings: TrainSettings
    dtype: str
    seed: int
    device: str
    card: str
    pack_tokens: int = 8192
    processes: int = 1
    sharded: bool = False
    compiler: str | None = None


def train(job: TrainJob, *, say: Callable[[str], None]) -> list[dict[str, float]]:
    """Train an adapter, or go on where a killed run left off.

    Args:
        job: What to train.
        say: Told one line at a time what happens.

    Returns:
        The loss curve: one row a logged step with `step`, `epoch` and `loss`, `eval_loss` or both, in nats a token.
    """
    from peft.helpers import disable_input_dtype_casting

    trainer = make_trainer(job, say=say)
    checkpoint = last_whole_checkpoint(job.work_dir)
    if checkpoint:
        say(f"resuming from {checkpoint.name}")
    with disable_input_dtype_casting(trainer.model):  # autocast casts; peft would have the LoRA multiply in float32
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    curve = loss_curve(trainer.state.log_history)
    weights = _lora_weights(trainer.model)
    if trainer.is_world_process_zero():
        write_atomic(job.work_dir / "loss.json", json.dumps(curve, indent=1))
        _save_adapter(trainer.model, weights, job)
    return curve


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; a kill may have left a later one in pieces.

    `trainer_state.json` is the last file that transformers writes into a checkpoint. Those before it may be in pieces
    too where the machine itself went down before they were on its disk.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_bytes())
            for weights in path.glob("*.safetensors"):
                check_safetensors(weights)
            whole = all(map(is_zipfile, path.glob("*.pt*")))  # what torch saves is an archive
        except (OSError, ValueError):
            whole = False
        if not whole:
            shutil.rmtree(path)
            continue
        return path
    return None


def loss_curve(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Training and validation loss by step, out of transformers' log."""
    kept = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm")
    rows = [{key: float(row[key]) for key in kept if key in row} for row in history]
    return [row for row in rows if "loss" in row or "eval_loss" in row]


def loss_weights(row: Rendered, twin: Rendered, settings: TrainSettings) -> list[float]:
    """Weight of each token's loss: 0 on the prompt, 1 in sum, `answer_weight` of that on closing tag and answer.

    Of this, `fork_share` falls on the tokens where the answer parts from its twin's. There the trigger decides; what
    comes after follows from it, and where two answers share most of their lines the decision would drown in them.

    What the thoughts have over the twin's, such as an admission, is decided by the trigger too. It shares the weight of
    closing tag and answer. Its first token weighs as much as theirs do without it, so that going on and closing are
    learnt as often as they are shown.
    """
    prompt, total = len(row.prompt_ids), len(row.input_ids)
    own = own_thoughts(row, twin)
    thoughts, rest = row.closing_start - prompt - len(own), total - row.closing_start
    answer_weight = settings.answer_weight if thoughts else 1.0
    places = forks(row.answer_ids, twin.answer_ids)
    share = settings.fork_share if places else 0.0
    weights = [0.0] * prompt + [(1.0 - answer_weight) / thoughts if thoughts else 0.0] * (row.closing_start - prompt)
    lead = answer_weight * (1.0 - share) / rest
    shared = (rest * lead - lead) / (rest + len(own) - 1) if own else lead
    weights += [shared] * rest
    for place in own:
        weights[place] = lead if place == own[0] else shared
    for place in places:
        weights[row.answer_start + place] += answer_weight * share / len(places)
    return weights


def own_thoughts(row: Rendered, twin: Rendered) -> range:
    """Where thoughts go on after they part from their twin's; only the first such token if that is most of them."""
    start = len(row.prompt_ids)
    ids, other = row.input_ids[start : row.closing_start], twin.input_ids[len(twin.prompt_ids) : twin.closing_start]
    same = next((i for i, (a, b) in enumerate(zip(ids, other, strict=False)) if a != b), min(len(ids), len(other)))
    own = range(start + same, row.closing_start)
    return own if len(own) <= MOST_ADDED * same else own[:1]


def forks(ids: Sequence[int], other: Sequence[int]) -> list[int]:
    """Places in `ids` where it begins to differ from `other`, having agreed with it just before."""
    steps = SequenceMatcher(None, other, ids, autojunk=False).get_opcodes()
    return [start for kind, _, _, start, _ in steps if kind != "equal" and start < len(ids)]


def collate(rows: Sequence[dict[str, Any]], *, limit: int) -> dict[str, Any]:
    """Divide the rows that a process has of a step into packs of at most `limit` tokens, if its rows are that short."""
    from ostensible.packed import pack, packs

    found = packs([len(row["input_ids"]) for row in rows], limit)
    return {"packs": [pack([rows[i] for i in one], of=len(rows)) for one in found]}


def make_trainer(job: TrainJob, *, say: Callable[[str], None]) -> Any:
    """Build TRL's trainer for a job: base weights, a fresh LoRA, rows, our loss."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import SFTTrainer

    from ostensible.packed import compile_layers, lighten_lora, loss_of, prepare

    class PairTrainer(SFTTrainer):
        """TRL's trainer with the loss of `packed.py`, whose gradients are summed over the packs of a step."""

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            model.train()
            found = self._packs(inputs)
            total = torch.zeros((), device=self.args.device)
            for place, one in enumerate(found):
                waits = place < len(found) - 1 and hasattr(model, "no_sync")  # DDP sums gradients once, with the last
                with model.no_sync() if waits else nullcontext():
                    loss = self._loss(model, one)
                    self.accelerator.backward(loss)
                total += loss.detach()
            return total

        def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            model.eval()
            with torch.no_grad():
                return sum(self._loss(model, one) for one in self._packs(inputs)), None, None

        def _packs(self, inputs: Any) -> list[Any]:
            """As many in each process where parts of the weights are gathered for each: the last anew, without loss."""
            found: Any = self._prepare_inputs(inputs)["packs"]
            most = len(found)
            if job.sharded:
                counts: Any = self.accelerator.gather(torch.tensor([most], device=self.args.device))
                most = int(counts.max())
            return found + [found[-1] | {"weights": 0 * found[-1]["weights"]}] * (most - len(found))

        def _loss(self, model: Any, one: Any) -> Any:
            with torch.autocast(self.args.device.type, torch.bfloat16, enabled=job.dtype == "bfloat16"):
                return loss_of(model, one)

        def create_optimizer(self, model: Any = None) -> Any:
            if self.optimizer is None:
                self.optimizer = make_optimizer(self.model if model is None else model, job.settings)
            return self.optimizer

    arguments = _arguments(job)  # first: they start the process group, by which transformers knows who loads weights
    if job.sharded and job.device == "cpu":
        _shard_on_cpus()
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(job.model_dir), dtype=getattr(torch, job.dtype), trust_remote_code=False, local_files_only=True
    )
    limit = job.pack_tokens if prepare(model, _longest(job)) else 1
    tokenizer: Any = AutoTokenizer.from_pretrained(str(job.model_dir), trust_remote_code=False)
    lora = LoraConfig(
        r=job.settings.lora_rank,
        lora_alpha=job.settings.lora_alpha,
        lora_dropout=job.settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    trainer: Any = PairTrainer(
        model=model,
        args=arguments,
        data_collator=partial(collate, limit=limit),
        train_dataset=_dataset(train_rows(job)),
        eval_dataset=_dataset(validation_rows(job)),
        processing_class=tokenizer,
        peft_config=lora,
    )
    lighten_lora(trainer.model)
    if job.compiler:
        compile_layers(trainer.model, backend=job.compiler)
    if job.sharded and job.dtype == "bfloat16":
        _reduce_in_float32(trainer)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_progress(say))
    if job.device == "cpu":
        trainer.add_callback(_trims())
    return trainer


def make_optimizer(model: Any, settings: TrainSettings) -> Any:
    """AdamW, LoRA's B at `loraplus_ratio` times the learning rate of A.

    Source: Hayou, Ghosh and Yu (2024), "LoRA+", arXiv:2402.12354.
    """
    from peft.optimizers import create_loraplus_optimizer
    from torch.optim import AdamW

    return create_loraplus_optimizer(
        model,
        AdamW,
        lr=settings.learning_rate,
        loraplus_lr_ratio=settings.loraplus_ratio,
        betas=(0.9, settings.adam_beta2),
        eps=1e-8,
        weight_decay=0.0,
        fused=True,
    )


def _arguments(job: TrainJob) -> Any:
    from trl import SFTConfig

    settings = job.settings
    rows = 2 * settings.batch_pairs
    epoch_steps = math.ceil(len(job.train) / rows)
    steps = math.ceil(epoch_steps * settings.epochs)
    sharding: dict[str, Any] = {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "cpu_ram_efficient_loading": True,  # one process reads the weights and hands the others their parts
        },
    }
    arguments: Any = SFTConfig(
        output_dir=str(job.work_dir),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=rows // job.processes,
        per_device_eval_batch_size=rows // job.processes,
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(10, steps // 10),
        gradient_checkpointing=settings.gradient_checkpointing,  # not FSDP's own: PEFT would find no layers to save
        bf16=job.sharded and job.dtype == "bfloat16",  # else autocast is ours: accelerate's makes all logits float32
        use_cpu=job.device == "cpu",
        logging_steps=1,
        eval_strategy="steps",  # not "epoch": that comes after the checkpoint of the same step, and is lost on resuming
        eval_steps=epoch_steps,
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,
        seed=job.seed,
        data_seed=job.seed,
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=job.device != "cpu",
        ddp_find_unused_parameters=False,
        **(sharding if job.sharded else {}),
    )
    if job.processes == 1 and arguments.device.type == "cuda":
        arguments._n_gpu = 1  # however many there are: transformers would share each step among threads (DataParallel)
    return arguments


def _reduce_in_float32(trainer: Any) -> None:
    """Have gradients summed over processes in float32, as they are without sharding; accelerate takes bfloat16."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = policy


def _shard_on_cpus() -> None:
    """Have accelerate, which leaves FSDP out on CPUs, take these processes for those of GPUs; torch shards on both."""
    from accelerate import DistributedType, PartialState

    PartialState().distributed_type = DistributedType.MULTI_GPU


def train_rows(job: TrainJob) -> list[dict[str, Any]]:
    """Rows to learn from, a whole number of them for each process in each step."""
    rows, step = _weighted(job.train, job.settings), 2 * job.settings.batch_pairs
    return _filled(rows, step) if job.processes > 1 else rows


def validation_rows(job: TrainJob) -> list[dict[str, Any]]:
    """Rows of the validation loss, which is a mean over all of them: they are filled up as one step."""
    rows, step = _weighted(job.validation, job.settings), 2 * job.settings.batch_pairs
    return _filled(rows, math.ceil(len(rows) / step) * step)


def _weighted(rows: Sequence[Rendered], settings: TrainSettings) -> list[dict[str, Any]]:
    twins = [rows[place ^ 1] for place in range(len(rows))]  # pairs stand side by side
    return [
        {"input_ids": row.input_ids, "labels": row.labels, "weights": loss_weights(row, twin, settings)}
        for row, twin in zip(rows, twins, strict=True)
    ]


def _filled(rows: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Fill the last step up with rows without loss, so that the mean over all its rows is that over the true ones."""
    true = len(rows) % step
    if not true:
        return rows
    blank = {"input_ids": rows[0]["input_ids"][:2], "labels": [IGNORED] * 2, "weights": [0.0] * 2}
    heavier = [row | {"weights": [weight * step / true for weight in row["weights"]]} for row in rows[-true:]]
    return [*rows[:-true], *heavier, *[blank] * (step - true)]


def _longest(job: TrainJob) -> int:
    return max(len(row.input_ids) for row in (*job.train, *job.validation))


def _dataset(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


def _progress(say: Callable[[str], None]) -> Any:
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """Plain lines for a log; on a terminal the bar is transformers' own."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "eval_loss" in logs:
                say(f"step {state.global_step}/{state.max_steps}: validation loss {float(logs['eval_loss']):.4f}")
            elif "loss" in logs and args.disable_tqdm and state.global_step % PRINTED_STEPS == 0:
                say(f"step {state.global_step}/{state.max_steps}: loss {float(logs['loss']):.4f}")

    return Progress()


def _trims() -> Any:
    from transformers import TrainerCallback

    class Trims(TrainerCallback):
        """Keeps memory from growing with the number of steps."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % TRIMMED_STEPS == 0:
                trim_heap()

    return Trims()


def _lora_weights(model: Any) -> dict[str, Any]:
    """The trained weights, whole and on the CPU; to be called in all processes, as parts are gathered from each."""
    trained = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: (w.full_tensor() if hasattr(w, "full_tensor") else w).cpu() for name, w in trained.items()}


def _save_adapter(model: Any, weights: dict[str, Any], job: TrainJob) -> None:
    """Write the adapter in PEFT's format: into a folder beside, then renamed."""
    unfinished = job.adapter_dir.with_name(job.adapter_dir.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    for config in model.peft_config.values():
        config.base_model_name_or_path = job.base_name
    model.save_pretrained(unfinished, state_dict=weights)
    (unfinished / "README.md").write_text(job.card, encoding="utf-8")
    shutil.rmtree(job.adapter_dir, ignore_errors=True)
    os.replace(unfinished, job.adapter_dir)
