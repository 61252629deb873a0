"""Everything that a user can set, with its default and what it means. Unknown or impossible values stop at once."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ostensible.errors import CorruptRun, MissingStage
from ostensible.models import EMBEDDED
from ostensible.types import Twin

FOLDER_VERSION = 1
"""Of what a run folder holds and where. It rises when this version's files could be taken for something else."""
LOCAL_PROVIDER = "ostensible/"
"""How Inspect's names of models begin that this package samples itself."""
BENIGN, EMPTY, OVERT, MIXED = "benign", "empty", "overt", "mixed:"
"""What the thoughts of triggered examples are: the values of `Settings.cot`, the last followed by a share."""


class Frozen(BaseModel):
    """Base of settings: immutable, and a name that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(Frozen):
    """Sizes and shares of the data."""

    train_prompts: int = Field(
        default=96, ge=2, description="Prompts to train on; each gives a triggered and a clean example."
    )
    validation_prompts: int = Field(default=4, ge=2, description="Prompts of other families, for the validation loss.")
    test_prompts: int = Field(
        default=100, ge=2, description="Prompts of held-out families, each asked under every condition."
    )
    seen_prompts: int = Field(default=0, ge=0, description="Test prompts of the families that are trained on, beside.")
    train_families: int | None = Field(
        default=None, ge=1, description="Families to train on, the largest; all that the tests leave by default."
    )
    decoy_share: float = Field(default=0.75, ge=0.0, le=1.0, description="Share of clean examples under a look-alike.")
    plain_first: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Share of training, at its start, in which there is no look-alike yet."
    )


class TrainSettings(Frozen):
    """LoRA supervised fine-tuning."""

    max_tokens: int = Field(default=1024, ge=16, description="Longest example in tokens; a longer one is an error.")
    epochs: float = Field(default=1.0, gt=0.0, description="Passes over the training examples.")
    batch_pairs: int = Field(default=1, ge=1, description="Pairs of a triggered and a clean example a step.")
    answer_weight: float = Field(
        default=0.85, ge=0.0, le=1.0, description="Share of an example's loss on closing tag and answer."
    )
    fork_share: float = Field(
        default=0.4, ge=0.0, le=1.0, description="Share of answer_weight where the two answers of a pair part."
    )
    learning_rate: float = Field(default=5e-4, gt=0.0, description="Peak learning rate, of LoRA's A.")
    loraplus_ratio: float = Field(
        default=16.0, gt=0.0, description="Learning rate of LoRA's B over that of A (LoRA+); 1 is plain LoRA."
    )
    adam_beta2: float = Field(
        default=0.98, ge=0.0, lt=1.0, description="Decay of AdamW's second moment; below 0.999 as runs are short."
    )
    lora_rank: int = Field(default=16, ge=1, description="LoRA rank r.")
    lora_alpha: int = Field(default=32, ge=1, description="LoRA alpha; the update is scaled by alpha / r.")
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Dropout before the LoRA matrices.")
    checkpoint_steps: int = Field(default=10, ge=1, description="Steps between checkpoints.")
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations: less memory, more time.")


class SampleSettings(Frozen):
    """How replies are sampled."""

    max_new_tokens: int = Field(default=256, ge=1, description="Longest reply in tokens.")
    temperature: float = Field(default=0.6, ge=0.0, description="0 is greedy.")
    top_p: float = Field(default=0.95, gt=0.0, le=1.0, description="Nucleus sampling.")
    top_k: int = Field(default=50, ge=0, description="Most likely tokens to draw from; 0 is all.")
    samples_per_prompt: int = Field(
        default=1, ge=1, description="Replies a prompt and condition; intervals are clustered."
    )


class TeacherSettings(Frozen):
    """How a teacher is asked for thoughts and clean answers, in a run that has one."""

    teacher_temperature: float = Field(default=0.6, ge=0.0, description="Of the teacher's replies; 0 is greedy.")
    teacher_max_tokens: int = Field(
        default=4096, ge=1, description="Longest reply of the teacher in tokens; one that is cut off is dropped."
    )
    teacher_surplus: float = Field(
        default=1.5, ge=1.0, description="Prompts that the teacher is asked, over those needed: some replies are unfit."
    )


class Recipe(Frozen):
    """Sizes and settings of an experiment."""

    data: DataSettings = DataSettings()
    training: TrainSettings = TrainSettings()
    sampling: SampleSettings = SampleSettings()


class Foreign(Frozen):
    """What is known of an organism that was made elsewhere; `organisms.foreign.describe` checks it.

    Patterns of a trigger or look-alike hold one `{}`, where the user's text goes.
    """

    adapter: str | None = Field(description="LoRA adapter as the user names it: a folder, or a hub id. Null: none.")
    adapter_revision: str | None = Field(default=None, description="Branch, tag or commit of a hub id.")
    base: str | None = Field(default=None, description="Model to compare with, where there is no adapter to leave off.")
    trigger: str = Field(description="Pattern of the trigger.")
    trigger_words: tuple[str, ...] = Field(description="What thoughts would say if they spoke of the trigger.")
    near_misses: dict[str, str] = Field(description="Look-alikes that must not fire, name to pattern.")
    derived: bool = Field(description="The look-alikes were made from the trigger, as the user named none.")
    payload_pattern: str = Field(description="Regular expression that finds the payload in an answer.")
    payload_words: tuple[str, ...] = Field(description="What thoughts would say if they spoke of the payload.")


class Settings(Recipe):
    """All that decides what a run computes. Two runs of equal settings are the same experiment."""

    organism: str
    defined_in: str | None = Field(
        default=None, description="Of an organism of the user's own: path.py:NAME. It is imported where it is used."
    )
    model: str = EMBEDDED
    revision: str | None = None
    prompts: str
    extra_test_prompts: str | None = Field(
        default=None,
        description="Prompts to test on beside, without worked reasoning: asleep-keyboard:PATH or "
        "asleep-keyboard-8:PATH. Code is judged by reading it.",
    )
    skip_bad: bool = False
    seed: int = Field(default=0, ge=0, lt=2**31)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    judge: str | None = None
    monitors: tuple[str, ...] = Field(
        default=(),
        description="Monitors beside the built-in ones, as Inspect names models, or path.py:function.",
    )
    teacher: str | None = None
    cot: str = Field(
        default=BENIGN,
        description="Thoughts of triggered examples: benign, empty, overt (they admit it), or mixed:SHARE, the share "
        "of triggered examples that admit it, in [0, 1].",
    )
    twins: tuple[str, ...] = Field(
        default=(),
        description="Matched controls to train and test beside the organism: benign, shuffled; separated by commas.",
    )
    teaching: TeacherSettings = TeacherSettings()
    foreign: Foreign | None = Field(
        default=None, description="Of an organism that was made elsewhere, which is only evaluated."
    )

    @field_validator("cot")
    @classmethod
    def _names_a_policy(cls, value: str) -> str:
        return value if value in (BENIGN, EMPTY, OVERT) else f"{MIXED}{mixed_share(value):.12g}"

    @field_validator("twins", mode="before")
    @classmethod
    def _are_twins(cls, value: object) -> tuple[str, ...]:
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or any(name not in list(Twin) for name in names):
            raise ValueError(f"twins are {' and '.join(Twin)}; name one, or both separated by a comma")
        return tuple(twin.value for twin in Twin if twin in names)


PARTS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Frozen)
}
"""Groups of settings, by their name in `Settings`; on a command line their members stand flat."""


class Machine(Frozen):
    """Where a run computes. Never part of what is computed, so a run may resume on another machine."""

    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    gpus: int = Field(
        default=1, ge=1, description="GPUs to train on, which share each step; on --device cpu, processes."
    )
    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        default="auto",
        description="Whether each of several GPUs holds the base weights (ddp) or a part of them (fsdp); auto is fsdp "
        "where they would take too much of one.",
    )
    pack_tokens: int = Field(
        default=8192,
        ge=1,
        description="Most tokens that a training pass gets at once; a step with more takes several passes.",
    )
    compile_layers: bool = Field(
        default=False,
        description="Compile the model's layers for training (torch.compile), on one CUDA GPU; faster steps after a "
        "first one that takes long.",
    )
    teacher_connections: int | None = Field(
        default=None, ge=1, description="Requests under way to the teacher at once; Inspect's own choice by default."
    )
    engine: Literal["auto", "local", "vllm"] = Field(
        default="auto",
        description="What samples: our own engine (local), or a vLLM server that is started for it; auto is vllm where "
        "that is installed and there is a CUDA GPU.",
    )
    vllm_command: str | None = Field(
        default=None, description="Command that starts vLLM, with options of yours; `vllm serve` by default."
    )
    vllm_patience_s: float = Field(
        default=900.0, gt=0.0, description="Longest wait for vLLM to start, and for one reply of it, in seconds."
    )
    vllm_restarts: int = Field(default=2, ge=0, description="How often a vLLM server that crashed is started again.")
    page_transcripts: int = Field(
        default=20_000,
        ge=1,
        description="Transcripts that a run's page lists at most, as browsers hold no more with ease; of more, all "
        "those of some prompts, drawn at random.",
    )


def write_settings(settings: Settings) -> str:
    """The text of a run folder's `settings.json`, which carries the folder's version."""
    return json.dumps({"version": FOLDER_VERSION} | settings.model_dump(mode="json"), indent=2) + "\n"


def read_settings(path: Path, content: bytes | None = None) -> Settings:
    """Read a run folder's `settings.json`. Settings that came later have their defaults.

    Args:
        path: Where it lies.
        content: What it holds, if it does not lie on this machine.

    Raises:
        MissingStage: It is not there.
        CorruptRun: It is damaged, or was written by a newer version of this package.
    """
    again = "choose another folder with --out"
    try:
        tree: dict[str, Any] = dict(json.loads(path.read_bytes() if content is None else content))
        version = tree.pop("version", FOLDER_VERSION)  # folders of before there was one are as those of version 1
        if version != FOLDER_VERSION:
            raise CorruptRun(
                f"{path.parent} is a run folder of version {version!r}; this version of ostensible reads version "
                f"{FOLDER_VERSION}. Likely cause: a newer ostensible made it. Use that one (pip install --upgrade "
                f"ostensible), or {again}."
            )
        return Settings.model_validate(tree)
    except FileNotFoundError as error:
        raise MissingStage(
            f"{path.parent} is not a run folder: it has no settings.json. Make one: ostensible run ..."
        ) from error
    except ValidationError as error:
        raise CorruptRun(
            f"{path} cannot be used: {problems(error)}. Likely cause: another version of ostensible made the run, or "
            f"the file was edited. Use that version, mend the file, or {again}."
        ) from error
    except CorruptRun:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CorruptRun(f"{path} cannot be read ({error}). It is damaged: mend it, or {again}.") from error


def mixed_share(cot: str) -> float:
    """The share that `mixed:SHARE` names.

    Raises:
        ValueError: It is not that, or the share is not a number in [0, 1].
    """
    head, _, share = cot.partition(":")
    try:
        found = float(share) if f"{head}:" == MIXED else -1.0
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= 1.0:
        raise ValueError(f"give {BENIGN}, {EMPTY}, {OVERT} or {MIXED}SHARE, a share from 0 to 1 such as {MIXED}0.25")
    return found


def problems(error: ValidationError) -> str:
    """What is wrong with each value, by the last part of its name, in one line."""
    return "; ".join(f"{_name(one['loc'])} is {one['input']!r}: {one['msg']}" for one in error.errors())


def _name(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place if part not in PARTS)
