"""The kernels of `naive` on a GPU, in numba.cuda: the same names and arguments, with arrays that live on the device.

Sums run in a fixed order (trees within a block, blocks one after the other, no atomic additions), so that a seed gives
the same bits again on one device. Nothing here waits for the device but `host`, `finite` and `squared_norm`.
"""

from numba import config

from eqnp.kernels.cuda.array import device, empty, host
from eqnp.kernels.cuda.attention import attend, memory_update, retrieve
from eqnp.kernels.cuda.learning import (
    adam,
    adam_rows,
    add_contrast,
    add_times,
    fold,
    gather,
    local_update,
    mean_rows,
    momentum,
    momentum_rows,
    neighbours,
    project,
    scatter_add,
    spread_rows,
    times,
)
from eqnp.kernels.cuda.memory import (
    add,
    copy,
    fill,
    finite,
    may_speak,
    repeated,
    scale,
    scratch,
    squared_norm,
    weigh,
    write,
    zeros,
)
from eqnp.kernels.cuda.products import PRODUCTS, add_products, product
from eqnp.kernels.cuda.timeline import breakdown, timed
from eqnp.kernels.cuda.units import (
    clipped,
    clipped_nudged,
    logistic,
    logistic_cross_entropy,
    logistic_nudged,
    pull,
    softmax,
    softmax_nudged,
    tanh,
    tanh_nudged,
)

SIMULATED = bool(config.ENABLE_CUDASIM)
ASYNCHRONOUS = True  # calls return before their work is done: whole batches, and few looks at the residual
