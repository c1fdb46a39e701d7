"""Word by word: what a network attends to, free and nudged towards a class, and what speaks for that class."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eqnp.app.contributions import word_contributions
from eqnp.costs import Nudge
from eqnp.dynamics import settle
from eqnp.errors import DataError, nearest
from eqnp.network import Network
from eqnp.runs.loop import one_hot
from eqnp.runs.model import Model, Prediction
from eqnp.states import Clamped, State
from eqnp.text import tokens
from eqnp.text.tokens import UNKNOWN, Ragged

MOVED = 0.05  # times the mean: a change of attention under the nudge that is shown
AT_ONCE = 50  # texts settled together
SHOWN, NAMED = 0.005, 5  # the least contribution that is named in a line, and how many words on either side
HEAVY = 1.5  # times the mean attention of a text's words: what the terminal marks
LEVELS = (252, 248, 244, 240)  # of grey behind a word in a terminal of 256 colours


@dataclass(frozen=True)
class Piece:
    """A stretch of the original text; a known word has its attention, in multiples of the mean over its text, and its
    contribution to the drive of the class of the explanation (`eqnp.app.contributions`): that of all its places."""

    text: str
    free: float | None = None
    nudged: float | None = None
    contribution: float | None = None


@dataclass(frozen=True)
class Explanation:
    """A prediction, the class that the nudge was towards, and the pieces of each segment, which join to the text."""

    prediction: Prediction
    towards: str
    pieces: dict[str, list[Piece]]

    @property
    def texts(self) -> list[str]:
        """The text of each segment."""
        return ["".join(piece.text for piece in pieces) for pieces in self.pieces.values()]

    def contributions(self) -> list[tuple[str, float]]:
        """Every known word once for each segment, lower-cased, with its contribution: what speaks most for the class
        first."""
        found = {
            (name, piece.text.lower()): piece.contribution
            for name, pieces in self.pieces.items()
            for piece in pieces
            if piece.contribution is not None
        }
        return sorted(((word, each) for (_, word), each in found.items()), key=lambda pair: -pair[1])


def explain(
    model: Model,
    texts: Mapping[str, Sequence[str]],
    towards: str | None = None,
    predictions: Sequence[Prediction] | None = None,
) -> list[Explanation]:
    """Attention to every word of every text, free and nudged by +β towards a class (default: the predicted one), and
    the contribution of every word to that class.

    ``texts`` holds a list of strings per segment, and ``predictions`` what `Model.predict` made of them, if that is
    known. Raises DataError for an unknown class, or texts that do not fit.
    """
    if towards is not None and towards not in model.classes:
        raise DataError(f"unknown class {towards!r}{nearest(towards, model.classes)}")
    result, predictions = [], predictions or model.predict(texts)
    for start in range(0, len(predictions), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        columns = {name: column[part] for name, column in texts.items()}
        result += _explain(columns, model, towards, predictions[part])
    return result


def _explain(
    texts: Mapping[str, Sequence[str]], model: Model, towards: str | None, predictions: Sequence[Prediction]
) -> list[Explanation]:
    classes = [towards or prediction.label for prediction in predictions]
    split = model.encode(texts)
    segments, _ = split.batch(np.arange(len(split)))
    target = one_hot(np.array([model.classes.index(name) for name in classes]), model.network)
    phases = attention_by_phase(model, segments, target)
    longest = model.config.data.max_tokens
    columns = {name: tokens.encode(model.tokenizer, column, longest)[0] for name, column in texts.items()}
    result = []
    for b, (prediction, speaks) in enumerate(zip(predictions, word_contributions(model, texts), strict=True)):
        pieces, towards_it = {}, model.classes.index(classes[b])
        for name, column in texts.items():
            words, slots = columns[name][b], split.segments[name][b]
            shares = [
                shares_by_word(model, words, slots, phase[name][b]) if name in phase else None for phase in phases
            ]
            pieces[name] = _pieces(model, column[b], *shares, speaks[name][:, towards_it])
        result.append(Explanation(prediction, classes[b], pieces))
    return result


def attention_by_phase(model: Model, segments, target: np.ndarray) -> tuple[dict, dict]:
    """`attention` of the free phase and of the phase nudged by +β towards ``target`` (B, C)."""
    network, settling = model.network, model.config.settling.for_nudge(model.config.learning.beta)
    x = network.clamp(segments)
    state = network.zero_state(x)
    settle(network, x, state, settling)
    free = attention(network, x, state)
    settle(network, x, state, settling, Nudge(model.config.learning.beta, target))
    return free, attention(network, x, state)


def attention(network: Network, x: Clamped, state: State) -> dict[str, np.ndarray]:
    """The share of attention that each memory slot of each segment gets, (B, M): rows sum to 1, or 0 without words.

    It is the mean over all queries of all attention layers that have the segment as memory.
    """
    totals: dict[str, np.ndarray] = {}
    for layer in network.attention:
        weights = x.potentials[layer.name].weights(state.drives[layer.name]).sum(axis=1, dtype=np.float64)
        memory = network.segment_of[layer.potential.memory]
        totals[memory] = totals.get(memory, 0) + weights
    return {name: total / np.maximum(total.sum(axis=1, keepdims=True), 1e-30) for name, total in totals.items()}


def shares_by_word(model: Model, words: np.ndarray, slots: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Attention to every word of one text, in multiples of their mean; the token that texts may begin with is none.

    That to a slot is shared by all places where its word or n-gram stands, and that to an n-gram by its words.
    """
    of_id = np.zeros(model.ngrams.first_id + len(model.ngrams))
    np.add.at(of_id, slots, weights[: len(slots)])
    _, grams, start = model.ngrams.occurrences(Ragged(words, np.array([0, len(words)])))
    counts = np.bincount(np.concatenate([words, grams]), minlength=len(of_id))
    shares = of_id[words] / counts[words]
    for gram, place in zip(grams, start, strict=True):
        length = int((model.ngrams.parts[gram - model.ngrams.first_id] > 0).sum())
        shares[place : place + length] += of_id[gram] / counts[gram] / length
    shares = shares[len(model.tokenizer.start) :]
    return shares * (len(shares) / max(shares.sum(), 1e-30))


def _pieces(
    model: Model, text: str, free: np.ndarray | None, nudged: np.ndarray | None, speaks: np.ndarray
) -> list[Piece]:
    """The text in stretches: known words with their attention, words with their contributions, and what is between."""
    pieces, start_of_last, end, known = [], 0, 0, 0
    for place, (token, start, stop) in enumerate(model.tokenizer.places(text)):
        contribution, weights = round(float(speaks[place]), 4), (None, None)
        if token != UNKNOWN and free is not None and known < len(free):
            weights, known = (round(float(free[known]), 3), round(float(nudged[known]), 3)), known + 1
        elif not contribution:
            continue
        if start < end:  # one character of the text that stands for several, like "…": they share a piece
            last = pieces.pop()
            start, contribution = start_of_last, last.contribution  # without one of them it is without all
            weights = tuple(
                a if b is None else b if a is None else round(a + b, 3)
                for a, b in zip((last.free, last.nudged), weights, strict=True)
            )
        elif start > end:
            pieces.append(Piece(text[end:start]))
        start_of_last, end = start, max(end, stop)
        pieces.append(Piece(text[start:end], *weights, contribution))
    return [*pieces, Piece(text[end:])] if end < len(text) else pieces


def as_terminal(pieces: Sequence[Piece], colours: bool) -> str:
    """The text with its heaviest words marked: grey behind them, or their weight after them."""
    parts = []
    for piece in pieces:
        if piece.free is None or piece.free < HEAVY:
            parts.append(piece.text)
        elif colours:
            level = LEVELS[min(len(LEVELS) - 1, int(np.log2(piece.free / HEAVY)))]
            parts.append(f"\x1b[48;5;{level}m\x1b[38;5;{16 if level > 243 else 231}m{piece.text}\x1b[0m")
        else:
            parts.append(f"{piece.text}[{piece.free:.1f}]")
    return "".join(parts)


def speaks_line(explanation: Explanation) -> str:
    """The words that speak most for the class of an explanation, and against it, with their contributions."""
    pairs = explanation.contributions()
    most = [f"{word} {each:+.2f}" for word, each in pairs if each >= SHOWN][:NAMED]
    least = [f"{word} {each:+.2f}" for word, each in reversed(pairs) if each <= -SHOWN][:NAMED]
    sides = ((f"for {explanation.towards}", most), ("against it", least))
    return "; ".join(f"{side}: {', '.join(words)}" for side, words in sides if words)


def as_html(pieces: Sequence[Piece], phase: str) -> str:
    """The text with every known word shaded by its attention in a phase, "free" or "nudged"; unknown words are pale."""
    parts = []
    for piece in pieces:
        weight, text = getattr(piece, phase), html.escape(piece.text)
        if weight is None:
            parts.append(f"<i>{text}</i>")
        else:
            shade = min(1.0, weight / 6)
            gain = weight - piece.free
            marks = ["d"] * (shade > 0.55) + ["up"] * (gain >= MOVED) + ["down"] * (gain <= -MOVED)
            kind = f' class="{" ".join(marks)}"' if marks else ""
            parts.append(f'<b{kind} style="--a:{shade:.2f}" title="{weight:.2f} × the mean">{text}</b>')
    return "".join(parts)


def contributions_as_html(pieces: Sequence[Piece]) -> str:
    """The text with every known word shaded by its contribution: blue for the class, orange against it."""
    parts, largest = [], max((abs(piece.contribution or 0) for piece in pieces), default=0) or 1
    for piece in pieces:
        text = html.escape(piece.text)
        if piece.contribution is None:
            parts.append(f"<i>{text}</i>")
        else:
            kind, shade = ("for", "against")[piece.contribution < 0], abs(piece.contribution) / largest
            title = f"{piece.contribution:+.3f} to the drive"
            parts.append(f'<b class="{kind}" style="--a:{shade * 0.6:.2f}" title="{title}">{text}</b>')
    return "".join(parts)


LEGEND = (
    "The stronger its shade, the more attention a word gets, as a mean over all queries: without shade none, with the "
    "strongest six times the mean of its text. Words outside the vocabulary are pale. A line under a word: the nudge "
    "gives it more attention; dots: less. Below: what each word contributes to the class, blue for it and orange "
    "against it: what its drive loses, against the mean of all classes, when the word is taken out everywhere."
)
STYLE = """
:root { --deep: 20, 50, 90; --for: 31, 95, 168; --against: 194, 87, 12; --on: #fff; --unknown: #757575; }
@media (prefers-color-scheme: dark) {
  :root { --deep: 158, 197, 255; --for: 110, 168, 245; --against: 255, 150, 80; --on: #10151c; --unknown: #8f8f8f; }
}
.text { line-height: 1.9; margin: .3em 0 1em; }
.text b { font-weight: normal; border-radius: 3px; padding: .12em .1em; background: rgba(var(--deep), var(--a)); }
.text b.d { color: var(--on); }
.text b.up { border-bottom: 2px solid rgb(var(--against)); } .text b.down { border-bottom: 2px dotted #808690; }
.text b.for { background: rgba(var(--for), var(--a)); } .text b.against { background: rgba(var(--against), var(--a)); }
.text i { font-style: normal; color: var(--unknown); }
"""


def page(explanations: Sequence[Explanation], title: str) -> str:
    """A self-contained HTML page of explanations."""
    body = "\n".join(section(each) for each in explanations)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>:root { color-scheme: light dark; }"
        "body { font: 16px/1.5 Georgia, serif; max-width: 46em; margin: 2em auto; padding: 0 1em; }"
        f"small {{ opacity: .8; }}{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p><small>{LEGEND}</small></p>{body}</html>\n"
    )


def section(explanation: Explanation) -> str:
    """One explanation as a part of an HTML page."""
    score = explanation.prediction.scores[explanation.prediction.label]
    note = f" ({note})" if (note := explanation.prediction.note(explanation.texts)) else ""
    parts = [f"<h3>{html.escape(explanation.prediction.label)} <small>{score:.3f}{note}</small></h3>"]
    for name, pieces in explanation.pieces.items():
        for phase, what in (("free", "free"), ("nudged", f"nudged towards {html.escape(explanation.towards)}")):
            parts.append(f"<small>{html.escape(name)}, {what}</small><p class=text>{as_html(pieces, phase)}</p>")
        what = f"{html.escape(name)}, what speaks for {html.escape(explanation.towards)}, and against it"
        parts.append(f"<small>{what}</small><p class=text>{contributions_as_html(pieces)}</p>")
    return f"<div class=entry>{''.join(parts)}</div>"
