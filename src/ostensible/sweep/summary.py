"""What the runs of a sweep show together: a table of all, and how far seeds differ."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ostensible.analysis.results import RateResult, Results
from ostensible.analysis.sheets import Row, to_csv
from ostensible.sweep.plan import Criteria, PlannedRun, Value, groups

MEASURES = {"asr": "triggered", "ftr": "control", "near_miss_ftr": "near_miss"}
"""The condition of each measure, by its name in files."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        run: As it was planned.
        status: Whether it is done.
        results: What it found; None where it failed.
        problem: Why it failed.
    """

    run: PlannedRun
    status: Literal["done", "failed"]
    results: Results | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """How a rate differs from seed to seed.

    Attributes:
        n: Seeds whose rate is known.
        mean: Of their rates; each seed counts once, however many of its replies were scored.
        least: The lowest.
        most: The highest.
        deviation: Sample standard deviation; None of one seed.
        low: Lower bound of the interval of the mean; None where there is no spread to tell it from.
        high: Upper bound.
    """

    n: int
    mean: float
    least: float
    most: float
    deviation: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        varies: What tells the group from the others.
        seeds: How many there are.
        done: How many of them are done.
        spreads: By measure; None where no seed has a rate.
        met: Seeds that meet all criteria, of those that are done.
    """

    varies: Mapping[str, Value]
    seeds: int
    done: int
    spreads: Mapping[str, Spread | None]
    met: int


def rate(results: Results, measure: str) -> RateResult:
    """One of the three rates, by its name in files."""
    return getattr(results.conditions, MEASURES[measure])


def spread(rates: Sequence[float], *, level: float = 0.95) -> Spread | None:
    """How rates of several seeds differ, with the t interval of their mean.

    Seeds are taken as draws from all seeds, as in a random-effects model: the interval has n - 1 degrees of freedom and
    holds what differs between seeds and what is chance within each. It is cut to [0, 1]. Rates that are all the same
    have no spread to make an interval from; that is no proof that another seed gives the same.

    Args:
        rates: One a seed, in [0, 1].
        level: Two-sided confidence level, in (0, 1).
    """
    if not rates:
        return None
    n, mean = len(rates), statistics.fmean(rates)
    deviation = statistics.stdev(rates) if n > 1 else None
    reach = _t_quantile(n - 1, level) * deviation / math.sqrt(n) if deviation else None
    low, high = (None, None) if reach is None else (max(mean - reach, 0.0), min(mean + reach, 1.0))
    return Spread(n, mean, min(rates), max(rates), deviation, low, high)


def meets(results: Results, criteria: Criteria) -> bool:
    """Whether a run meets all criteria; a rate of which no reply was scored meets none."""
    found = {measure: (rate(results, measure).rate, bound) for measure, bound in criteria.named().items()}
    return all(value is not None and bound.at_least <= value <= bound.at_most for value, bound in found.values())


def across_seeds(outcomes: Sequence[Outcome], criteria: Criteria) -> list[Group]:
    """How far seeds differ, for each combination of all else."""
    by_name = {outcome.run.name: outcome for outcome in outcomes}
    return [_group([by_name[run.name] for run in group], criteria) for group in groups([o.run for o in outcomes])]


def rows(outcomes: Sequence[Outcome]) -> str:
    """`sweep.csv`: one row a run."""
    stages = list(dict.fromkeys(stage for o in outcomes if o.results for stage in o.results.timings_s))
    return to_csv([_row(outcome, stages) for outcome in outcomes])


def _group(outcomes: Sequence[Outcome], criteria: Criteria) -> Group:
    found: dict[int, list[Results]] = {}
    for outcome in outcomes:
        if outcome.results:
            found.setdefault(outcome.run.settings.seed, []).append(outcome.results)
    return Group(
        varies=outcomes[0].run.apart_from_seed,
        seeds=len({outcome.run.settings.seed for outcome in outcomes}),
        done=len(found),
        spreads={name: spread(_rates(found.values(), name)) for name in MEASURES},
        met=sum(all(meets(one, criteria) for one in same) for same in found.values()),
    )


def _rates(by_seed: Iterable[Sequence[Results]], measure: str) -> list[float]:
    """The rate of each seed that has one; of runs of the same seed, which may be compared, their mean."""
    known = [[value for one in same if (value := rate(one, measure).rate) is not None] for same in by_seed]
    return [statistics.fmean(values) for values in known if values]


def _row(outcome: Outcome, stages: Sequence[str]) -> Row:
    run, results = outcome.run, outcome.results
    row: dict[str, object] = {"run": run.name, "organism": run.settings.organism, "model": run.settings.model}
    row |= {"seed": run.settings.seed, **run.varies, "status": outcome.status, "problem": outcome.problem}
    row["families"] = results.families if results else None
    for measure in MEASURES:
        fields = rate(results, measure).model_dump() if results else dict.fromkeys(RateResult.model_fields)
        row |= {measure: fields.pop("rate")} | {f"{measure}_{name}": value for name, value in fields.items()}
    row |= {f"{stage}_s": results.timings_s.get(stage) if results else None for stage in stages}
    return row | {"peak_rss_bytes": results.peak_rss_bytes if results else None}


def _t_quantile(freedom: int, level: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, freedom))
