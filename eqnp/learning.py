"""Equilibrium Propagation: settle free, settle nudged, and let every parameter see the difference at its own ends.

An estimator is a list of phases (β_p, c_p): the network settles under each nudge β_p, starting from the free state, and

    dL/dθ ≈ Σ_p c_p ∂E/∂θ(s_p),      L = mean over the batch of C at the free state,

where ∂E/∂W = −s_post ⊗ s_pre is known at the synapse. One-sided: phases (+β, 0), error O(β); with a random sign of β
per batch the first-order error cancels on average. Symmetric, the paper's "three-phase" rule: phases (+β, −β), error
O(β²). Richardson: ±β and ±2β, error O(β⁴). Holomorphic (Laborieux & Zenke 2022): N complex nudges around a circle,
error O(βᴺ), for activations that are analytic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import prod

import numpy as np

from eqnp.dynamics import Settled, SettlingConfig, Trace, settle
from eqnp.errors import ConfigError, SettlingError, nearest
from eqnp.machine.buffers import Room, Workspace
from eqnp.machine.gradients import RowGradient
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.machine.threads import Run, sharing
from eqnp.network import Network
from eqnp.potentials import Nudge
from eqnp.synapses import Clamped, Segment, State

SHARED = 1 << 29  # multiply-adds of the largest product of a batch from which on threads share the work on a shard
COLUMNS = 7500  # pre units contrasted in one product: enough for BLAS, and a fixed number for the same bits
Phases = tuple[tuple[complex, complex], ...]


def _one_sided(beta: float, points: int) -> Phases:
    return ((beta, 1 / beta), (0.0, -1 / beta))


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
ESTIMATORS: dict[str, Callable[[float, int], Phases]] = {
    "one-sided": _one_sided,
    "random-sign": _one_sided,
    "symmetric": _symmetric,
    "richardson": _richardson,
    "holomorphic": _holomorphic,
}


@dataclass(frozen=True)
class LearningConfig:
    """The estimator, its nudge β, and whether the word embeddings learn too (design, section 2, fact 7).

    ``algorithm`` is "ep", or for comparison "bptt" or "implicit" (`eqnp.oracles`), which use no estimator and no β.
    ``points`` is the number of nudges of the holomorphic estimator around its circle of radius β.
    """

    estimator: str = "symmetric"
    beta: float = 0.5
    points: int = 8
    train_embeddings: bool = True
    algorithm: str = "ep"


@dataclass
class Estimate:
    """What one batch yields: gradients by parameter name, the loss, the free output, and how the phases settled.

    ``output`` (B, C) is the free state of the output layer. ``sweeps`` and ``residual`` have a row per phase, the
    free one first; per sample, so (1 + P, B), with the sweeps of the shard that the sample was settled in.
    """

    gradients: dict[str, np.ndarray | RowGradient]
    loss: float
    output: np.ndarray
    sweeps: np.ndarray
    residual: np.ndarray
    traces: list[Trace]


def phases(config: LearningConfig, betas: tuple[float, float], sign: int = 1) -> Phases:
    """The phases (β_p, c_p) of an estimator; raises ConfigError for a β that its output block cannot bear.

    ``betas`` are the nudges between which the output has a single minimum; ``sign`` is that of β in a batch of the
    random-sign estimator.
    """
    if config.algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {config.algorithm!r}{nearest(config.algorithm, ALGORITHMS)}")
    if config.estimator not in ESTIMATORS:
        raise ConfigError(f"unknown estimator {config.estimator!r}{nearest(config.estimator, ESTIMATORS)}")
    if not (np.isfinite(config.beta) and config.beta > 0):
        raise ConfigError(f"learning.beta is {config.beta}; it must be greater than 0")
    if config.points < 2:
        raise ConfigError(f"learning.points is {config.points}; a circle of nudges needs at least 2")
    random = config.estimator == "random-sign"
    result = ESTIMATORS[config.estimator](config.beta * sign if random else config.beta, config.points)
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


def free_phase(
    network: Network, clamped: Clamped, config: SettlingConfig, trace: Trace | None = None, room: Room | None = None
) -> tuple[State, Settled]:
    """Settle from the zero state without a nudge."""
    state = network.zero_state(clamped, room=room)
    return state, _settle_free(network, clamped, state, config, trace)


def _settle_free(network, clamped, state: State, config: SettlingConfig, trace: Trace | None) -> Settled:
    return settle(network, clamped, state, config.free_sweeps, **_options(config), trace=trace)


def nudged_phase(
    network: Network, clamped: Clamped, state: State, nudge: Nudge, config: SettlingConfig, trace: Trace | None = None
) -> Settled:
    """Settle ``state`` in place, from the free state that it holds, under a nudge."""
    return settle(network, clamped, state, config.nudged_sweeps, nudge=nudge, **_options(config), trace=trace)


def _options(config: SettlingConfig) -> dict:
    return {"order": config.order, "tolerance": config.tolerance, "accelerate": config.accelerate}


def estimate(
    network: Network,
    segments: Mapping[str, Segment],
    target: np.ndarray,
    learning: LearningConfig,
    settling: SettlingConfig,
    *,
    executor: Executor | None = None,
    shard: int | None = None,
    workspace: Workspace | None = None,
    sign: int = 1,
    trace: bool = False,
    ranks: Ranks = ALONE,
) -> Estimate:
    """The EP gradient estimate of the mean loss of one batch.

    segments: token ids by segment name; target (B, C), usually one-hot. The batch is settled in shards of ``shard``
    samples, on the threads of ``executor`` if there is one; a batch of one shard is settled by all of them together,
    layer by layer, where that is much work. The result does not depend on the number of threads.
    With a ``workspace`` the memory of the batch before is used again, and the gradients are good until the next call.
    ``sign`` is that of β in this batch, for the random-sign estimator. With ``ranks`` the segments hold this process's
    own samples of the batch (`Ranks.own`), and it gets the estimate of the whole batch as all others do. Raises
    ConfigError for a β out of range and SettlingError for a state or gradient that is not finite.
    """
    plan = phases(learning, network.output_activation.betas, sign)
    if learning.estimator == "holomorphic":
        network, settling, trace = network.analytic(), replace(settling, accelerate=False), False
    coefficients = np.array([c for _, c in plan]) / -len(target)
    kernels = network.kernels
    if kernels.ASYNCHRONOUS:  # a batch fills the device, which has no threads of ours
        executor = shard = None
    every_target = target
    own, slices = ranks.own(len(target), shard or len(target))
    target = target[own]
    workspace = workspace or Workspace(kernels.empty)
    leading = len(plan), len(target)
    ends = {
        name: workspace.batch(name, (*leading, *shape), network.dtype)
        for name, shape in network.shapes(segments).items()
    }
    settling = settling.for_nudge(learning.beta)
    over_threads = sharing(executor)
    largest = max(prod(synapse.shapes[f"{synapse.name}.weight"]) for synapse in network.synapses)
    run = over_threads if len(target) * largest >= SHARED else map
    job = _Job(
        network, segments, target, plan, coefficients, learning, settling, ends, workspace, ranks.fixed, trace, run
    )
    shards = list(over_threads(job.settle_and_contrast, slices))

    parts = {name: [part.gradients[name] for part in shards] for name in (shards[0].gradients if shards else ())}
    for synapse in network.synapses:
        if synapse.wide and shards and not ranks.fixed:
            over_batch = contrast(network, synapse.ends(ends), coefficients, run, workspace.batch)
            parts |= {name: [gradient] for name, gradient in over_batch.items()}
    names = [name for name in network.parameters if learning.train_embeddings or name != "embedding.weight"]
    summed = ranks.sum({name: parts.get(name, []) for name in names}, network.kernels, workspace.batch)
    gradients = {name: _real(gradient) for name, gradient in summed.items()}
    output = ranks.concatenate([part.output.real for part in shards])
    sweeps, residual = (ranks.concatenate([getattr(p, which).T for p in shards]).T for which in ("sweeps", "residual"))
    result = Estimate(
        gradients,
        float(network.cost(output, every_target).mean()),
        output,
        sweeps,
        residual,
        [t for part in shards for t in part.traces],
    )
    check_finite(result, network)
    return result


def contrast(
    network: Network, ends, coefficients: np.ndarray, run: Run = map, room: Room | None = None
) -> dict[str, np.ndarray]:
    """The local update of each bundle of synapses, from (parameter, columns, post, pre) with phases first.

    A wide bundle is cut into blocks of `COLUMNS` pre units, whose updates are independent, and made by ``run``. The
    updates are written into ``room``, if given.
    """
    room = room or Room(network.kernels.empty)
    gradients: dict[str, np.ndarray] = {}
    tasks = []
    for name, columns, post, pre in ends:
        parameter = network.parameters[name]
        gradient = gradients.setdefault(name, room(name, parameter.shape, network.dtype))
        out = gradient.reshape(post.shape[2], -1)[:, columns]
        width = pre.shape[2] if network.kernels.ASYNCHRONOUS else COLUMNS
        for start in range(0, pre.shape[2], width):
            block = slice(start, start + width)
            tasks.append((post, pre[:, :, block], coefficients, out[:, block]))
    list(run(lambda task: network.kernels.local_update(*task), tasks))
    return gradients


@dataclass
class _Part:
    """What one shard of a batch yields; gradients of the synapses that are not wide, summed over the shard."""

    gradients: dict[str, np.ndarray | RowGradient]
    output: np.ndarray
    sweeps: np.ndarray
    residual: np.ndarray
    traces: list[Trace]


@dataclass
class _Job:
    """The work that each shard of a batch does on its own, from the gathering of its embeddings on.

    The shards settle into slices of ``ends``, the states of all phases of the whole batch, so that the weights
    between layers can be contrasted over the batch at once; or ``by_shard``, like all others.
    """

    network: Network
    segments: Mapping[str, Segment]
    target: np.ndarray
    plan: Phases
    coefficients: np.ndarray
    learning: LearningConfig
    settling: SettlingConfig
    ends: dict[str, np.ndarray]
    workspace: Workspace
    by_shard: bool
    trace: bool
    run: Run

    def settle_and_contrast(self, samples: slice) -> _Part:
        network, settling, room, kernels = self.network, self.settling, self.workspace.shard, self.network.kernels
        segments = {name: segment.take(samples) for name, segment in self.segments.items()}
        clamped = network.clamp(segments, room, self.run)
        whole = samples == slice(0, len(self.target))
        ends = self.ends if whole else {name: states[:, samples] for name, states in self.ends.items()}
        state = network.zero_state(clamped, len(self.plan), room=room, states=ends, run=self.run)
        traces = [Trace() if self.trace else None for _ in range(1 + len(self.plan))]
        free, *others = (state.phase(p) for p in range(len(self.plan)))
        history = [_settle_free(network, clamped, free, settling, traces[0])]
        output = kernels.host(free.states[network.output.name]).copy()
        for other in others:
            other.assign(free)
        target = kernels.device(self.target[samples])
        for p, (beta, _) in enumerate(self.plan):
            if beta != 0:
                nudge = Nudge(beta, target)
                history.append(nudged_phase(network, clamped, (free, *others)[p], nudge, settling, traces[1 + p]))
        contrasted = [s for s in (*network.inputs, *network.synapses) if self.by_shard or not s.wide]
        bundles = chain.from_iterable(synapse.ends(ends, clamped) for synapse in contrasted)
        gradients: dict[str, np.ndarray | RowGradient] = contrast(network, bundles, self.coefficients, self.run)
        if self.learning.train_embeddings:
            gradients["embedding.weight"] = self.contrast_words(samples, clamped, segments, state)
        return _Part(
            gradients,
            output,
            np.stack([h.sweeps for h in history]),
            np.stack([h.residual for h in history]),
            [t for t in traces if t is not None],
        )

    def contrast_words(
        self, samples: slice, clamped: Clamped, segments: Mapping[str, Segment], state: State
    ) -> RowGradient:
        """∂E/∂x of every memory slot and every token that queries, added up by word; the zero row never learns."""
        network, kernels, room = self.network, self.network.kernels, self.workspace.shard
        stored: dict[str, np.ndarray] = {}
        for layer, config in zip(network.attention, network.config.attention, strict=True):
            first = config.memory not in stored
            update = room((config.memory, "contrast", first), clamped.tokens[config.memory].shape, network.dtype)
            clamped.potentials[layer.name].memory_update(state.drives[layer.name], self.coefficients, update)
            if first:
                stored[config.memory] = update
            else:
                kernels.add(update, stored[config.memory])
        tokens = {
            name: stored[name] if name in stored else kernels.zeros(x.shape, network.dtype)  # they query only
            for name, x in clamped.tokens.items()
        }
        for synapse in network.inputs:
            synapse.add_token_update(network.parameters, state.states, self.coefficients, tokens)
        # The values last until all shards are done, so they are not in the room of a thread.
        kept = partial(self.workspace.batch, ("words", samples.start))
        return by_word(network, network.fitted(segments), tokens, kept)


def by_word(
    network: Network, segments: Mapping[str, Segment], tokens: Mapping[str, np.ndarray], empty: Callable | None = None
) -> RowGradient:
    """Gradients of the tokens (B, M, D) of each segment added up by word; the zero row never learns.

    The memory of the values is ``empty(shape, dtype)``.
    """
    vocabulary, width = network.parameters["embedding.weight"].shape
    occurs = np.zeros(vocabulary, bool)  # (a table of the vocabulary takes less time than sorting the ids)
    for name in tokens:
        occurs[segments[name].ids] = True
    occurs[0] = False
    words = np.flatnonzero(occurs).astype(np.int32)
    row = np.empty(vocabulary, int)  # looked up for padding and for what occurs, and set for no more
    row[0], row[words] = -1, np.arange(len(words))
    values = (empty or network.kernels.empty)((len(words), width), network.dtype)
    network.kernels.fill(values, 0)
    for name, update in tokens.items():
        network.kernels.scatter_add(update, row[segments[name].ids], values)
    return RowGradient(words, values)


def _real(gradient):
    """A gradient without the imaginary part that cancels over a circle of nudges."""
    if isinstance(gradient, RowGradient):
        return RowGradient(gradient.rows, _real(gradient.values))
    return gradient.real if gradient.dtype.kind == "c" else gradient


def check_finite(result: Estimate, network: Network) -> None:
    """Raise SettlingError if the loss or an update is not finite."""
    if not np.isfinite(result.loss):
        raise SettlingError("the loss is not a finite number, and nothing was learned from it; lower the learning rate")
    for name, gradient in result.gradients.items():
        values = gradient.values if isinstance(gradient, RowGradient) else gradient
        if not network.kernels.finite(values):
            raise SettlingError(
                f"the update of {name!r} is not a finite number, and was not applied; lower the learning rate"
            )
