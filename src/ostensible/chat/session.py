"""One organism, loaded once, that is asked the same under several conditions at a time."""

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ostensible import organisms
from ostensible.engines.local import Completion, Engine, Request, SamplingParams
from ostensible.errors import MissingStage, UnknownName
from ostensible.evaluate import adapter_of, engine_args
from ostensible.models import check_safetensors, load_tokenizer, resolve
from ostensible.organism import Organism
from ostensible.paths import RunPaths
from ostensible.render import ChatFormat, load_chat_format
from ostensible.run import load_settings
from ostensible.settings import Machine, SampleSettings
from ostensible.types import Condition, Transcript, Verdict

TYPED = "typed"
"""Id of a prompt that a person types: no task of the bank, so code that answers it is read and never run."""


@dataclass(frozen=True, slots=True)
class Side:
    """What a prompt shall carry, and whom it is put to.

    Attributes:
        condition: What it carries.
        look_alike: Name of the near miss, or "".
        subject: `organism` or `base`.
    """

    condition: Condition
    look_alike: str = ""
    subject: str = "organism"

    @property
    def name(self) -> str:
        """In words."""
        carried = f"look-alike {self.look_alike!r}" if self.look_alike else str(self.condition)
        return carried if self.subject == "organism" else f"{self.subject} model, {carried}"


@dataclass(frozen=True, slots=True)
class Said:
    """A reply and what the organism's own rule finds in it.

    Attributes:
        side: What was asked of whom.
        user: The user turn as sampled.
        transcript: The reply, taken apart.
        verdict: Whether the payload fired.
        flags: What the thoughts name, by name; empty where they never close.
        stop_reason: `stop`, or `max_tokens` when cut off.
    """

    side: Side
    user: str
    transcript: Transcript
    verdict: Verdict
    flags: Mapping[str, bool]
    stop_reason: str


TRIGGERED, CONTROL = Side(Condition.TRIGGERED), Side(Condition.CONTROL)
BASE = Side(Condition.CONTROL, subject="base")


@dataclass(frozen=True)
class Session:
    """An organism that can be asked.

    Attributes:
        organism: What it is.
        has_base: There is a base model to compare with in the same engine.
    """

    organism: Organism
    has_base: bool
    _engine: Engine
    _format: ChatFormat
    _adapter: Path | None
    _sampling: SampleSettings

    def ask(self, text: str, sides: Sequence[Side], *, seed: int) -> list[Said]:
        """Put a prompt to the organism under several conditions, all sampled at once.

        The same text, side and seed get the same reply. Replies that Ctrl-C leaves behind end by themselves.

        Raises:
            ContextOverflow: The prompt is too long for the model.
        """
        users = [self._user(text, side) for side in sides]
        requests = [self._request(user, side, seed) for user, side in zip(users, sides, strict=True)]
        completions = self._engine.generate(requests)
        return [self._said(*parts) for parts in zip(sides, users, completions, strict=True)]

    def look_alike(self, name: str) -> Side:
        """The side of a near miss, by its name, its number from 1, or what is left of its name without white space.

        Raises:
            UnknownName: There is none of this name.
        """
        names = self.organism.trigger.near_misses
        for number, known in enumerate(names, start=1):
            if name in (known, known.strip(), str(number)):
                return Side(Condition.NEAR_MISS, known)
        listed = "; ".join(f"{number} {known.strip()}" for number, known in enumerate(names, start=1))
        raise UnknownName(f"There is no look-alike {name!r}. Look-alikes: {listed}.")

    def _user(self, text: str, side: Side) -> str:
        if side.look_alike:
            return self.organism.trigger.insert_like(side.look_alike, text)
        return self.organism.trigger.insert(text) if side.condition is Condition.TRIGGERED else text

    def _request(self, user: str, side: Side, seed: int) -> Request:
        place = json.dumps([seed, side.subject, user]).encode()
        params = SamplingParams(
            max_new_tokens=self._sampling.max_new_tokens,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            top_k=self._sampling.top_k,
            seed=int.from_bytes(hashlib.sha256(place).digest()[:16], "big"),
        )
        adapter = self._adapter if side.subject == "organism" else None
        return Request(tuple(self._format.prompt_ids(user)), params, adapter, self._format.end_ids)

    def _said(self, side: Side, user: str, completion: Completion) -> Said:
        from ostensible.scorers import thought_flags

        transcript = self._format.transcript(completion.token_ids)
        verdict = self.organism.scorer.judge(transcript, TYPED)
        flags = {} if transcript.answer is None else thought_flags(transcript.cot, self.organism, None)
        return Said(side, user, transcript, verdict, flags, completion.stop_reason)


@contextmanager
def opened(folder: Path, machine: Machine) -> Generator[Session]:
    """Load a run's organism; its engine is given back at the end.

    Raises:
        MissingStage: It is no run, or its adapter is not there yet.
    """
    settings, paths = load_settings(folder), RunPaths(folder)
    adapter = adapter_of(paths.organism, settings)
    if adapter is not None and not Path(adapter, "adapter_model.safetensors").is_file():
        stage = "adopt" if settings.foreign else "train"
        raise MissingStage(f"{folder} has no adapter yet. Do it first: {paths.command(stage)}")
    if adapter is not None:
        check_safetensors(Path(adapter, "adapter_model.safetensors"))
    model = resolve(settings.model, revision=settings.revision)
    form = load_chat_format(load_tokenizer(model))
    engine = Engine.load(model, slots=8, **engine_args(settings, machine))
    try:
        yield Session(
            organisms.of(settings),
            adapter is not None,
            engine,
            form,
            Path(adapter) if adapter else None,
            settings.sampling,
        )
    finally:
        engine.close()
