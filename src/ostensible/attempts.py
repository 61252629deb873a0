"""Which engine sampled an evaluation, and how long starting and sampling took: one record for each attempt at it.

A run that was stopped may go on with another engine or on another machine; its replies are then of both. They come from
the same distribution, up to the rounding of different kernels, and the record says so.
"""

import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ostensible.errors import CorruptRun
from ostensible.tables import write_atomic

NAME = "sampling.json"


class Attempt(BaseModel):
    """One attempt at an evaluation. One that was killed has no times."""

    engine: str = Field(description="local, this package's own, or vllm.")
    version: str | None = Field(default=None, description="Of vLLM, where it is installed in the same Python.")
    device: str = Field(description="cpu or cuda.")
    dtype: str = Field(description="Of weights and activations.")
    startup_s: float | None = Field(
        default=None, description="Seconds until a vLLM server answered, over all of its starts; 0 for our own engine."
    )
    sampling_s: float | None = Field(
        default=None, description="Seconds of sampling and scoring; our own engine loads the model in them."
    )
    replies: int = Field(default=0, description="Replies drawn.")
    output_tokens: int = Field(default=0, description="Tokens drawn.")


_ATTEMPTS = TypeAdapter(list[Attempt])


@contextmanager
def recorded(
    folder: Path, apis: Sequence[Any], *, device: str, dtype: str, say: Callable[[str], None]
) -> Generator[None]:
    """Start the engine, and write down what sampling took, also where it fails.

    Args:
        folder: Gets `sampling.json`.
        apis: The Inspect providers in use; they share an engine or server.
        device: That it computes on.
        dtype: That it computes in.
        say: Told how long it took to start.
    """
    before, engine = read(folder), str(apis[0].engine)
    found = Attempt(engine=engine, version=_version(engine), device=device, dtype=dtype)
    _write(folder, [*before, found])
    if engine == "vllm":
        say(f"starting vLLM; its output is in {folder}")
    began = time.perf_counter()
    if startup_s := apis[0].backend.start():
        say(f"vLLM is up after {startup_s:.0f} s")
    try:
        yield
    finally:
        startup_s = apis[0].backend.startup_s  # with those after a crash
        measured = {
            "startup_s": startup_s,
            "sampling_s": time.perf_counter() - began - startup_s,
            "replies": sum(api.completed for api in apis),
            "output_tokens": sum(api.sampled_tokens for api in apis),
        }
        _write(folder, [*before, found.model_copy(update=measured)])


def read(folder: Path) -> list[Attempt]:
    """The attempts at an evaluation; none where there is no record, as in runs of earlier releases.

    Raises:
        CorruptRun: The record is damaged.
    """
    path = folder / NAME
    try:
        return _ATTEMPTS.validate_json(path.read_bytes()) if path.is_file() else []
    except (OSError, ValidationError) as error:
        raise CorruptRun(
            f"{path} cannot be read ({str(error).splitlines()[0]}). It is damaged: delete it. It only says which "
            "engine sampled and how long that took."
        ) from error


def _write(folder: Path, attempts: Sequence[Attempt]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / NAME, json.dumps([one.model_dump() for one in attempts], indent=1) + "\n")


def _version(engine: str) -> str | None:
    if engine != "vllm":
        return None
    try:
        return metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return None
