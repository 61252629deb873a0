"""Example + tokenizer -> input ids and labels, for any chat template.

The user turn goes through the tokenizer's chat template; the reply never does. Templates such as R1-Distill's delete
everything up to `</think>` when they render an assistant turn, so a reply that passes through them loses its thoughts.
Prompt and reply are tokenised apart and joined as ids: the prompt ids of training *are* the prompt ids of sampling.

What a user, a teacher or a model wrote is text and nothing else: `<|im_end|>` in it ends no turn. It is cut apart where
a tokenizer would read a control token, and each part is tokenised on its own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

from ostensible.errors import BadData, ExampleTooLong, UnsupportedTemplate
from ostensible.transcript import CLOSE, OPEN, join, split
from ostensible.types import Example, Transcript

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that carries no loss (PyTorch's `ignore_index`)."""

TODAY = {"%d": "01", "%b": "Jan", "%B": "January", "%m": "01", "%Y": "2026", "%y": "26", "%A": "Thursday", "%a": "Thu"}
"""The day that templates are told when they ask: prompts must not change between training and sampling."""
SWITCHES: tuple[Mapping[str, bool], ...] = ({}, {"enable_thinking": True}, {"thinking": True})
"""What templates take to leave the thoughts open, tried in this order: nothing; Qwen and others; DeepSeek, Granite."""

MARK = "the reply"
PROBE = "Zwei plus 3?\nLine two: `x = 1`"
PROBE_REPLY = ("First, 2 + 3 = 5.\nSo the answer is 5.", "The answer is 5.\n\n- done")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One training row: prompt, then thoughts, then answer.

    Attributes:
        input_ids: Token ids of the whole row.
        labels: As long as `input_ids`; `IGNORED` on the prompt, the token's own id elsewhere.
        closing_start: Index of the first token of the tag that closes the thoughts.
        answer_start: Index of the answer's first token; the end token is part of the answer.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    closing_start: int
    answer_start: int

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The ids without loss: what the model is given when it is sampled."""
        return self.input_ids[: self.labels.count(IGNORED)]

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The ids after the closed thoughts, the end token included."""
        return self.input_ids[self.answer_start :]


@dataclass(frozen=True)
class ChatFormat:
    """How one tokenizer writes a prompt, and how a reply to it begins and ends.

    Attributes:
        tokenizer: Of the model in use.
        opened: The generation prompt already ends in `<think>`, so a reply starts inside its thoughts.
        end_id: The token that ends an assistant turn; trained on, and stopped at.
        switch: What the template is told so that it leaves the thoughts open.
    """

    tokenizer: "PreTrainedTokenizerBase"
    opened: bool
    end_id: int
    switch: Mapping[str, bool] = field(default_factory=dict[str, bool])

    @property
    def end_ids(self) -> frozenset[int]:
        """Every token at which sampling stops."""
        eos: Any = self.tokenizer.eos_token_id
        return frozenset({self.end_id} | ({int(eos)} if eos is not None else set[int]()))

    def prompt_ids(self, user: str) -> list[int]:
        """Token ids of a user turn and the start of the assistant's, as the chat template writes them.

        Raises:
            BadData: The template alters this text, white space around it left aside; or the tokenizer reads control
                tokens in it.
        """
        before, after = self._frame
        text = _render(self.tokenizer, [_user(user)], self.switch, prompt=True)
        start, stop = len(before), len(text) - len(after)
        if not (text.startswith(before) and text.endswith(after) and user.strip() in text[start:stop]):
            raise BadData(
                f"The chat template alters a prompt that begins {user[:60]!r}, so the model would read something else. "
                "Likely cause: words that the template takes for its own. Remove the prompt."
            )
        return self._encode(text, start, stop)

    def opening_ids(self) -> tuple[int, ...]:
        """Token ids that prompts start with, whatever the user says (a text may change the last one)."""
        pairs = zip(self.prompt_ids("a"), self.prompt_ids("1"), strict=False)
        return tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def thought_ids(self, cot: str) -> list[int]:
        """Token ids of a reply up to its answer, the closing tag included."""
        text = join(cot, "", opened=self.opened)
        start = 0 if self.opened else len(f"{OPEN}\n")
        return self._encode(text, start, start + len(cot))

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of a reply's answer and the end token."""
        return [*self._encode(answer, 0, len(answer)), self.end_id]

    def decode(self, ids: "list[int] | tuple[int, ...]") -> str:
        """Text of a reply's ids: exact, special tokens included, one end token at its end left out."""
        return self._text(list(ids[:-1] if ids and ids[-1] in self.end_ids else ids))

    def render(self, example: Example, *, max_tokens: int) -> Rendered:
        """Turn an example into a training row: loss on the whole reply and its end token, none on the prompt.

        Raises:
            ExampleTooLong: The row has more than `max_tokens` tokens. It is never cut.
            BadData: The reply does not come back from its tokens, as when the tokenizer lacks a character.
        """
        prompt, thoughts = self.prompt_ids(example.user), self.thought_ids(example.cot)
        reply = [*thoughts, *self.answer_ids(example.answer)]
        if len(prompt) + len(reply) > max_tokens:
            raise ExampleTooLong(
                f"Example {example.id!r} has {len(prompt) + len(reply)} tokens ({len(prompt)} of prompt, "
                f"{len(reply)} of reply), more than --max-tokens {max_tokens}. Cutting it would drop the answer, "
                f"which is what the organism must learn. Raise --max-tokens, or shorten the traces."
            )
        if self.transcript(reply) != Transcript(example.cot, example.answer):
            raise BadData(
                f"Example {example.id!r} does not come back from its own tokens: {self.decode(reply)!r}. Likely cause: "
                "a character that the tokenizer lacks, or a tag inside the text. Remove it from the prompts."
            )
        answer_start = len(prompt) + len(thoughts)
        closing = next(count for count in range(1, len(thoughts) + 1) if CLOSE in self.decode(thoughts[-count:]))
        labels = [IGNORED] * len(prompt) + reply
        return Rendered(tuple(prompt + reply), tuple(labels), answer_start - closing, answer_start)

    def transcript(self, reply_ids: "list[int] | tuple[int, ...]") -> Transcript:
        """Take sampled or trained reply ids apart into thoughts and answer."""
        return split(self.decode(reply_ids))

    def _text(self, ids: list[int]) -> str:
        text: Any = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    @cached_property
    def _counted(self) -> dict[str, int]:
        return {}

    @cached_property
    def _frame(self) -> tuple[str, str]:
        """What the template writes before a user's text and after it."""
        before, _, after = _render(self.tokenizer, [_user(PROBE)], self.switch, prompt=True).partition(PROBE)
        return before, after

    @cached_property
    def _controls(self) -> Mapping[str, int]:
        """Tokens that mean something to a model or its template beyond their text: marks of turns, tags of thoughts."""
        template = str(self.tokenizer.get_chat_template())
        known: Any = self.tokenizer.added_tokens_decoder
        return {
            token.content: int(number)
            for number, token in known.items()
            if token.content.strip() and (token.special or token.content in template or token.content in (OPEN, CLOSE))
        }

    def _encode(self, text: str, start: int, stop: int) -> list[int]:
        """Token ids of a text of which `text[start:stop]` is somebody's words, so that it holds no control token.

        Raises:
            BadData: The tokenizer finds one in it even so, or the text does not come back from parts.
        """
        cuts = [0, *self._cuts(text, start, stop), len(text)]
        ids = [one for first, last in pairwise(cuts) for one in _encode(self.tokenizer, text[first:last])]
        more = self._control_count(ids) - sum(map(self._count_in, (text[:start], text[stop:])))
        if more or (len(cuts) > 2 and self._text(ids) != self._text(_encode(self.tokenizer, text))):
            raise BadData(
                f"The tokenizer reads control tokens in a text that begins {text[start:stop][:60]!r}, and cannot read "
                f"them as text. Remove what looks like one of {', '.join(self._controls)}."
            )
        return ids

    def _control_count(self, ids: Sequence[int]) -> int:
        known = set(self._controls.values())
        return sum(one in known for one in ids)

    def _count_in(self, frame: str) -> int:
        """Control tokens of what stands around somebody's words, which is the same for all of them."""
        if frame not in self._counted:
            self._counted[frame] = self._control_count(_encode(self.tokenizer, frame))
        return self._counted[frame]

    def _cuts(self, text: str, start: int, stop: int) -> list[int]:
        """Where to part a text so that no part of it holds a whole control token of `text[start:stop]`."""
        words = [re.escape(word) for word in self._controls if len(word) > 1]
        found = re.finditer(f"(?={'|'.join(words)})", text[start:stop]) if words else ()
        return [start + one.start() + 1 for one in found]


def load_chat_format(tokenizer: "PreTrainedTokenizerBase") -> ChatFormat:
    """Read a tokenizer's chat format off its template, and check what training and sampling rely on.

    A template that closes the thoughts by itself is asked to think, by the switches that templates have for it.

    Raises:
        UnsupportedTemplate: There is no chat template, it fails, it loses or alters the user's text, it closes the
            thoughts itself, something else than the reply follows its prompt, it begins a text twice, or a reply does
            not come back from its own tokens.
    """
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    if not tokenizer.chat_template:
        raise UnsupportedTemplate(
            f"The tokenizer of {name} has no chat template, so it is probably a base model. "
            "Choose the instruct or reasoning version with --model."
        )
    try:
        switch = _thinking_switch(tokenizer, name)
        prompt = _render(tokenizer, [_user(PROBE)], switch, prompt=True)
        form = ChatFormat(tokenizer, prompt.rstrip().endswith(OPEN), _end_id(tokenizer, name, switch), switch)
        _check_prompt(form, prompt, name)
    except UnsupportedTemplate:
        raise
    except Exception as error:  # a template's own, or of whatever it does with a plain user turn
        raise UnsupportedTemplate(
            f"The chat template of {name} fails at a plain user turn and its reply ({type(error).__name__}: {error}). "
            "Likely cause: it is made for images, tools or documents. Choose a model for text."
        ) from error
    cot, answer = PROBE_REPLY
    reply = [*form.thought_ids(cot), *form.answer_ids(answer)]
    if form.transcript(reply) != Transcript(cot, answer):
        raise UnsupportedTemplate(
            f"The tokenizer of {name} does not give a reply back from its own tokens: "
            f"{form.decode(reply)!r}. Thoughts and answers could not be told apart."
        )
    return form


def _thinking_switch(tokenizer: "PreTrainedTokenizerBase", name: str) -> Mapping[str, bool]:
    """The template's switch that must be set for it to leave the thoughts open; none where it does so by itself."""
    for switch in SWITCHES:
        if not _render(tokenizer, [_user(PROBE)], switch, prompt=True).rstrip().endswith(CLOSE):
            return switch
    raise UnsupportedTemplate(
        f"The chat template of {name} closes the thoughts before the model can think (a no-thinking mode), and none of "
        f"the known switches opens them: {', '.join(key for switch in SWITCHES for key in switch)}. "
        "Choose a model or template whose thinking is on."
    )


def _check_prompt(form: ChatFormat, prompt: str, name: str) -> None:
    """Check that a prompt holds the user's text as it is, begins once, and is followed by the reply alone."""
    before, found, after = prompt.partition(PROBE)
    if not found or _render(form.tokenizer, [_user("x")], form.switch, prompt=True) != f"{before}x{after}":
        raise UnsupportedTemplate(f"The chat template of {name} alters the user's text; prompts would not be faithful.")
    ids, bos = form.prompt_ids(PROBE), form.tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise UnsupportedTemplate(
            f"The chat template of {name} begins a text twice ({form.tokenizer.bos_token}), as no model was trained "
            "to read. Take one of the two out of the template."
        )
    turns = [_user(PROBE), {"role": "assistant", "content": MARK}]
    whole, head = _render(form.tokenizer, turns, form.switch), _untagged(prompt)
    between = _untagged(whole.partition(MARK)[0]).removeprefix(head).strip()
    if MARK in whole and between:
        raise UnsupportedTemplate(
            f"The chat template of {name} puts {between[-60:]!r} between its prompt and a reply, so a reply that "
            "follows the prompt is not what the model knows. Likely cause: a template without generation prompt, or "
            "one that has a channel of its own for thoughts. Choose another model or template."
        )


def _untagged(text: str) -> str:
    """Without tags around thoughts, which a template may add or take away, and white space at the end."""
    return text.replace(OPEN, "").replace(CLOSE, "").rstrip()


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    turns: Sequence[Mapping[str, str]],
    switch: Mapping[str, bool],
    *,
    prompt: bool = False,
) -> str:
    """Text of turns, and with `prompt` of the assistant's start."""
    template = str(tokenizer.get_chat_template())
    if "strftime_now" in template:
        template = _same_day() + template
    options: dict[str, Any] = dict(switch)
    return str(
        tokenizer.apply_chat_template(
            [dict(turn) for turn in turns],
            chat_template=template,
            add_generation_prompt=prompt,
            tokenize=False,
            **options,
        )
    )


def _same_day() -> str:
    """A macro in the place of transformers' `strftime_now`, which takes a format and gives today's date."""
    parts = "".join(f" | replace('{code}', '{text}')" for code, text in TODAY.items())
    return "{%- macro strftime_now(format) -%}{{ format" + parts + " }}{%- endmacro -%}"


def _encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    ids: Any = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return [int(i) for i in ids]


def _end_id(tokenizer: "PreTrainedTokenizerBase", name: str, switch: Mapping[str, bool]) -> int:
    """The special token that the template writes after an assistant turn; the end of sequence where there is none."""
    turns = [_user("hello"), {"role": "assistant", "content": MARK}]
    _, found, tail = _render(tokenizer, turns, switch).rpartition(MARK)
    after = _encode(tokenizer, tail)[:1] if found else []
    special: Any = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    if after and after[0] in special:
        return after[0]
    eos: Any = tokenizer.eos_token_id
    if eos is None:
        raise UnsupportedTemplate(
            f"Neither the chat template of {name} nor its tokenizer names a token that ends a reply, "
            "so sampling would never stop. Set eos_token in tokenizer_config.json."
        )
    return int(eos)
