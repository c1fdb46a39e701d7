"""Checkers for layers, synapses, costs and networks of one's own: is this an energy, and is this its gradient?

    from hypothesis import given
    from eqnp.testing import check_gradients, check_potential, problems

    def test_my_layer():
        check_potential(MyLayer())

    @given(problems(activations=("logistic",)))
    def test_gradients(p):
        check_gradients(p.network, p.batch, p.target)

Every checker raises an AssertionError that says which entry is off, and by how much; an error of 0.1 % is enough. All
is float64 and random by ``seed``. `problems` needs hypothesis (``pip install 'eqnp[testing]'``), nothing else does.
"""

from eqnp.testing.compare import assert_agree, cosine, errors_of, relative_error
from eqnp.testing.memories import check_memory
from eqnp.testing.networks import EXACT, assert_falls, check_energy, check_gradients
from eqnp.testing.optimizers import check_optimizer
from eqnp.testing.potentials import check_cost, check_potential
from eqnp.testing.problems import KINDS, Problem, kink_distance, problem, problems
from eqnp.testing.synapses import check_synapse

__all__ = [
    "EXACT",
    "KINDS",
    "Problem",
    "assert_agree",
    "assert_falls",
    "check_cost",
    "check_energy",
    "check_gradients",
    "check_memory",
    "check_optimizer",
    "check_potential",
    "check_synapse",
    "cosine",
    "errors_of",
    "kink_distance",
    "problem",
    "problems",
    "relative_error",
]
