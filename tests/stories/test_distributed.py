"""Several ranks train one network: to the same weights as one, and a rank that dies takes the job down."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from eqnp.app.cli import main
from eqnp.files import load
from eqnp.machine.ranks import Ranks
from tests.conftest import ROOT
from tests.runs import TRAIN, outcome

pytest.importorskip("mpi4py")
MPIRUN = Path(sys.executable).with_name("mpirun")
MPIRUN = str(MPIRUN) if MPIRUN.exists() else shutil.which("mpirun") or ""
pytestmark = pytest.mark.skipif(not MPIRUN, reason="no mpirun on this machine")
OPEN = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
SMALL = ["network.hidden=[8]", "network.compare=8", "vectors.dimension=16", "training.epochs=1", "training.batch=3000"]
PLAIN = ["optimizer.epsilon=1", "optimizer.learning_rate=1"]  # steps in proportion to the gradient, rounding and all
WINDOWS = ["network.attention=[{queries=2, memory='text', window=1}]", "data.ngrams=2", "data.ngram_min_texts=5"]
WINDOWS += ["training.refit=true", "network.votes=0.3", "data.subwords=3", "training.shard=2", "optimizer.clip=0.01"]
ITSELF = ["vectors.unlabelled=more.csv", "training.self_training=0.5", "vectors.topics=4"]
NLI = ["train", "mini-nli", "--threads=1", *(f"--set={setting}" for setting in (*SMALL, *PLAIN))]


def ranks(number: int, *arguments) -> subprocess.Popen:
    """Start ``eqnp`` on so many ranks, on each of which a set of the names of tables has another order."""
    command = [MPIRUN]
    for rank in range(number):
        command += [*((":",) if rank else ()), "-n", "1", "-x", f"PYTHONHASHSEED={rank + 3}"]
        command += [sys.executable, "-m", "eqnp", *map(str, arguments)]
    environment = os.environ | OPEN | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen) -> str:
    """Wait for it to end well; returns what it said."""
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return out


def parameters(folder) -> dict[str, np.ndarray]:
    """The arrays of a run's model."""
    return load(Path(folder) / "model.h5", "model")[0]


@pytest.mark.parametrize(("number", "settings"), [(2, WINDOWS), (3, ITSELF)])
def test_ranks_of_a_fixed_order_train_to_the_same_bits(number, settings, small):
    """If this fails, the result depends on how many machines it was trained on."""
    Path("more.csv").write_text("text\n" + "snow and ice and lava\nfire and snow and sun\n" * 30)
    train = [*TRAIN, *(f"--set={setting}" for setting in settings), "--reduction", "fixed"]
    assert main([*train, "--out", "one"]) == 0
    said = finished(ranks(number, *train, "--distributed", "mpi", "--out", "several"))
    assert said.count("epoch 1/4") == 1
    assert outcome("several") == outcome("one")


def test_compare_layers_and_a_fast_sum(small):
    """If this fails, pairs of texts train to other weights on two ranks, or a fast sum is a wrong one."""
    assert main([*NLI, "--out", "one"]) == 0
    finished(ranks(2, *NLI, "--distributed", "mpi", "--out", "two"))
    one, two = parameters("one"), parameters("two")
    for name in (name for name in one if one[name].size and one[name].dtype.kind == "f"):
        assert np.linalg.norm(two[name] - one[name]) < 1e-6 * max(1, np.linalg.norm(one[name])), name


def test_a_fast_sum_adds_all_shards_of_a_rank():
    """If this fails, only the last of several shards counts, as soon as nobody has summed them before."""
    pytest.importorskip("mpi4py")

    class Alone:
        def Get_rank(self):
            return 0

        def Get_size(self):
            return 2

        def Allreduce(self, in_place, result):
            """The other rank has nothing."""

    parts = [np.array([1.0, 2.0]), np.array([10.0, 20.0])]
    assert Ranks(Alone())._sum_fast(parts, np.zeros(2)).tolist() == [11, 22]


def test_a_rank_that_is_killed_ends_the_job_and_another_number_goes_on(small):
    """If this fails, the others wait for ever, or the work of hours is lost."""
    train = [*TRAIN, "--set=training.shard=3"]
    assert main([*train, "--reduction", "fixed", "--out", "whole"]) == 0
    slow = [*train, "--set=training.epochs=4", "--distributed", "mpi", "--reduction", "fixed"]
    process = ranks(2, *slow, "--out", "run")
    deadline = time.monotonic() + 120
    while not Path("run/last.h5").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    if not children or process.poll() is not None:
        pytest.skip("the job was over before a rank could be killed")
    started = time.monotonic()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode != 0
    assert error
    finished(ranks(3, "train", "--resume", "run", "--reduction", "fixed", "--threads", "1", "--distributed", "mpi"))
    assert outcome("run") == outcome("whole")


@pytest.mark.parametrize(("number", "reduction", "most"), [(2, "fast", 1.1), (3, "fast", 1.1), (2, "fixed", 2.5)])
def test_what_passes_into_a_rank_does_not_grow_with_their_number(number, reduction, most):
    """If this fails, ranks get rows that they do not need, or the benchmark counts others than it gets."""
    small = ["network.hidden=[8]", "network.compare=8", "training.shard=5", "network.votes=0.3"]
    options = [
        "--preset=snli",
        "--set=training.batch=10",
        "--repeat=3",
        "--threads=1",
        "--reduction",
        reduction,
        "--json",
    ]
    command = ["benchmark", "--distributed", "mpi", *options, *(f"--set={setting}" for setting in small)]
    figures = json.loads(finished(ranks(number, *command)).splitlines()[-1])
    assert len(figures["by_rank"]) == figures["ranks"] == number
    assert figures["received"] == pytest.approx(figures["sent"])
    assert 0.8 < figures["received"] / figures["least"] <= most
    assert 0 < figures["ahead"] < figures["received"] / 2
    assert all(0 < one["waited"] < one["seconds"] for one in figures["by_rank"])


def test_local_steps_learn_and_need_work_for_all(small):
    """If this fails, ranks that learn by themselves for some batches end with other weights, or learn nothing."""
    settings = ["training.local_steps=3", "training.shard=3", "training.epochs=6", "optimizer.learning_rate=2e-2"]
    local = [*TRAIN, *(f"--set={setting}" for setting in settings), "--set=optimizer.clip=0"]
    finished(ranks(3, *local, "--distributed", "mpi", "--out", "several"))
    first, last = (
        load(Path("several") / name, kind)[0] for name, kind in (("start.h5", "start"), ("model.h5", "model"))
    )
    moved = last["parameters/embedding.weight"] - first["embedding.weight"]
    assert 0.9 < np.mean(np.abs(moved[3:]).sum(axis=1) > 0) <= 1
    metrics = json.loads(Path("several/metrics.json").read_text())
    assert metrics["accuracy"]["validation"] > 0.9
    process = ranks(3, *local, "--distributed", "mpi", "--reduction", "fixed", "--out", "no")
    assert "training.local_steps is 3" in process.communicate(timeout=60)[1]
    process = ranks(3, *local, "--set=training.shard=9", "--distributed", "mpi", "--out", "no")
    assert "training.shard to 3 or less" in process.communicate(timeout=60)[1]


def test_an_exchange_takes_means(small):
    """If this fails, dense weights after local steps are not their mean over ranks, or rows not what ranks changed."""
    one_batch = ["training.batch=200", "training.shard=52", "training.epochs=1", "training.word_dropout=0"]
    one_batch += ["data.validation_share=0.2", "optimizer.learning_rate=1"]  # 104 texts for two ranks
    one_batch += ["optimizer.name=momentum", "optimizer.decay_mean=0", "optimizer.clip=0", "optimizer.weight_decay=0"]
    train = [*TRAIN, *(f"--set={setting}" for setting in one_batch), "--distributed", "mpi"]
    for name, steps in (("plain", 1), ("local", 2)):
        finished(ranks(2, *train, f"--set=training.local_steps={steps}", "--out", name))
    start = load(Path("plain/start.h5"), "start")[0]["embedding.weight"]
    plain, local = parameters("plain"), parameters("local")
    for name in (name for name in plain if "embedding" not in name and plain[name].dtype.kind == "f"):
        assert np.linalg.norm(local[name] - plain[name]) < 1e-5 * np.linalg.norm(plain[name]), name
    changes = [np.linalg.norm(each["parameters/embedding.weight"] - start, axis=1)[3:] for each in (plain, local)]
    ratios = changes[1] / changes[0]
    # a text of one rank moves a row twice as far as the mean over two; rows of both ranks move by that mean
    near = [np.isclose(ratios, ratio, rtol=0.1) for ratio in (1, 2)]
    assert near[0].any()
    assert (ratios < 2.1).all()
    assert np.mean(near[0]) > 0.5


def test_ranks_prepare_what_one_does(small):
    """If this fails, a network knows other words on another number of machines."""
    words = [*WINDOWS, "data.start_token=true", "data.max_tokens=6", "data.max_words=20", "data.ngrams=3"]
    prepare = ["prepare", *TRAIN[1:-1], *(f"--set={setting}" for setting in words)]
    assert main([*prepare, "--out", "one"]) == 0
    said = finished(ranks(3, *prepare, "--distributed", "mpi", "--out", "several"))
    assert said.count("vocabulary") == 1
    for name in ("start.h5", "data.h5"):
        assert Path("several", name).read_bytes() == Path("one", name).read_bytes(), name


def test_ranks_that_read_their_own_parts_prepare_the_same(small, capsys):
    """If this fails, texts depend on how many ranks read them, or a wrong row has another number where several do."""
    lines = Path("own.csv").read_text("utf-8").splitlines()
    rows = [(text, ["cold", "hot"][int(label)]) for text, label in (line.rsplit(",", 1) for line in lines[1:])]
    broken = [f'"{text},\n""so""",{label}' for text, label in rows[:50]]
    Path("first.csv").write_text("\n".join([lines[0], *broken, "of none,-", ""]))
    Path("second.jsonl").write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows[50:]))
    several = ["prepare", *TRAIN[1:-1], '--set=data.train=["first.csv", "second.jsonl"]']
    assert main([*several, "--out", "one"]) == 0
    said = finished(ranks(3, *several, "--distributed", "mpi", "--out", "several"))
    assert "first.csv: a field goes over several lines in 50 row(s)" in said
    for name in ("start.h5", "data.h5"):
        assert Path("several", name).read_bytes() == Path("one", name).read_bytes(), name
    good = Path("second.jsonl").read_text()
    for wrong in ("{}", '{"text": "no label"}', '{"text": "", "label": "hot"}', "no JSON"):
        with Path("second.jsonl").open("a") as file:
            file.write(f"{wrong}\n" + json.dumps({"text": "late", "label": "hot"}) + "\n")
        assert main([*several, "--out", "no"]) == 2
        process = ranks(3, *several, "--distributed", "mpi", "--out", "no")
        why = capsys.readouterr().err.splitlines()[-1].removeprefix("eqnp: ")
        assert why in process.communicate(timeout=60)[1]
        Path("second.jsonl").write_text(good)


def test_a_rank_without_a_row_of_weighted_texts(small):
    """If this fails, a job stands still where a text is so long that one rank's part of the file begins no row."""
    rows = [f"{'hot' if i % 2 else 'cold'} film x{i % 3},{i % 2},{1 + i % 2}\n" for i in range(30)]
    Path("weighted.csv").write_text("text,label,weight\n" + "cold " * 4000 + ",0,2\n" + "".join(rows))
    prepare = ["prepare", "text", "--data", "weighted.csv", "--set=data.weight=weight"]
    assert main([*prepare, "--out", "one"]) == 0
    finished(ranks(3, *prepare, "--distributed", "mpi", "--out", "several"))
    for name in ("start.h5", "data.h5"):
        assert Path("several", name).read_bytes() == Path("one", name).read_bytes(), name


def test_a_mistake_on_several_ranks_is_said_once(small):
    """If this fails, a wrong option hangs the job, or fills the screen."""
    process = ranks(2, "train", "imbd", "--distributed", "mpi")
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "did you mean 'imdb'" in error
    assert "Traceback" not in error
