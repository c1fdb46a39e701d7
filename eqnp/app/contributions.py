"""What speaks for a class: how much of its drive a word brings, or a memory slot, which is a word or an n-gram.

Of drives, those of the output before its activation, only differences decide; a class's is taken less the mean over all
classes. Of a few texts the contribution of a word is exact: the drive as it is, less the drive when the word is deleted
from the text, everywhere it stands in its segment, and the rest read anew. Of many texts that of every slot is taken to
first order: the derivative of the drive by the slot's presence p, where attention weighs slots by p exp(κ⟨u, x⟩), and a
mean over tokens and the votes of features by p. It is itself a contrast of two nudged phases (`ClassDrive`): of the
attention that a slot gets, over 2βκ, and of what its row or its vote feeds a layer above. Where slots see windows, and
with them other words than their own, it is the exact contribution of words, of fewer texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eqnp.architecture import build_network
from eqnp.costs import Cost, Nudge
from eqnp.dynamics import settle
from eqnp.network import EMBEDDING, Network
from eqnp.runs.loop import free_outputs
from eqnp.runs.model import Model
from eqnp.states import Clamped, State
from eqnp.synapses import Mean
from eqnp.text.store import Split, bucketed
from eqnp.text.tokens import UNKNOWN
from eqnp.votes import features_of

AT_ONCE = 25  # texts settled together
MOST_TEXTS, MOST_EXACT = 10_000, 2000  # that a table of words is made of, and one of exact contributions
LEAST, LEAST_SHARE = 20, 200  # texts that a slot must stand in: 20, of few texts a 200th of them, but two


class ClassDrive(Cost):
    """C = −⟨y, a⟩ of the drive a: Λ_β(a) = Λ(a) + β⟨y, a⟩, for any β. What changes it changes a drive, not a score."""

    name = "class drive"

    def betas(self, potential) -> tuple[float, float]:
        """Any."""
        return -np.inf, np.inf

    def nudged_state(self, potential, drive: np.ndarray, nudge: Nudge) -> np.ndarray:
        """∇Λ(a) + β y."""
        return potential.state(drive) + drive.dtype.type(nudge.beta) * nudge.target

    def nudged_value(self, potential, drive: np.ndarray, nudge: Nudge) -> np.ndarray:
        """Λ(a) + β⟨y, a⟩ per sample."""
        return potential.value(drive) + nudge.beta * (drive * nudge.target).sum(axis=1)


def class_drives(model: Model, split: Split) -> np.ndarray:
    """The drive of every class in the free state, less the mean over the classes, (n, C)."""
    drives = free_outputs(model.network, split, model.config.settling, drives=True)
    return drives - drives.mean(axis=1, keepdims=True)


def word_contributions(model: Model, texts: Mapping[str, Sequence[str]]) -> Iterator[dict[str, np.ndarray]]:
    """Of every text, by segment, what each of its tokens contributes to the drive of each class, (T, C).

    The T tokens are those of the tokenizer's ``places``, also unknown ones, whose subwords may vote; what stands behind
    the last word that is read has 0. Tokens of one word have the same contribution: that of all its places.
    """
    for parts in zip(*texts.values(), strict=True):
        own, taken = dict(zip(texts, parts, strict=True)), []
        words = {name: _words_of(model, text) for name, text in own.items()}
        for name, found in words.items():
            taken += [(name, word) for word in dict.fromkeys(word for word, _, _ in found if word is not None)]
        variants = {
            name: [text, *(_without(text, words[name], word) if at == name else text for at, word in taken)]
            for name, text in own.items()
        }
        drives = class_drives(model, model.encode(variants))
        lost = dict(zip(taken, drives[0] - drives[1:], strict=True))
        none = np.zeros(drives.shape[1])
        yield {
            name: np.array([lost.get((name, word), none) for word, _, _ in found]).reshape(-1, len(none))
            for name, found in words.items()
        }


def _words_of(model: Model, text: str) -> list[tuple[int | str | None, int, int]]:
    """Of every token what makes its places those of one word (its id, or how an unknown one is spelled), and its place.

    None is for what is not read: what stands behind the last known word that is, and of unknown words all but those
    that may be told by their subwords.
    """
    left, found = model.config.data.max_tokens - len(model.tokenizer.start), []
    for token, start, stop in model.tokenizer.places(text):
        word = token if token != UNKNOWN else text[start:stop].casefold() if len(model.subwords) else None
        found.append((word if left > 0 else None, start, stop))
        left -= token != UNKNOWN
    return found


def _without(text: str, found: Sequence[tuple], word: int | str) -> str:
    """The text with blanks in place of a word."""
    letters = list(text)
    for each, start, stop in found:
        if each == word:
            letters[start:stop] = " " * (stop - start)
    return "".join(letters)


def slot_contributions(
    model: Model, split: Split, classes: Sequence[int]
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Rows of a batch, and by segment what each slot contributes to the drive of each of these classes, (K, B, M).

    First order; zero beyond a text. All batches together are the split, each row once. For models on a CPU.
    """
    network, beta = _with_class_drive(model), model.config.learning.beta
    settling, mirrored = model.config.settling.for_nudge(beta), len(model.classes) == 2
    targets = np.eye(len(model.classes), dtype=network.dtype) - 1 / network.dtype.type(len(model.classes))

    def of_batch(rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        segments, _ = split.batch(rows)
        x = network.clamp(segments)
        state = network.zero_state(x)
        settle(network, x, state, settling)
        free = state.take(np.arange(len(rows)))

        def contrast(target: np.ndarray) -> dict[str, np.ndarray]:
            seen = []
            for signed in (beta, -beta):
                state.assign(free)
                settle(network, x, state, settling, Nudge(signed, np.tile(target, (len(rows), 1))))
                seen.append(_presence_slopes(network, x, state))
            return {name: (seen[0][name] - seen[1][name]) / (2 * beta) for name in network.positions}

        if mirrored:
            first = contrast(targets[0])
            found = [{name: each if k == 0 else -each for name, each in first.items()} for k in classes]
        else:
            found = [contrast(targets[k]) for k in classes]
        return rows, {name: np.stack([each[name] for each in found]) for name in network.positions}

    yield from network.machine.map(of_batch, list(bucketed(split, AT_ONCE)))


def _with_class_drive(model: Model) -> Network:
    own = model.network
    return build_network(
        model.config.network,
        own.parameters[EMBEDDING],
        len(model.classes),
        own.positions,
        parameters=own.parameters,
        machine=own.machine,
        words=model.ngrams.first_id,
        features=max((len(own.parameters[each.weight]) for each in own.features.values()), default=0),
        cost=ClassDrive(),
    )


def _presence_slopes(network: Network, x: Clamped, state: State) -> dict[str, np.ndarray]:
    """−∂E/∂ log p of every slot at these states, (B, M) by segment: by its attention, its row and its vote."""
    slopes = {name: np.zeros(x.segments[name].ids.shape) for name in network.positions}
    for layer in network.attention:
        weights = x.potentials[layer.name].weights(state.drives[layer.name])
        shares = weights.sum(axis=1, dtype=np.float64) / layer.potential.scale
        slopes[network.segment_of[layer.potential.memory]] += shares
    for synapse in network.synapses:
        for pre in synapse.pres:
            if pre.segment and not synapse.post.segment:  # rows of tokens that a layer above sees all together
                rows = state.states[pre.name]
                fed = np.empty_like(rows)
                synapse.feedback(network.parameters, x, state.states, pre.name, fed)
                parts = (rows * fed).sum(axis=2, dtype=np.float64)
                if isinstance(synapse, Mean):  # whose shares are those of the rows that are left
                    parts -= x.prepared[pre.name, "shares"] * parts.sum(axis=1, keepdims=True)
                width = slopes[pre.segment].shape[1]
                slopes[pre.segment] += parts[:, :width]
    for name in slopes:
        if features_of(name) in network.features:
            slopes[name] += _vote_slopes(network, x, state, name)
    return slopes


def _vote_slopes(network: Network, x: Clamped, state: State, segment: str) -> np.ndarray:
    """−∂E/∂ log p of the votes of the slots of a segment, (B, M): of a feature among N, ⟨s, v⟩/√N − ⟨s, Σv⟩/2N√N.

    Slots of one word or n-gram are one feature, and have equal parts of it.
    """
    synapse = network.features[features_of(segment)]
    (ids, lengths), table = x.segments[segment], network.parameters[synapse.weight]
    post, shares = state.states[synapse.post.name], x.prepared[synapse.name, "shares"]
    of_all = (post * synapse.drive(synapse.post.name, network.parameters, x, {})).sum(axis=1, keepdims=True)
    each = np.einsum("bc,bmc->bm", post, table[ids]) * shares[:, :1] - of_all * shares[:, :1] ** 2 / 2
    copies = np.array([np.bincount(row, minlength=1)[row] for row in ids])
    return np.where(np.arange(ids.shape[1]) < lengths[:, None], each / copies, 0)


@dataclass(frozen=True)
class Speaker:
    """A word or n-gram: its mean contribution to the drive of a class, over the ``texts`` that it stands in."""

    words: str
    contribution: float
    texts: int


@dataclass(frozen=True)
class Speakers:
    """What speaks for each class, most first, over ``texts`` texts; ``least`` is how many of them a slot stands in."""

    by_class: dict[str, list[Speaker]]
    texts: int
    least: int


def speakers(
    model: Model, split: Split, classes: Sequence[str], top: int, least: int = 0, most_texts: int = MOST_TEXTS
) -> Speakers:
    """The ``top`` words and n-grams that speak most for each of these classes over the texts of an encoded split.

    Of more than ``most_texts`` texts a random share is taken, always the same. ``least`` 0: 20 texts, or of few texts a
    200th of them, two at least. Only positive means are listed.
    """
    exact = bool(model.network.memories)
    most_texts = min(most_texts, MOST_EXACT) if exact else most_texts
    if len(split) > most_texts:
        rows = np.sort(np.random.default_rng(0).permutation(len(split))[:most_texts])
        segments, features = (
            {name: texts.take(rows) for name, texts in each.items()} for each in (split.segments, split.features)
        )
        split = Split(segments, split.labels[rows], features=features)
    least = least or max(2, min(LEAST, len(split) // LEAST_SHARE))
    size, chosen = len(model.network.parameters[EMBEDDING]), [model.classes.index(name) for name in classes]
    total, texts = np.zeros((len(classes), size)), np.zeros(size, np.int64)
    for owner, ids, found in (_exact if exact else _to_first_order)(model, split, chosen):
        for sums, each in zip(total, found, strict=True):
            sums += np.bincount(ids, each, size)
        texts += np.bincount(np.unique(owner * size + ids) % size, minlength=size)
    texts[: model.tokenizer.specials] = 0
    enough, names, by_class = np.flatnonzero(texts >= least), model.vocabulary(), {}
    for name, sums in zip(classes, total, strict=True):
        means = sums[enough] / texts[enough]
        best = np.argsort(-means, kind="stable")[:top]
        by_class[name] = [
            Speaker(names[enough[i]], round(float(means[i]), 5), int(texts[enough[i]])) for i in best if means[i] > 0
        ]
    return Speakers(by_class, len(split), least)


Found = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]  # texts (S,), ids (S,), contributions by class (K, S)


def _to_first_order(model: Model, split: Split, classes: Sequence[int]) -> Found:
    """All slots of a batch at a time."""
    for rows, found in slot_contributions(model, split, classes):
        parts = []
        for name, texts in split.segments.items():
            ids, lengths = texts.padded(rows)
            inside = np.arange(ids.shape[1]) < lengths[:, None]
            parts.append((np.broadcast_to(rows[:, None], ids.shape)[inside], ids[inside], found[name][:, inside]))
        yield tuple(np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))


def _exact(model: Model, split: Split, classes: Sequence[int]) -> Found:
    """The words of a text at a time, each of them once a segment; texts are put together again from their words."""
    known, names = range(model.tokenizer.specials, model.ngrams.first_id), model.vocabulary()
    texts = {
        name: [" ".join(names[i] for i in ids[row] if i in known) for row in range(len(split))]
        for name, ids in split.segments.items()
    }
    for row, found in enumerate(word_contributions(model, texts)):
        parts = []
        for name, each in found.items():
            read = np.array([token for token, _, _ in model.tokenizer.places(texts[name][row])], np.int64)
            ids, places = np.unique(read, return_index=True)
            parts.append((np.full(len(ids), row), ids, each[places][:, classes].T))
        yield tuple(np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
