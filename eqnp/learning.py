"""Equilibrium Propagation: settle free, settle nudged, and let every parameter see the difference at its own ends.

An estimator is a list of phases (β_p, c_p): the network settles under each nudge β_p, starting from the free state, and

    dL/dθ ≈ Σ_p c_p ∂E/∂θ(s_p),      L = mean over the batch of C at the free state,

where ∂E/∂W = −s_post ⊗ s_pre is known at the synapse. One-sided: phases (+β, 0), error O(β). Symmetric, the paper's
"three-phase" rule: phases (+β, −β), error O(β²).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from eqnp.dynamics import SettlingConfig, Trace, settle
from eqnp.errors import ConfigError, SettlingError, nearest
from eqnp.network import Clamped, Network, Nudge, Segment, State, squared_error

Phases = tuple[tuple[float, float], ...]

ESTIMATORS: dict[str, Callable[[float], Phases]] = {
    "one-sided": lambda beta: ((beta, 1 / beta), (0.0, -1 / beta)),
    "symmetric": lambda beta: ((beta, 1 / (2 * beta)), (-beta, -1 / (2 * beta))),
}


@dataclass(frozen=True)
class LearningConfig:
    """The estimator, its nudge β, and whether the word embeddings learn too (design, section 2, fact 7)."""

    estimator: str = "symmetric"
    beta: float = 0.5
    train_embeddings: bool = True


@dataclass
class RowGradient:
    """A gradient that is zero but for some rows of a table: distinct ``rows`` (n,) and their ``values`` (n, D)."""

    rows: np.ndarray
    values: np.ndarray

    def dense(self, table: np.ndarray) -> np.ndarray:
        """The same gradient in the shape of the table."""
        full = np.zeros_like(table)
        full[self.rows] = self.values
        return full


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


def phases(config: LearningConfig, max_slope: float) -> Phases:
    """The phases (β_p, c_p) of an estimator; raises ConfigError for a β that its output block cannot bear."""
    if config.estimator not in ESTIMATORS:
        raise ConfigError(f"unknown estimator {config.estimator!r}{nearest(config.estimator, ESTIMATORS)}")
    if not (np.isfinite(config.beta) and config.beta > 0):
        raise ConfigError(f"learning.beta is {config.beta}; it must be greater than 0")
    result = ESTIMATORS[config.estimator](config.beta)
    strongest = -min(beta for beta, _ in result)
    if strongest * max_slope >= 1:
        raise ConfigError(
            f"learning.beta is {config.beta:g}, but the phase −β needs β < {1 / max_slope:g} with this output "
            "activation, or the output has no single minimum; lower learning.beta, or use the one-sided estimator"
        )
    return result


def free_phase(network: Network, clamped: Clamped, config: SettlingConfig, trace: Trace | None = None):
    """Settle from the zero state without a nudge; returns (state, Settled)."""
    state = network.zero_state(clamped.size)
    settled = settle(
        network,
        clamped,
        state,
        config.free_sweeps,
        order=config.order,
        tolerance=config.tolerance,
        trace=trace,
    )
    return state, settled


def estimate(
    network: Network,
    segments: Mapping[str, Segment],
    target: np.ndarray,
    learning: LearningConfig,
    settling: SettlingConfig,
    *,
    executor: Executor | None = None,
    shard: int | None = None,
    trace: bool = False,
) -> Estimate:
    """The EP gradient estimate of the mean loss of one batch.

    segments: token ids by segment name; target (B, C), usually one-hot. The batch is settled in shards of ``shard``
    samples, on the threads of ``executor`` if there is one; the result does not depend on the number of threads.
    Raises ConfigError for a β out of range and SettlingError for a state or gradient that is not finite.
    """
    plan = phases(learning, network.output_activation.max_slope)
    clamped = network.clamp(segments)
    nudged = network.zero_state(len(plan), clamped.size)
    coefficients = np.array([c for _, c in plan]) / -clamped.size
    job = _Job(network, clamped, target, plan, coefficients, learning, settling, nudged, trace)
    width = shard or clamped.size
    slices = [slice(start, min(start + width, clamped.size)) for start in range(0, clamped.size, width)]
    reports = list((executor.map if executor else map)(job.settle_shard, slices))

    gradients: dict[str, np.ndarray | RowGradient] = {}
    for synapse in (*network.inputs, *network.synapses):
        for name, columns, post, pre in synapse.ends(nudged, clamped):
            gradient = gradients.setdefault(name, np.empty_like(network.parameters[name]))
            flat = gradient.reshape(post.shape[-1], -1)
            network.kernels.local_update(post, pre, coefficients, flat[:, columns])
    if learning.train_embeddings:
        gradients["embedding.weight"] = _embedding_gradient(network, segments, job.token_contrast)
    _check_finite(gradients)
    output = np.concatenate([report.output for report in reports])
    return Estimate(
        gradients,
        float(squared_error(output, target).mean()),
        output,
        np.concatenate([report.sweeps for report in reports], axis=1),
        np.concatenate([report.residual for report in reports], axis=1),
        [t for report in reports for t in report.traces],
    )


@dataclass
class _Report:
    output: np.ndarray
    sweeps: np.ndarray
    residual: np.ndarray
    traces: list[Trace]


class _Job:
    """The part of a batch's work that each shard does on its own: settle all phases, contrast the tokens."""

    def __init__(self, network, clamped, target, plan, coefficients, learning, settling, nudged, trace):
        self.network, self.clamped, self.target, self.plan = network, clamped, target, plan
        self.coefficients, self.learning, self.settling = coefficients, learning, settling
        self.nudged: State = nudged
        self.trace = trace
        self.token_contrast = {}
        if learning.train_embeddings:
            self.token_contrast = {name: np.zeros_like(x) for name, x in clamped.tokens.items()}

    def settle_shard(self, samples: slice) -> _Report:
        clamped = self.clamped.shard(samples)
        traces = [Trace() for _ in range(1 + len(self.plan))] if self.trace else [None] * (1 + len(self.plan))
        free, settled = free_phase(self.network, clamped, self.settling, traces[0])
        history = [settled]
        for p, (beta, _) in enumerate(self.plan):
            state = self.nudged[p, samples]
            state.assign(free)
            if beta == 0:
                continue
            history.append(
                settle(
                    self.network,
                    clamped,
                    state,
                    self.settling.nudged_sweeps,
                    nudge=Nudge(beta, self.target[samples]),
                    order=self.settling.order,
                    tolerance=self.settling.tolerance,
                    trace=traces[1 + p],
                )
            )
        if self.learning.train_embeddings:
            self.contrast_tokens(clamped, samples)
        return _Report(
            free.states[self.network.output.name].copy(),
            np.array([[h.sweeps] * clamped.size for h in history]),
            np.stack([h.residual for h in history]),
            [t for t in traces if t is not None],
        )

    def contrast_tokens(self, clamped: Clamped, samples: slice) -> None:
        """∂E/∂X of every memory slot, and of the tokens that query, contrasted over the phases of this shard."""
        nudged = self.nudged[:, samples]
        for layer, config in zip(self.network.attention, self.network.config.attention, strict=True):
            memory = np.empty_like(clamped.tokens[config.memory])
            drive = np.ascontiguousarray(nudged.drives[layer.name])
            clamped.potentials[layer.name].memory_update(drive, self.coefficients, memory)
            self.token_contrast[config.memory][samples] += memory
        for synapse in self.network.inputs:
            if hasattr(synapse, "token_update"):
                out = self.token_contrast[synapse.segment][samples]
                synapse.token_update(self.network.parameters, nudged, self.coefficients, out)


def _embedding_gradient(network: Network, segments, contrast: Mapping[str, np.ndarray]) -> RowGradient:
    """Add up the contrasts of all slots that hold the same word; the zero row 0 never learns."""
    words = np.unique(np.concatenate([segments[name].ids.ravel() for name in contrast]))
    words = words[words > 0]
    values = np.zeros((len(words), network.parameters["embedding.weight"].shape[1]), network.dtype)
    for name, x in contrast.items():
        ids = segments[name].ids
        index = np.where(ids > 0, np.searchsorted(words, ids), -1)
        network.kernels.scatter_add(x, index, values)
    return RowGradient(words, values)


def _check_finite(gradients) -> None:
    for name, gradient in gradients.items():
        values = gradient.values if isinstance(gradient, RowGradient) else gradient
        if not np.isfinite(values).all():
            raise SettlingError(
                f"the update of {name!r} is not a finite number, and was not applied; lower the learning rate"
            )
