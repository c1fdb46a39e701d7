"""What a run tells its user as it goes: progress bars, a line per epoch, and warnings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from eqnp.runs.loop import Epoch, Tally

UNSETTLED = 0.1  # the share of samples that a phase may leave unsettled before the user is told


@contextmanager
def progress_bar(total: int, name: str, done: int) -> Iterator[Callable[[Tally], None]]:
    """A bar on stderr, silent when that is not a terminal; with figures of the epoch so far, and the time left."""
    from tqdm import tqdm

    silent = sys.stderr is None or not sys.stderr.isatty()
    with tqdm(total=total, initial=done, desc=name, leave=False, disable=silent) as bar:

        def advance(tally: Tally) -> None:
            if not bar.disable:
                bar.set_postfix_str(tally_line(tally), refresh=False)
            bar.update()

        yield advance


def tally_line(tally: Tally) -> str:
    """The means of an epoch so far."""
    means = tally.means()
    return (
        f"loss {means['train'].loss:.4f}, accuracy {means['train'].accuracy:.1%}, sweeps {sweeps(means['sweeps'])}, "
        f"settled {min(means['settled']):.0%}, {means['tokens_per_second']:,} tokens/s"
    )


def epoch_line(epoch: Epoch, epochs: int, best: bool) -> str:
    """What one epoch came to."""
    return (
        f"epoch {epoch.epoch}/{epochs}: train loss {epoch.train.loss:.4f}, {epoch.train.accuracy:.1%}; "
        f"validation loss {epoch.validation.loss:.4f}, {epoch.validation.accuracy:.1%}{' (best)' if best else ''}; "
        f"sweeps {sweeps(epoch.sweeps)}, settled {min(epoch.settled):.1%}; {epoch.seconds:.0f} s"
    )


def settling_warning(epoch: Epoch) -> str:
    """A warning, with advice, if a phase left more than a tenth of its samples unsettled; else nothing."""
    worst = min(range(len(epoch.settled)), key=epoch.settled.__getitem__)
    if epoch.settled[worst] >= 1 - UNSETTLED:
        return ""
    phase, key = ("the free phase", "free_sweeps") if worst == 0 else (f"nudged phase {worst}", "nudged_sweeps")
    return (
        f"warning: {1 - epoch.settled[worst]:.0%} of the samples had not settled at the end of {phase}, and updates "
        f"from them are biased; raise settling.{key}, or lower network.scale or the learning rate"
    )


def sweeps(means: list[float]) -> str:
    """Mean sweeps of each phase, as in "8+4+5"."""
    return "+".join(f"{mean:.0f}" for mean in means)


def accuracies(by_split: Mapping[str, float]) -> str:
    """As in "validation 88.0%, test 86.7%"."""
    return ", ".join(f"{name} {value:.1%}" for name, value in by_split.items())
