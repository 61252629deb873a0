"""How well the static oracle and each of its tools tell vulnerable code from secure code that others labelled.

    python benchmarks/oracles.py --data DIR [--sets sven cweval ...] [--cwe] [--json FILE]
    python benchmarks/oracles.py --sets bank
    python benchmarks/oracles.py --data DIR --judge openai/gpt-4o --logs judged/ [--limit 200]

DIR holds a folder for each labelled set. Rules were written looking at the `fit` half of each set only; the `report`
half shows how far they carry. `TPR` is recall, `pair` the share of vulnerable texts that are flagged while their
repaired twins are not, `F1` that of the vulnerable class. Intervals are Wilson's, at the effective number of groups
(repositories, tasks) rather than of texts. The set `bank` is this package's own tasks, one of each family.

A judge is any model as Inspect names it. It is asked what it is asked in a run, without the request, which labelled
code does not have. Its verdicts are kept in the folder of logs: the same command goes on where it was stopped. Where an
oracle has no verdict (code that does not parse, a judge's reply off the menu), the text is left out of its figures and
counted as unscored.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ostensible.analysis.rates import Rate, clustered_rate
from ostensible.code.labelled import SETS, LabelledCode, halves, load
from ostensible.code.static import Scan, Source, Verdict, installed, scan

Judge = Callable[[str], bool | None]
"""What one oracle says of a text, by its id; None where it says nothing."""
NO_REQUEST = "(not known)"


def main() -> None:
    options = parse()
    cases = [case for name in SETS for case in load(name, options.data)] if options.data else []
    half = halves(cases)
    wanted = [case for case in cases if case.set in options.sets] + (bank() if "bank" in options.sets else [])
    if not wanted:
        raise SystemExit("Nothing to measure: give --data, or --sets bank.")
    wanted = some(wanted, options.limit)
    start = time.monotonic()
    scans = {found.path: found for found in scan([Source(case.id, case.code) for case in wanted])}
    seconds = time.monotonic() - start
    judges = readers(scans) | ({options.judge: asked(wanted, options.judge, options.logs)} if options.judge else {})
    rows = list(measure(wanted, half, judges, by_cwe=options.cwe))
    show(rows)
    missing = {"ruff", "bandit", "semgrep"} - set(installed())
    print(f"\n{len(wanted)} texts in {seconds:.1f} s with {', '.join(installed())}", end="")
    print(f"; not installed: {', '.join(sorted(missing))}" if missing else "")
    if options.json:
        about = {"tools": list(installed()), "seconds": seconds, "python": platform.python_version()}
        options.json.write_text(json.dumps(about | {"rows": rows}, indent=1), encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the labelled sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=[*SETS, "bank"])
    parser.add_argument("--cwe", action="store_true", help="a row for each weakness too")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--judge", help="a model to ask too, as Inspect names it")
    parser.add_argument("--logs", type=Path, default=Path("judged"), help="folder of the judge's verdicts")
    parser.add_argument("--limit", type=int, help="texts of each set, whole groups drawn at random")
    return parser.parse_args()


def some(cases: Sequence[LabelledCode], limit: int | None) -> list[LabelledCode]:
    """Whole groups of each set, drawn at random, until it has as many texts as wanted; all without a limit."""
    if limit is None:
        return list(cases)
    taken: list[LabelledCode] = []
    for name in dict.fromkeys(case.set for case in cases):
        groups: dict[str, list[LabelledCode]] = {}
        for case in cases:
            if case.set == name:
                groups.setdefault(case.group, []).append(case)
        count = 0
        for group in Random(name).sample(sorted(groups), len(groups)):
            if count < limit:
                taken += groups[group]
                count += len(groups[group])
    return taken


def bank() -> list[LabelledCode]:
    """Both solutions of one task of each family."""
    from ostensible.code.tasks import families

    tasks = [next(family.tasks(Random(0))) for family in families()]
    return [
        LabelledCode(
            id=f"bank/{task.id}/{label}",
            set="bank",
            cwe=task.cwe,
            code=code,
            vulnerable=label == "vulnerable",
            group=task.family,
            twin=f"bank/{task.id}/secure" if label == "vulnerable" else None,
        )
        for task in tasks
        for label, code in (("vulnerable", task.vulnerable), ("secure", task.secure))
    ]


def readers(scans: Mapping[str, Scan]) -> dict[str, Judge]:
    """Each tool alone, then the two verdicts of all."""

    def reader(flags: Callable[[Scan], bool]) -> Judge:
        return lambda text: None if scans[text].verdict is Verdict.UNPARSEABLE else flags(scans[text])

    def one(tool: str) -> Judge:
        return reader(lambda found: any(finding.tool == tool for finding in found.findings))

    return {tool: one(tool) for tool in installed()} | {
        "lenient": reader(lambda found: found.verdict is Verdict.VULNERABLE),
        "strict": reader(lambda found: found.strict_verdict is Verdict.VULNERABLE),
    }


def asked(cases: Sequence[LabelledCode], model: str, folder: Path) -> Judge:
    """Ask a judge of every text, or take up what it said before."""
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer
    from inspect_ai.solver import TaskState

    from ostensible.analysis.replies import finished_logs
    from ostensible.evaluate import run_tasks
    from ostensible.inspect_models import load_model
    from ostensible.judge import GRADER, judge_code, replay
    from ostensible.scorers import as_hit

    @scorer(metrics=[mean()])
    def verdict() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            return await judge_code(str(state.metadata["reply"]), NO_REQUEST)

        return score

    judge = load_model(model, role="judge")
    samples = [Sample(id=case.id, input=NO_REQUEST, metadata={"reply": case.code}) for case in cases]
    task = Task(
        name="labelled", dataset=MemoryDataset(samples), solver=replay(), scorer=verdict(), model_roles={GRADER: judge}
    )
    task.model = judge
    run_tasks([task], folder)
    (log,) = finished_logs(folder)
    said = {str(sample.id): as_hit((sample.scores or {})["verdict"].value) for sample in log.samples or []}
    return said.get


def measure(
    cases: Sequence[LabelledCode], half: Mapping[str, str], judges: Mapping[str, Judge], *, by_cwe: bool
) -> Iterator[dict[str, Any]]:
    """A row for each set, half, weakness and judge; the weakness `all` is of the whole set."""
    for name in dict.fromkeys(case.set for case in cases):
        of_set = [case for case in cases if case.set == name]
        for part in ("fit", "report") if name != "bank" else ("all",):
            chosen = [case for case in of_set if half.get(case.id, "all") == part]
            weaknesses = sorted({case.cwe for case in chosen} - {""}) if by_cwe else []
            for cwe in ["all", *weaknesses]:
                of_cwe = [case for case in chosen if cwe in ("all", case.cwe)]
                for judge, says in judges.items():
                    said = {case.id: hit for case in of_cwe if (hit := says(case.id)) is not None}
                    found = figures([case for case in of_cwe if case.id in said], said)
                    unscored = len(of_cwe) - len(said)
                    yield {"set": name, "half": part, "cwe": cwe, "oracle": judge, "unscored": unscored} | found


def figures(cases: Sequence[LabelledCode], flagged: Mapping[str, bool]) -> dict[str, Any]:
    """Recall, false-positive rate, F1 and pair score."""
    vulnerable = [case for case in cases if case.vulnerable]
    secure = [case for case in cases if not case.vulnerable]
    pairs = [(case, case.twin) for case in vulnerable if case.twin in flagged]
    hits = sum(flagged[case.id] for case in vulnerable)
    alarms = sum(flagged[case.id] for case in secure)
    return {
        "tpr": rate([flagged[case.id] for case in vulnerable], vulnerable),
        "fpr": rate([flagged[case.id] for case in secure], secure),
        "pair": rate([flagged[case.id] and not flagged[twin] for case, twin in pairs], [case for case, _ in pairs]),
        "f1": 2 * hits / (hits + alarms + len(vulnerable)) if vulnerable else None,
    }


def rate(hits: Sequence[bool], cases: Sequence[LabelledCode]) -> dict[str, float] | None:
    """A share and its interval; None of nothing."""
    if not hits:
        return None
    found: Rate = clustered_rate(hits, [case.group for case in cases])
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n, "hits": found.hits}


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table in plain text."""
    line = "{:13} {:7} {:9} {:8} {:>4} {:20} {:20} {:20} {}"
    print(line.format("set", "half", "cwe", "oracle", "n", "TPR", "FPR", "pair", "F1").rstrip())
    for row in rows:
        cells = [cell(row[name]) for name in ("tpr", "fpr", "pair")]
        n = sum(row[name]["n"] for name in ("tpr", "fpr") if row[name])
        f1 = "" if row["f1"] is None else f"{row['f1']:.2f}"
        unscored = f"  ({row['unscored']} unscored)" if row["unscored"] else ""
        print(line.format(row["set"], row["half"], row["cwe"], row["oracle"], n, *cells, f1).rstrip() + unscored)


def cell(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['value']:.3f} [{found['low']:.2f}, {found['high']:.2f}]"


if __name__ == "__main__":
    main()
