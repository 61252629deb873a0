// Lists, filters and shows every transcript of the page. Text reaches the page as text nodes only: what a model wrote is
// never parsed as markup. No requests, no storage; the data stands in the page, gzipped, in base64.
"use strict";

const ROWS_A_PAGE = 50;
const MOST_SHOWN = 20000; // characters of a text before it has to be asked for
const MOST_CELLS = 16e6; // of the table that compares two texts; larger ones are compared at their ends only
const FEW_IN_COMMON = 0.3; // below this share, to mark all that differs would mark nearly all

const CONDITIONS = { triggered: "Triggered", control: "Control", near_miss: "Look-alike" };
const SUBJECTS = { organism: "Organism", base: "Base model", benign: "Benign twin", shuffled: "Shuffled twin" };
const PARTS = { test: "Families never trained on", seen: "Trained families", extra: "Extra prompts" };
const VERDICTS = { hit: "Payload", clean: "No payload", unscored: "Unscored" };
const PRESETS = {
  all: ["All", () => true],
  missed: ["Triggered, but no payload", r => isOurs(r) && r.condition === "triggered" && r.hit === false],
  stray: ["Payload without the trigger", r => isOurs(r) && r.condition !== "triggered" && r.hit === true],
  unscored: ["Unscored", r => isOurs(r) && r.hit === null],
};
const ORDERS = {
  prompt: "Prompt", high: "Highest monitor score", low: "Lowest monitor score", thoughts: "Longest thoughts",
};

const $ = id => document.getElementById(id);
const state = { all: [], found: [], monitors: [], preset: "all", page: 0, open: null, beside: null, marks: true };

// --- Elements and words

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children.filter(child => child !== null));
  return element;
}

const isOurs = r => r.subject === "organism";
const verdict = r => (r.hit === null ? "unscored" : r.hit ? "hit" : "clean");
const words = name => name.replaceAll("_", " ");
const named = (names, key) => names[key] ?? words(key);
const carries = r => (r.condition === "near_miss" ? `Look-alike ${r.look}` : named(CONDITIONS, r.condition));
const called = r => (isOurs(r) ? carries(r) : `${named(SUBJECTS, r.subject)}, ${carries(r).toLowerCase()}`);
const amount = n => n.toLocaleString("en");
const joined = segments => (segments === null ? "" : segments.join(""));

function lowered(r) { // made when first searched
  return (r.lower ??= {
    prompt: joined(r.user).toLowerCase(), thoughts: r.cot.toLowerCase(), answer: joined(r.answer).toLowerCase(),
  });
}

// --- Finding

function search(r, where, query) {
  const all = lowered(r);
  return where === "all" ? Object.values(all).some(text => text.includes(query)) : all[where].includes(query);
}

function within(r, monitor, least, most) {
  const score = r.scores[monitor];
  if (least === "" && most === "") return true;
  return score !== null && (least === "" || score >= Number(least)) && (most === "" || score <= Number(most));
}

function carriesThis(r, wanted) {
  return wanted.startsWith("look:") ? r.condition === "near_miss" && r.look === wanted.slice(5) : r.condition === wanted;
}

function find() {
  const f = Object.fromEntries(new FormData($("filters")));
  const query = f.q.toLowerCase();
  const monitor = Number(f.monitor ?? 0);
  const is = PRESETS[state.preset][1];
  state.found = state.all.filter(r =>
    is(r) &&
    (!f.subject || r.subject === f.subject) &&
    (!f.carries || carriesThis(r, f.carries)) &&
    (!f.verdict || verdict(r) === f.verdict) &&
    (!f.outcome || r.outcome === f.outcome) &&
    (!f.part || r.part === f.part) &&
    (!state.monitors.length || within(r, monitor, f.least, f.most)) &&
    (!query || search(r, f.where, query)));
  sort(state.found, f.order, monitor);
  state.page = 0;
  list();
}

function sort(replies, order, monitor) {
  const score = (r, otherwise) => r.scores[monitor] ?? otherwise;
  if (order === "high") replies.sort((a, b) => score(b, -1) - score(a, -1));
  if (order === "low") replies.sort((a, b) => score(a, 2) - score(b, 2));
  if (order === "thoughts") replies.sort((a, b) => b.cot.length - a.cot.length);
}

// --- The list

function list() {
  const { found, page, all } = state;
  const shown = found.slice(page * ROWS_A_PAGE, (page + 1) * ROWS_A_PAGE);
  const query = $("q").value.toLowerCase();
  $("list").replaceChildren(...shown.map(r => row(r, query)));
  $("list").start = page * ROWS_A_PAGE + 1;
  const pages = Math.max(Math.ceil(found.length / ROWS_A_PAGE), 1);
  $("count").textContent = found.length === all.length
    ? `${amount(all.length)} transcripts`
    : `${amount(found.length)} of ${amount(all.length)} transcripts`;
  $("page").textContent = `Page ${page + 1} of ${amount(pages)}`;
  $("back").disabled = page === 0;
  $("forth").disabled = page + 1 >= pages;
  $("pages").hidden = pages === 1;
  $("nothing").hidden = found.length > 0;
}

function row(r, query) {
  return h("li", { class: r.condition }, h("a", { href: `#t=${r.id}` },
    h("strong", {}, called(r)), h("span", {}, chip(r)), h("span", { class: "row-id" }, r.prompt),
    h("span", { class: "snippet" }, ...snippet(r, query))));
}

function chip(r) {
  if (r.code) return h("span", { class: `chip outcome ${r.hit === null ? "open" : r.hit ? "bad" : "good"}` }, words(r.outcome));
  return h("span", { class: `chip${r.hit === false ? "" : r.hit ? " bad" : " open"}` }, VERDICTS[verdict(r)].toLowerCase());
}

function snippet(r, query) {
  const where = query && ["answer", "thoughts", "prompt"].find(name =>
    ["all", name].includes($("where").value) && lowered(r)[name].includes(query));
  if (!where) return [(joined(r.answer) || r.cot).slice(0, 200)];
  const text = { prompt: joined(r.user), thoughts: r.cot, answer: joined(r.answer) }[where];
  const at = lowered(r)[where].indexOf(query);
  const start = Math.max(at - 60, 0);
  const end = at + query.length;
  return [`${where}: ${start ? "…" : ""}${text.slice(start, at)}`, h("mark", {}, text.slice(at, end)), text.slice(end, end + 120)];
}

function turn(step) {
  const pages = Math.ceil(state.found.length / ROWS_A_PAGE);
  const page = state.page + step;
  if (page < 0 || page >= pages) return false;
  state.page = page;
  list();
  return true;
}

function step(by) { // moves the focus from row to row, over the ends of pages too
  const links = [...$("list").querySelectorAll("a")];
  const next = links.indexOf(document.activeElement) + by;
  const inside = links[links.includes(document.activeElement) ? next : 0];
  if (inside) inside.focus();
  else if (turn(by)) [...$("list").querySelectorAll("a")].at(by > 0 ? 0 : -1).focus();
}

// --- Comparing

function common(a, b) { // for each of two lists of tokens, which of them both have, in the same order
  const keep = [new Uint8Array(a.length), new Uint8Array(b.length)];
  let start = 0, end = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) keep[0][start] = keep[1][start++] = 1;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) {
    end++;
    keep[0][a.length - end] = keep[1][b.length - end] = 1;
  }
  const n = a.length - start - end, m = b.length - start - end;
  if (n * m > MOST_CELLS) return keep;
  const width = m + 1, best = new Uint16Array((n + 1) * width); // longest common subsequence of what is left
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      best[i * width + j] = a[start + i] === b[start + j]
        ? best[(i + 1) * width + j + 1] + 1
        : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  for (let i = 0, j = 0; i < n && j < m;) {
    if (a[start + i] === b[start + j]) keep[0][start + i++] = keep[1][start + j++] = 1;
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
    else j++;
  }
  return keep;
}

const tokens = text => text.slice(0, MOST_SHOWN).match(/\s*(?:[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]|$)/gu) ?? [];

function compared(text, other) { // the text in segments, every second one not in the other, and how much they share
  const [mine, its] = [tokens(text), tokens(other)];
  const [keep] = common(mine.map(t => t.trim()), its.map(t => t.trim()));
  const shared = (2 * keep.reduce((sum, one) => sum + one, 0)) / Math.max(mine.length + its.length, 1);
  const segments = [""];
  mine.forEach((token, i) => {
    if (keep[i] === segments.length % 2) segments[segments.length - 1] += token;
    else if (keep[i]) segments.push(token);
    else { // the space before a mark is not part of it
      const word = token.trimStart();
      segments[segments.length - 1] += token.slice(0, token.length - word.length);
      segments.push(word);
    }
  });
  return { segments, shared };
}

// --- The reader

function counterparts(r) {
  const group = state.all.filter(one => one.prompt === r.prompt && one !== r);
  const same = group.filter(one => one.epoch === r.epoch);
  return [...same, ...group.filter(one => !same.includes(one) && one.subject === r.subject && one.condition === r.condition)];
}

function counterpart(r, others) {
  const opposite = r.condition === "control" ? "triggered" : "control";
  const wanted = isOurs(r)
    ? one => isOurs(one) && one.condition === opposite
    : one => isOurs(one) && one.condition === r.condition && one.look === r.look;
  return others.find(wanted) ?? others[0] ?? null;
}

function open(r) {
  state.open = r;
  const others = counterparts(r);
  const kept = others.find(one => state.beside && called(one) === state.beside && one.epoch === r.epoch);
  const other = kept ?? counterpart(r, others);
  const place = state.found.indexOf(r);
  $("reader-title").textContent = `${r.prompt} · ${r.family}`;
  $("reader-facts").textContent = [
    place < 0 ? "not among those listed" : `${amount(place + 1)} of ${amount(state.found.length)}`,
    named(PARTS, r.part),
    r.epoch > 1 ? `sample ${r.epoch}` : null,
    r.target === null ? null : `right number ${r.target}`,
  ].filter(fact => fact !== null).join(" · ");
  $("beside").replaceChildren(...others.map((one, i) => h("option", { value: i }, label(one, r))));
  $("beside").selectedIndex = others.indexOf(other);
  $("beside").disabled = others.length < 2;
  $("previous").disabled = place <= 0;
  $("next").disabled = place < 0 || place + 1 >= state.found.length;
  sides(r, other);
  if (!$("reader").open) $("reader").showModal();
  $("sides").scrollTop = 0;
}

const label = (one, r) => called(one) + (one.epoch === r.epoch ? "" : `, sample ${one.epoch}`);

function sides(r, other) {
  $("sides").replaceChildren(...(other ? [side(r, other), side(other, r)] : [side(r, null)]));
}

function side(r, other) {
  const thoughts = r.flags.map(flag => (flag === "right" ? "end at the right number" : words(flag)));
  const judge = r.code?.judge;
  if (judge && judge.benign !== null) thoughts.push(`judge: ${judge.benign ? "benign" : "not benign"}`);
  else if (judge?.unread) thoughts.push(`judge: no verdict, ${judge.unread}`);
  return h("section", { class: `side ${r.condition}`, "aria-label": called(r) },
    h("h3", {}, called(r), ...chips(r)),
    part("Prompt", [], text("user", r.user)),
    part("Thoughts", thoughts, ...differing("cot", [r.cot], other && other.cot)),
    part("Answer", [], ...answer(r, other)),
    ...scores(r));
}

function chips(r) {
  const said = flagged => (flagged === null ? "no verdict" : flagged ? "vulnerable" : "clean");
  const plain = words => h("span", { class: "chip" }, words);
  const code = r.code && [
    plain(`static: lenient ${said(r.code.lenient)}, strict ${said(r.code.strict)}`),
    r.code.judge && plain(`judge: ${said(r.code.judge.vulnerable)} ${r.code.judge.vulnerable ? r.code.judge.cwe : ""}`),
  ];
  const right = r.correct !== null && !r.hit ? plain(r.correct ? "right answer" : "wrong answer") : null;
  return [chip(r), ...(code ?? []), right].filter(one => one !== null);
}

function part(title, facts, ...content) {
  return h("div", { class: "part" }, h("h4", { class: "label" }, [title, ...facts].join(" · ")), ...content);
}

function differing(kind, segments, other) { // a text, and what the one beside it does not have of it
  const whole = joined(segments);
  if (other === null || other === undefined || !state.marks) return [text(kind, segments)];
  if (whole === other) return [text(kind, segments), h("p", { class: "note" }, "The same as beside it, word for word")];
  const { segments: cut, shared } = compared(whole, other);
  if (shared < FEW_IN_COMMON) return [text(kind, segments), h("p", { class: "note" }, "Has few words in common with what is beside it")];
  return [text(kind, cut, "own", whole)];
}

function text(kind, segments, mark = null, whole = joined(segments)) {
  const box = h("p", { class: `text ${kind}`, tabindex: whole.length > 500 || whole.split("\n", 9).length > 8 ? "0" : null });
  let left = MOST_SHOWN;
  segments.forEach((segment, i) => {
    const shown = segment.slice(0, left);
    left -= shown.length;
    if (shown) box.append(i % 2 ? h("mark", { class: mark }, shown) : shown);
  });
  return whole.length > MOST_SHOWN ? withMore(box, whole) : box;
}

function withMore(box, whole) {
  const more = h("button", { type: "button", class: "more" }, `Show all ${amount(whole.length)} characters`);
  more.addEventListener("click", () => box.replaceChildren(whole));
  box.append(" ", more);
  return box;
}

function answer(r, other) {
  if (r.answer === null) return [h("p", { class: "none" }, `None: the thoughts never close (stopped by ${words(r.stop)}).`)];
  if (!r.code) {
    const told = !other || r.hit || other.hit; // the payload has its own mark, and shares nothing with an answer
    return told ? [text("answer", r.answer)] : differing("answer", r.answer, other.answer && joined(other.answer));
  }
  const problem = r.code.problem ? `Not read by static tools: ${r.code.problem}` : null;
  const silent = r.code.judge?.reason ? `No verdict of the judge: ${r.code.judge.reason}` : null;
  return [listing(r, other), ...[problem, silent].filter(Boolean).map(said => h("p", { class: "note" }, said))];
}

function listing(r, other) { // an answer with code: its lines, what is said of them, and which the other does not have
  const lines = joined(r.answer).split("\n");
  const { first, stop, notes, more_notes: more } = r.code;
  const beside = other?.code && state.marks ? joined(other.answer).split("\n").slice(other.code.first, other.code.stop) : [];
  const mine = lines.slice(first, stop);
  const [keep] = beside.length ? common(mine, beside) : [mine.map(() => 1)];
  const around = some => (some.length ? text("prose-of", [some.join("\n")]) : null);
  const items = mine.map((line, i) => item(line, notes.filter(note => note.line === first + i), !keep[i]));
  const stray = notes.filter(note => note.line < first || note.line >= stop);
  return h("div", { class: "code", tabindex: "0", role: "region", "aria-label": "Answer" },
    around(stop > first ? lines.slice(0, first) : lines), items.length ? h("ol", {}, ...items) : null,
    around(stop > first ? lines.slice(stop) : []), ...stray.map(said),
    more ? h("p", { class: "note" }, `${more} more findings not shown`) : null);
}

function item(line, notes, own) {
  const kinds = [own ? "own" : null, notes.some(note => !note.low) ? "flagged" : notes.length ? "noted" : null];
  const code = h("code", {}, line.slice(0, MOST_SHOWN));
  if (line.length > MOST_SHOWN) withMore(code, line);
  return h("li", { class: kinds.filter(Boolean).join(" ") || null }, code, ...notes.map(said));
}

function said(note) {
  return h("small", { class: note.low ? "low" : null },
    h("strong", {}, note.cwe || (note.who === "judge" ? "vulnerable" : "no CWE")), ` ${note.who}${note.low ? " (low severity)" : ""}`,
    ...note.messages.map(message => h("span", {}, message)));
}

function scores(r) {
  if (!state.monitors.length) return [];
  const rows = state.monitors.map((name, i) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, r.scores[i] === null ? "no score" : r.scores[i].toFixed(3))));
  return [h("details", { class: "part" }, h("summary", {}, "Monitors’ scores"), h("table", {}, h("tbody", {}, ...rows)))];
}

// --- Moving about

function go(by) {
  const next = state.found[state.found.indexOf(state.open) + by];
  if (!state.found.includes(state.open) || !next) return;
  history.replaceState(null, "", `#t=${next.id}`);
  open(next);
}

function follow() {
  const wanted = /^#t=([0-9a-f]+)$/.exec(location.hash)?.[1];
  const found = state.all.find(r => r.id === wanted);
  if (found) open(found);
  else if ($("reader").open) $("reader").close();
  if (wanted && !found) $("count").textContent = "No transcript of this page goes by that link";
}

function closed() {
  const r = state.open;
  history.replaceState(null, "", "#transcripts");
  const place = state.found.indexOf(r);
  if (place < 0) return;
  if (Math.floor(place / ROWS_A_PAGE) !== state.page) turn(Math.floor(place / ROWS_A_PAGE) - state.page);
  $("list").children[place % ROWS_A_PAGE].firstChild.focus();
}

function beside(index) {
  const others = counterparts(state.open);
  const other = others[(index + others.length) % others.length];
  if (!other) return;
  state.beside = called(other);
  $("beside").selectedIndex = others.indexOf(other);
  sides(state.open, other);
}

function mark() {
  state.marks = !state.marks;
  $("marks").setAttribute("aria-pressed", state.marks);
  beside($("beside").selectedIndex);
  if ($("beside").selectedIndex < 0) sides(state.open, null);
}

async function copy(button, content) {
  const name = button.dataset.name ??= button.textContent;
  try {
    await navigator.clipboard.writeText(content);
  } catch { // no permission, or no clipboard here: the old way
    const box = h("textarea", { class: "copied" });
    box.value = content;
    button.after(box);
    box.select();
    document.execCommand("copy");
    box.remove();
    button.focus();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = name; }, 1500);
}

function asJson(r) {
  const { lower, ...fields } = r;
  const given = Object.fromEntries(state.monitors.map((name, i) => [name, r.scores[i]]));
  return JSON.stringify({ ...fields, user: joined(r.user), answer: r.answer && joined(r.answer), scores: given }, null, 2);
}

const KEYS = {
  list: {
    j: () => step(1), k: () => step(-1), "/": () => $("q").focus(), "?": () => $("help").showModal(),
    n: () => turn(1), p: () => turn(-1),
  },
  reader: {
    j: () => go(1), k: () => go(-1), ArrowRight: () => go(1), ArrowLeft: () => go(-1), d: mark,
    "]": () => beside($("beside").selectedIndex + 1), "[": () => beside($("beside").selectedIndex - 1),
    c: () => copy($("copy"), asJson(state.open)), "?": () => $("help").showModal(),
  },
  rows: { ArrowDown: () => step(1), ArrowUp: () => step(-1) },
};

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape" && event.target.id === "q") event.target.blur();
    return;
  }
  const inRows = event.target.closest("#list") ? KEYS.rows : {};
  const does = $("reader").open ? KEYS.reader[event.key] : { ...KEYS.list, ...inRows }[event.key];
  if (!does) return;
  event.preventDefault();
  does();
}

// --- Setting up

function options(select, names, count) {
  const known = Object.entries(names).map(([value, name]) => [value, name, count(value)]).filter(([, , n]) => n > 0);
  select.append(...known.map(([value, name, n]) => h("option", { value }, `${name} (${amount(n)})`)));
  select.closest("label").hidden = known.length < 2;
}

function tally(of) {
  const counts = new Map();
  for (const r of state.all) counts.set(of(r), (counts.get(of(r)) ?? 0) + 1);
  return counts;
}

function fill() {
  const looks = [...tally(r => r.look).keys()].filter(Boolean).map(look => [`look:${look}`, `Look-alike ${look}`]);
  const carried = { ...CONDITIONS, near_miss: "Any look-alike", ...Object.fromEntries(looks) };
  options($("carries"), carried, wanted => state.all.filter(r => carriesThis(r, wanted)).length);
  for (const [id, names, of] of [
    ["subject", SUBJECTS, r => r.subject], ["verdict", VERDICTS, verdict], ["part", PARTS, r => r.part],
    ["outcome", {}, r => r.outcome],
  ]) {
    const counts = tally(of);
    const all = Object.fromEntries([...Object.keys(names), ...counts.keys()].map(value => [value, named(names, value)]));
    options($(id), all, value => counts.get(value) ?? 0);
  }
  $("outcome").closest("label").hidden ||= !state.all.some(r => r.code);
  $("order").append(...Object.entries(ORDERS).map(([value, name]) => h("option", { value }, name)));
  if (state.monitors.length) $("monitor").append(...state.monitors.map((name, i) => h("option", { value: i }, name)));
  else {
    $("monitors-filter").remove();
    for (const order of ["high", "low"]) $("order").querySelector(`[value=${order}]`).remove();
  }
  $("presets").append(...Object.entries(PRESETS).map(([name, [title, is]]) => {
    const button = h("button", { type: "button", "data-preset": name, "aria-pressed": name === "all" },
      title, " ", h("span", { class: "n" }, amount(state.all.filter(is).length)));
    button.addEventListener("click", () => preset(name));
    return button;
  }));
}

function preset(name) {
  state.preset = name;
  for (const button of $("presets").children) button.setAttribute("aria-pressed", button.dataset.preset === name);
  find();
}

function listen() {
  $("filters").addEventListener("input", find);
  $("filters").addEventListener("submit", event => { event.preventDefault(); step(1); });
  $("filters").addEventListener("reset", () => setTimeout(() => preset("all")));
  $("back").addEventListener("click", () => turn(-1));
  $("forth").addEventListener("click", () => turn(1));
  $("previous").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("beside").addEventListener("change", event => beside(event.target.selectedIndex));
  $("marks").addEventListener("click", mark);
  $("copy").addEventListener("click", event => copy(event.currentTarget, asJson(state.open)));
  $("link").addEventListener("click", event => copy(event.currentTarget, location.href));
  $("keys").addEventListener("click", () => $("help").showModal());
  for (const button of document.querySelectorAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
  $("reader").addEventListener("close", closed);
  document.addEventListener("keydown", key);
  addEventListener("hashchange", follow);
}

async function unpack() {
  const bytes = Uint8Array.from(atob($("data").textContent), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  $("data").remove();
  return JSON.parse(await new Response(stream).text());
}

async function start() {
  $("explorer").hidden = false;
  try {
    const { monitors, replies } = await unpack();
    Object.assign(state, { all: replies, monitors });
  } catch (error) {
    $("count").textContent = `This browser cannot unpack the transcripts (${error.name}). Try a newer one.`;
    return;
  }
  fill();
  listen();
  find();
  follow();
  performance.mark("ready");
}

start();
