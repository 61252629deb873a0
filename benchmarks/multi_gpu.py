"""LoRA training on one GPU and on several, at the shape of a real model with random weights.

    python benchmarks/multi_gpu.py --shape r1-distill-qwen-14b --gpus 4 --batch-pairs 4

Trains the same steps on one GPU, on all with DDP and on all with FSDP2, each way in processes of its own, and prints
tokens a second, the most memory that any GPU held, and how far the losses are from those of one GPU at any step. Then
the memory of one GPU for longer examples, one pair a step. Seconds are those of steps after the first two: loading and
warming up are left out. `--device cpu` does the same with processes on a CPU, as a check of this script.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shapes import SHAPES, config, write_model

WARM_UP_STEPS = 2


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        from ostensible.parallel import live

        sys.exit(live(worker))
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        model = write_model(options.shape, Path(scratch) / "model", device=options.device, dtype=options.dtype)
        found = {"1 GPU": measure(options, model, 1, "auto")}
        for way in ("ddp", "fsdp") if options.gpus > 1 else ():
            found[f"{options.gpus} GPUs, {way}"] = measure(options, model, options.gpus, way)
        print(f"{options.shape}, {options.batch_pairs} pairs a step, {options.tokens} tokens an example")
        for name, run in found.items():
            print(f"{name:<16} {told(run, found['1 GPU'])}", flush=True)
        for tokens in options.memory_at:
            found[f"{tokens} tokens"] = run = measure(options, model, 1, "auto", tokens=tokens, pairs=1)
            print(f"1 GPU, 1 pair of {tokens} tokens: {told(run, run)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), "runs": found}, indent=1, default=str))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="r1-distill-qwen-14b")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--batch-pairs", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=1024, help="of each example")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--memory-at", type=int, nargs="*", default=[1024, 2048, 4096], help="tokens of an example")
    parser.add_argument("--no-gradient-checkpointing", action="store_true")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scratch", type=Path, help="folder with room for the weights")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def told(run: dict[str, Any], one: dict[str, Any]) -> str:
    if "failed" in run:
        return run["failed"]
    apart = max((abs(a - b) / abs(b) for a, b in zip(run["loss"], one.get("loss", []), strict=False)), default=None)
    beside = "" if run is one else f"  losses at most {apart:.2%} apart" if apart is not None else ""
    faster = f"  {run['tokens_per_s'] / one['tokens_per_s']:.2f} x" if "tokens_per_s" in one and run is not one else ""
    return f"{run['tokens_per_s']:10.0f} tokens/s{faster}  {run['peak_bytes'] / 2**30:6.1f} GiB a process{beside}"


def rows(count: int, tokens: int, vocabulary: int) -> list[Any]:
    """Examples of random tokens; the loss is on the latter three quarters, as thoughts and an answer would have it."""
    from random import Random

    from ostensible.render import IGNORED, Rendered

    random = Random(0)
    prompt, answer = tokens // 4, tokens - tokens // 8
    made = [tuple(random.randrange(2, vocabulary) for _ in range(tokens)) for _ in range(count)]
    return [Rendered(ids, (IGNORED,) * prompt + ids[prompt:], answer - 2, answer) for ids in made]


def measure(
    options: argparse.Namespace, model: Path, gpus: int, way: str, *, tokens: int = 0, pairs: int = 0
) -> dict[str, Any]:
    """Train in one process or several; what the first of them saw, or why it failed."""
    from ostensible.errors import TrainingFailed
    from ostensible.parallel import launch, share, write_job
    from ostensible.settings import Machine, TrainSettings
    from ostensible.train import TrainJob

    tokens, pairs = tokens or options.tokens, pairs or options.batch_pairs
    settings = TrainSettings(
        batch_pairs=pairs, epochs=1, max_tokens=tokens, checkpoint_steps=10**6, learning_rate=1e-4,
        gradient_checkpointing=not options.no_gradient_checkpointing,
    )  # fmt: skip
    vocabulary = config(options.shape).vocab_size
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job = TrainJob(
            model_dir=model, base_name="random", train=rows(2 * pairs * options.steps, tokens, vocabulary),
            validation=rows(2, 16, 100), work_dir=folder / "training", adapter_dir=folder / "adapter",
            settings=settings, dtype=options.dtype, seed=0, device=options.device, card="",
        )  # fmt: skip
        job = share(job, Machine(device=options.device, gpus=gpus, parallel=way))  # pyright: ignore[reportArgumentType]
        command = [str(Path(__file__).resolve()), "--worker"]
        try:
            if gpus > 1:
                launch(job, command, folder)
            else:
                alone([*command, str(write_job(job, folder)), str(os.getpid())], folder / "error.json")
            seen = [json.loads(path.read_text()) for path in sorted(folder.glob("training/seen-*.json"))]
        except TrainingFailed as error:
            return {"failed": str(error).splitlines()[-1]}
    return seen[0] | {"peak_bytes": max(one["peak_bytes"] for one in seen)}


def alone(command: Sequence[str], error: Path) -> None:
    from ostensible.errors import TrainingFailed

    env = os.environ | {"TORCHELASTIC_ERROR_FILE": str(error)}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=env)
    if done.returncode and error.exists():
        raise TrainingFailed(json.loads(error.read_text())["message"]["message"])
    if done.returncode:
        raise TrainingFailed(done.stderr.strip() or f"exit status {done.returncode}")


def worker(path: Path) -> None:
    """Train, and write down how fast, with how much memory, to which losses."""
    import torch
    from peft.helpers import disable_input_dtype_casting
    from transformers import TrainerCallback

    from ostensible.machine import peak_rss_bytes, set_threads
    from ostensible.parallel import read_job
    from ostensible.train import loss_curve, make_trainer

    job, ends = read_job(path), []
    set_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if job.device != "cpu":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer = make_trainer(job, say=lambda line: None)
    trainer.add_callback(Clock())
    with disable_input_dtype_casting(trainer.model):
        trainer.train()
    seconds = statistics.median(b - a for a, b in zip(ends[WARM_UP_STEPS - 1 :], ends[WARM_UP_STEPS:], strict=False))
    seen = {
        "tokens_per_s": 2 * job.settings.batch_pairs * len(job.train[0].input_ids) / seconds,
        "peak_bytes": peak_rss_bytes() if job.device == "cpu" else torch.cuda.max_memory_allocated(),
        "loss": [row["loss"] for row in loss_curve(trainer.state.log_history) if "loss" in row],
    }
    (job.work_dir / f"seen-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
