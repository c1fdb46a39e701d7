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
) -> Estimate:
    """The gradient of the mean loss at the settled free state, as `eqnp.learning.estimate` gives its own; weight (B,).

    Its accuracy is that of the states and of ``tolerance``, the relative residual of the linear solve (by default a
    thousand times the rounding error). Raises SettlingError when the solve does not converge.
    """
    x = network.clamp(batch)
    state = network.zero_state(x)
    settled = settle(network, x, state, settling)
    around = Linearised(network, x, state.states, state.drives)
    inexact = max(layer.potential.hessian_error for layer in network.layers)
    tolerance = tolerance or max(inexact, 1000 * float(np.finfo(network.dtype).eps))
    mu = _solve(around, around.output_adjoint(state.states, target, weight), tolerance)
    gradients, tokens = around.gradients(mu, state.states)
    gradients |= rows_of(network, batch, gradients, tokens)
    output = state.states[network.output.name]
    loss = float(network.cost(output, target, weight).mean())
    return Estimate(gradients, loss, output, settled.sweeps[None], settled.residual[None], [])


def _solve(around: Linearised, right: Layers, tolerance: float) -> Layers:
    """μ with (I − A H) μ = right."""
    from scipy.sparse.linalg import LinearOperator, gmres

    shapes = {name: value.shape for name, value in right.items()}
    size = sum(value.size for value in right.values())

    def apply(vector: np.ndarray) -> np.ndarray:
        mu = _unpack(vector, shapes)
        back = around.coupling(around.hessian(mu))
        return _pack({name: mu[name] - back[name] for name in mu})

    b = _pack(right)
    operator = LinearOperator((size, size), matvec=apply, dtype=b.dtype)
    mu, failed = gmres(operator, b, rtol=tolerance, atol=0.0, restart=50, maxiter=40)
    if failed:
        raise SettlingError("the linear solve of implicit differentiation did not converge; settle more tightly")
    return _unpack(mu, shapes)


def _pack(layers: Layers) -> np.ndarray:
    return np.concatenate([value.ravel() for value in layers.values()])


def _unpack(vector: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> Layers:
    edges = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes.values())])
    return {
        name: vector[a:b].reshape(shape) for (name, shape), a, b in zip(shapes.items(), edges, edges[1:], strict=False)
    }
