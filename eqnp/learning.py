"""Equilibrium Propagation: settle free, settle nudged, and let every parameter see the difference at its own ends.

An estimator is a list of phases (β_p, c_p): the network settles under each nudge β_p, starting from the free state, and

    dL/dθ ≈ Σ_p c_p ∂E/∂θ(s_p),      L = mean over the batch of C at the free state,

where ∂E/∂W = −s_post ⊗ s_pre is known at the synapse. One-sided: phases (+β, 0), error O(β). Symmetric, the paper's
"three-phase" rule: phases (+β, −β), error O(β²). Richardson: ±β and ±2β, error O(β⁴). Holomorphic (Laborieux & Zenke
2022): N complex nudges around a circle, error O(βᴺ), for activations that are analytic. Where samples have weights w, L
is the mean of w C, and each contrast is multiplied by its w. docs/theory.md, facts 9 and 19.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np

from eqnp.contrasts import (
    Gradients,
    check_finite,
    contrast,
    contrast_memories,
    contrast_rows,
    contrast_tokens,
    contrast_words,
)
from eqnp.costs import Nudge
from eqnp.dynamics import Settled, SettlingConfig, Trace, settle
from eqnp.errors import ConfigError, DataError, nearest
from eqnp.machine.gradients import real
from eqnp.network import EMBEDDING, Network
from eqnp.states import Batch
from eqnp.tables import with_rows

Phases = tuple[tuple[complex, complex], ...]


def _one_sided(beta: float, points: int) -> Phases:
    return ((beta, 1 / beta), (0.0, -1 / beta))


def _other_side(beta: float, points: int) -> Phases:
    return _one_sided(-beta, points)


def _symmetric(beta: float, points: int) -> Phases:
    return ((beta, 1 / (2 * beta)), (-beta, -1 / (2 * beta)))


def _richardson(beta: float, points: int) -> Phases:
    near, far = 2 / (3 * beta), -1 / (12 * beta)
    return ((beta, near), (-beta, -near), (2 * beta, far), (-2 * beta, -far))


def _holomorphic(beta: float, points: int) -> Phases:
    """Half of the circle: the states at conjugate nudges are conjugate, so twice the real part counts both."""
    turns = [np.exp(2j * np.pi * k / points) for k in range(points // 2 + 1)]
    twice = [1 if k in (0, points / 2) else 2 for k in range(len(turns))]
    return tuple((beta * turn, n / (points * beta * turn)) for turn, n in zip(turns, twice, strict=True))


ALGORITHMS = ("ep", "bptt", "implicit")
SIDES = ("one-sided", "other-side")  # of which "random-sign" draws one for every batch
ESTIMATORS: dict[str, Callable[[float, int], Phases]] = {
    "one-sided": _one_sided,
    "other-side": _other_side,
    "random-sign": _one_sided,
    "symmetric": _symmetric,
    "richardson": _richardson,
    "holomorphic": _holomorphic,
}


@dataclass(frozen=True)
class LearningConfig:
    """The estimator, its nudge β, and whether the word embeddings learn too (docs/theory.md, facts 9 and 12).

    "one-sided" nudges by +β and contrasts with the free phase, "other-side" by −β; "random-sign" draws one of the two
    for every batch, so that the first-order error cancels on average. "bptt" and "implicit" (`eqnp.oracles`) are for
    comparison, and use no estimator and no β.

    estimator (one-sided, other-side, random-sign, symmetric, richardson or holomorphic) : the phases contrasted
    beta (above 0) : β, the strength of the nudge
    points (2 or greater) : nudges of the holomorphic estimator around its circle of radius β
    train_embeddings : whether word vectors learn
    algorithm (ep, bptt or implicit) : equilibrium propagation, or another gradient of the same network
    """

    estimator: str = "symmetric"
    beta: float = 0.5
    points: int = 8
    train_embeddings: bool = True
    algorithm: str = "ep"

    def drawn(self, rng: np.random.Generator) -> LearningConfig:
        """The settings of one batch: with the side that the random-sign estimator nudges to."""
        if self.estimator != "random-sign":
            return self
        return replace(self, estimator=SIDES[0] if rng.choice((-1, 1)) == 1 else SIDES[1])

    def on_the_line(self) -> LearningConfig:
        """Settings whose phases are real and the same for every batch, to be looked at; no stronger than its own."""
        stand_in = {"holomorphic": "symmetric", "random-sign": SIDES[0]}.get(self.estimator, self.estimator)
        return replace(self, estimator=stand_in)


@dataclass
class Estimate:
    """What one batch yields: gradients by parameter name, the loss, the free output, and how the phases settled.

    ``output`` (B, C) is the free state of the output layer. ``sweeps`` and ``residual`` have a row per phase that
    settled, the free one first; per sample, (1 + P, B), with the sweeps of the shard that the sample was settled in; so
    have ``traces``, if asked for. ``phases`` are the (β_p, c_p) that were contrasted, and ``states`` their end states
    by layer, (P, B, *shape), of this rank's own samples.
    """

    gradients: Gradients
    loss: float
    output: np.ndarray
    sweeps: np.ndarray
    residual: np.ndarray
    traces: list[Trace]
    phases: Phases = ()
    states: dict[str, np.ndarray] | None = None


def phases(config: LearningConfig, betas: tuple[float, float]) -> Phases:
    """The phases (β_p, c_p) of an estimator; raises ConfigError for a β that its output block cannot bear.

    ``betas`` are the nudges between which the output has a single minimum (`Network.betas`).
    """
    if config.algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {config.algorithm!r}{nearest(config.algorithm, ALGORITHMS)}")
    if config.estimator not in ESTIMATORS:
        raise ConfigError(f"unknown estimator {config.estimator!r}{nearest(config.estimator, ESTIMATORS)}")
    if not (np.isfinite(config.beta) and config.beta > 0):
        raise ConfigError(f"learning.beta is {config.beta}; it must be greater than 0")
    if config.points < 2:
        raise ConfigError(f"learning.points is {config.points}; a circle of nudges needs at least 2")
    result = ESTIMATORS[config.estimator](config.beta, config.points)
    random = config.estimator == "random-sign"
    nudges = [config.beta, -config.beta] if random else [beta for beta, _ in result]
    for side, bound in zip((-1, 1), betas, strict=True):
        strongest = max((abs(beta) for beta in nudges if side * beta.real > 0), default=0.0)
        if strongest >= abs(bound):
            raise ConfigError(
                f"learning.beta is {config.beta:g}, but a phase of {'negative' if side < 0 else 'positive'} β needs "
                f"β < {abs(bound) * config.beta / strongest:g} with this estimator and output, or the output has no "
                "single minimum; lower learning.beta, or use another estimator"
            )
    return result


def estimate(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    learning: LearningConfig,
    settling: SettlingConfig,
    *,
    weight: np.ndarray | None = None,
    trace: bool = False,
) -> Estimate:
    """The EP gradient estimate of the mean loss of one batch.

    batch: token ids by segment; target (B, C), usually one-hot; ``weight`` (B,): what each sample counts for, without
    it 1. Every shard of the batch (`eqnp.machine`) settles free, then from there under each nudge; every synapse and
    every word contrasts what it saw. The result does not depend on the number of threads, and is good until the next
    call where the network's machine is at work. With several ranks the batch has this process's own samples, target and
    weight are those of all, and so is the estimate, but gradients of tables are of own rows. Raises ConfigError for a β
    out of range, DataError for what does not fit, and SettlingError for a state or gradient that is not finite.
    """
    plan = phases(learning, network.betas)
    network, batch = with_rows(network, batch)
    if learning.estimator == "holomorphic":
        network, settling, trace = network.analytic(), replace(settling, accelerate=False), False
    machine, settling, (classes,) = network.machine, settling.for_nudge(learning.beta), network.output.shape
    if target.ndim != 2 or target.shape[1] != classes or not len(target):
        raise DataError(f"the target has shape {target.shape}; it needs a row of {classes} numbers for each text")
    coefficients = np.array([c for _, c in plan]) / -len(target)
    own, shards = machine.shards(len(target))
    whole, pulled, over_batch = network.unclamped(batch), target[own], machine.batch_buffers
    if len(pulled) != whole.size:
        raise DataError(f"the target has {len(pulled)} rows, and the batch {whole.size} texts; give one row for each")
    share = _on_device(network, weight, target, own)
    ends = {name: over_batch(name, (len(plan), whole.size, *s), network.dtype) for name, s in whole.shapes.items()}
    by_shard = machine.ranks.fixed  # all contrasts; else those of wide synapses are one product over the batch

    def settle_and_contrast(samples: slice) -> _Shard:
        buffers = machine.buffers
        x = network.clamp({name: segment.take(samples) for name, segment in batch.items()}, buffers)
        mine = ends if x.size == whole.size else {name: states[:, samples] for name, states in ends.items()}
        state = network.zero_state(x, len(plan), buffers, mine)
        free, *others = (state.phase(p) for p in range(len(plan)))
        traces = [Trace() if trace else None for _ in range(1 + len(plan))]
        settled = [settle(network, x, free, settling, trace=traces[0])]
        output = machine.kernels.host(free.states[network.output.name]).copy()
        for other in others:
            other.assign(free)
        y = machine.kernels.device(pulled[samples])
        for (beta, _), phase, seen in zip(plan, (free, *others), traces[1:], strict=True):
            if beta != 0:
                settled.append(settle(network, x, phase, settling, Nudge(beta, y), seen))
        bundles = chain.from_iterable(s.ends(x, mine) for s in network.synapses if by_shard or not s.wide)
        counted = None if share is None else share[samples]
        gradients: Gradients = contrast(network, bundles, coefficients, x.map, weight=counted)
        gradients |= contrast_rows(network, x, mine, coefficients, over_batch, samples.start, counted)
        if network.memories or learning.train_embeddings:
            told = contrast_tokens(network, x, state, coefficients, buffers, counted)
            gradients |= contrast_memories(network, x, told)
        if learning.train_embeddings:  # kept until all shards are done, so not in the memory of a thread
            kept = partial(over_batch, ("words", samples.start))
            gradients[EMBEDDING] = contrast_words(network, x, told, kept)
        return _Shard(gradients, output, settled, [t for t in traces if t is not None])

    done = list(machine.map(settle_and_contrast, shards))
    parts = {name: [shard.gradients[name] for shard in done] for name in (done[0].gradients if done else ())}
    for synapse in network.synapses:
        if synapse.wide and done and not by_shard:
            update = contrast(network, synapse.ends(whole, ends), coefficients, whole.map, over_batch, share)
            parts |= {name: [gradient] for name, gradient in update.items()}
    names = {name: p for name, p in network.parameters.items() if learning.train_embeddings or name != EMBEDDING}
    if silent := [name for name in names if done and name not in parts]:
        raise ConfigError(f"no ends are given of parameter {silent[0]!r}; its synapse must yield a Bundle for it")
    gradients = {name: real(g) for name, g in machine.total(parts, names, network.dtype, network.needs).items()}
    widths = classes, *[1 + sum(beta != 0 for beta, _ in plan)] * 2
    output, sweeps, residual = machine.of_all_ranks([shard.seen for shard in done], widths, network.dtype)
    loss = float(network.cost(output, target, weight).mean())
    check_finite(gradients, loss, network)
    traces = [t for shard in done for t in shard.traces]
    return Estimate(gradients, loss, output, sweeps.T.astype(np.float64), residual.T, traces, plan, ends)


def _on_device(network: Network, weight: np.ndarray | None, target: np.ndarray, own: slice) -> np.ndarray | None:
    """The weights of this rank's own samples, where the kernels are; raises DataError."""
    if weight is None:
        return None
    if np.shape(weight) != (len(target),):
        raise DataError(f"the weight has shape {np.shape(weight)}; give one number for each of {len(target)} texts")
    return network.kernels.device(np.asarray(weight)[own].astype(network.dtype))


@dataclass
class _Shard:
    """What one shard of a batch yields: gradients summed over it, free outputs (b, C), and how its phases settled."""

    gradients: Gradients
    output: np.ndarray
    settled: list[Settled]
    traces: list[Trace]

    @property
    def seen(self) -> list[np.ndarray]:
        """Outputs (b, C), and sweeps and residuals by phase (b, P)."""
        phases = (np.stack([getattr(s, name) for s in self.settled], axis=1) for name in ("sweeps", "residual"))
        return [self.output.real, *phases]
