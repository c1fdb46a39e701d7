"""Thousands of damaged files: each is refused in one line, in little memory and time, or is what it was."""

import contextlib
import os
import random
import resource
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from eqnp import files
from eqnp.app.cli import main
from eqnp.errors import CheckpointError, VectorsError
from eqnp.machine import Machine
from eqnp.runs.checkpoint import load_last
from eqnp.runs.folder import LAST
from eqnp.runs.model import Model
from eqnp.text.prepare import START, load_prepared
from eqnp.text.store import STORE, read_store
from eqnp.text.vectors import load_vectors
from tests.conftest import ROOT
from tests.contract.test_vectors import encode
from tests.runs import killed_after

EACH, SECONDS, ROOM = 300, 60, 64 << 20  # damaged files of a kind, for all of them, and bytes beside twice the file
VECTORS = ["glove.txt", "w2v.bin", "w2v.bin.gz", "a.npz"]
FIXTURES = ROOT / "tests" / "fixtures"


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A copy with something cut off, changed, doubled, moved or put in its place."""
    data, kind = bytearray(content), rng.randrange(6)
    place = rng.randrange(len(data))
    if kind == 0:
        del data[place:]
    elif kind == 1:
        for _ in range(rng.choice((1, 1, 4, 64))):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:  # a huge count where a size may stand
        data[place : place + 8] = b"\xff" * 7 + b"\x7f"
    elif kind == 3:
        data[place:place] = data[rng.randrange(len(data)) :][: rng.randrange(1, 5000)]
    elif kind == 4:
        del data[place : place + rng.randrange(1, 5000)]
    else:
        data[place : place + rng.randrange(1, 600)] = bytes(rng.randrange(256) for _ in range(rng.randrange(600)))
    return bytes(data)


def virtual_memory() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def holds(path: Path, read, error: type[Exception], is_same) -> None:
    """Read damaged copies of a file in a process of its own, under limits on memory and time."""
    content, rng = path.read_bytes(), random.Random(path.name)
    read(path)  # what it needs is imported before the limit counts
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, "see the captured output"
        return
    try:
        signal.alarm(SECONDS)
        for number in range(EACH):
            data = damaged(content, rng)
            path.write_bytes(data)
            limit = virtual_memory() + 2 * max(len(data), len(content)) + ROOM
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            with contextlib.suppress(error):
                result = read(path)
                assert is_same(result), f"copy {number} was taken for whole"
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


@pytest.fixture
def run(small):
    """A run with every kind of file in it: stopped in the middle of its second epoch."""
    killed_after(Path("run"), batches=18)
    return Path("run")


limits = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is not limited elsewhere")


@limits
@pytest.mark.parametrize("name", ["model.h5", LAST, STORE, START])
def test_damaged_files_of_a_run(run, name, capfd):
    """If this fails, a damaged file of a run is a traceback, a crash, all memory, or taken for whole."""
    readers = {
        "model.h5": lambda path: Model.load(path.parent).about(),
        LAST: lambda path: load_last(path, Machine())[2],
        STORE: lambda path: {name: split.labels.tolist() for name, split in read_store(path).items()},
        START: lambda path: load_prepared(path.parent, Model.load(path.parent).config).words,
    }
    whole = readers[name](run / name)
    # Bytes may be put back as they were: then it is no damage.
    holds(run / name, readers[name], CheckpointError, lambda result: result == whole)


@limits
@pytest.mark.parametrize("name", VECTORS)
def test_damaged_files_of_vectors(tmp_path, name):
    """If this fails, a damaged download of word vectors is a traceback, a crash or all memory."""
    words = [f"w{i}" for i in range(300)]
    (tmp_path / name).write_bytes(encode(name, words, np.random.default_rng(0).standard_normal((300, 20))))
    # Text and raw numbers have no check sums: numbers may change, but stay finite, and as many.
    holds(
        tmp_path / name,
        lambda path: load_vectors(str(path), words)[0],
        VectorsError,
        lambda table: len(table) == 300 and np.isfinite(table).all(),
    )


def test_a_whole_file_that_says_something_else(run, capsys):
    """If this fails, a file that another program wrote well is believed."""
    arrays, about = files.load(run / "model.h5", "model")
    for wrong_arrays, wrong_about, word in (
        ({**arrays, "parameters/hidden0.weight": arrays["parameters/hidden0.weight"][:1]}, about, "not those"),
        ({n: a for n, a in arrays.items() if "queries" not in n}, about, "not those"),
        (arrays, {**about, "classes": ["a"]}, "not those"),
        (arrays, {**about, "tokenizer": "{}"}, "damaged"),
        (arrays, {**about, "prior": [1.0]}, "do not fit"),
        (arrays, {**about, "temperature": 0.0}, "temperature is 0.0"),
        (arrays, {**about, "temperature": float("inf")}, "temperature is inf"),
        (arrays, {**about, "floor": -1.0}, "floor of scores is -1.0"),
        (arrays, {**about, "config": {"netwrok": {}}}, "netwrok"),
    ):
        files.save(run / "model.h5", "model", wrong_arrays, wrong_about)
        with pytest.raises(CheckpointError, match=word) as caught:
            Model.load(run)
        assert "\n" not in str(caught.value)
    shutil.copy(run / STORE, run / "model.h5")
    with pytest.raises(CheckpointError, match="token-store"):
        Model.load(run)


def test_files_of_every_version_can_still_be_read(tmp_path, monkeypatch, capsys):
    """If this fails, an upgrade takes users' models, or their runs in progress, from them."""
    for version in sorted(FIXTURES.glob("v*")):
        run = tmp_path / version.name
        shutil.copytree(version, run)
        model = Model.load(run)
        assert (model.predict({"text": ["there was lava and fire"]})[0].label, model.temperature) == ("1", 1.0)
        assert main(["train", "--resume", str(run)]) == 0
        assert main(["evaluate", str(run)]) == 0
    assert (FIXTURES / f"v{files.VERSION}").is_dir()
