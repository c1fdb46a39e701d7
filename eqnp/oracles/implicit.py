"""The gradient by implicit differentiation: the adjoint of the fixed point itself, from one linear solve.

At a free fixed point ds = H (A ds + du), so dL = μᵀ H du with (I − A H) μ = ∂L/∂s (Almeida 1987; Pineda 1987). The
system is solved without forming a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eqnp.dynamics import SettlingConfig, settle
from eqnp.errors import SettlingError
from eqnp.learning import Estimate
from eqnp.network import Network
from eqnp.oracles.linearised import Layers, Linearised, rows_of
from eqnp.states import Batch


def estimate(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    settling: SettlingConfig,
    *,
    weight: np.ndarray | None = None,
    tolerance: float | None = None,
    train_embeddings: bool = True,
) -> Estimate:
    """The gradient of the mean loss at the settled free state, as `eqnp.learning.estimate` gives its own; weight (B,).

    Its accuracy is that of the states and of ``tolerance``, the relative residual of the linear solve for the layers
    that are not eliminated (by default a thousand times the rounding error). Without ``train_embeddings`` there is no
    gradient of them. Raises SettlingError when the solve does not converge.
    """
    x = network.clamp(batch)
    state = network.zero_state(x)
    settled = settle(network, x, state, settling)
    around = Linearised(network, x, state.states, state.drives)
    inexact = max(layer.potential.hessian_error for layer in network.layers)
    tolerance = tolerance or max(inexact, 1000 * float(np.finfo(network.dtype).eps))
    mu = _solve(around, around.output_adjoint(state.states, target, weight), tolerance)
    gradients, tokens = around.gradients(mu, state.states, train_embeddings)
    gradients |= rows_of(network, batch, gradients, tokens if train_embeddings else {})
    output = state.states[network.output.name]
    loss = float(network.cost(output, target, weight).mean())
    return Estimate(gradients, loss, output, settled.sweeps[None], settled.residual[None], [])


def _solve(around: Linearised, right: Layers, tolerance: float) -> Layers:
    """μ with (I − A H) μ = right.

    No two layers of a block are coupled, so what μ is there follows from the rest. The largest block is eliminated:
    the solver's vectors are then short, and it needs about half as many of them.
    """
    from scipy.sparse.linalg import LinearOperator, gmres

    units = {name: value.size for name, value in right.items()}
    easy = max(around.network.blocks, key=lambda block: sum(units[layer.name] for layer in block))
    easy = {layer.name for layer in easy}
    shapes = {name: value.shape for name, value in right.items() if name not in easy}
    if not shapes:  # a single block, in which nothing is coupled
        return right

    def passed_on(mu: Layers) -> Layers:
        """A H μ, where μ is zero in the layers that are not given."""
        return around.coupling(around.hessian(mu))

    def apply(vector: np.ndarray) -> np.ndarray:
        mu = _unpack(vector, shapes)
        back = passed_on(mu)
        through = passed_on({name: back[name] for name in easy})
        return _pack({name: mu[name] - back[name] - through[name] for name in shapes})

    passed = passed_on({name: right[name] for name in easy})
    b = _pack({name: right[name] + passed[name] for name in shapes})
    operator = LinearOperator((b.size, b.size), matvec=apply, dtype=b.dtype)
    solution, failed = gmres(operator, b, rtol=tolerance, atol=0.0, restart=50, maxiter=40)
    if failed:
        raise SettlingError("the linear solve of implicit differentiation did not converge; settle more tightly")
    mu = _unpack(solution, shapes)
    back = passed_on(mu)
    return mu | {name: right[name] + back[name] for name in easy}


def _pack(layers: Layers) -> np.ndarray:
    return np.concatenate([value.ravel() for value in layers.values()])


def _unpack(vector: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> Layers:
    edges = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes.values())])
    return {
        name: vector[a:b].reshape(shape) for (name, shape), a, b in zip(shapes.items(), edges, edges[1:], strict=False)
    }
