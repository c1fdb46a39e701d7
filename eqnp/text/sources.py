"""What a source of texts is: an embedded corpus, files, a folder of text files, or a data set of the `datasets` hub."""

from __future__ import annotations

import difflib
import errno
import functools
import glob
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from eqnp.errors import DataError, nearest
from eqnp.text.formats import dataset_table, folder_table, json_table, line_table, parquet_table
from eqnp.text.lines import TextFile
from eqnp.text.tables import Reading, Table, delimited

EMBEDDED = ("mini-sentiment", "mini-nli")
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt", ".parquet")  # all but the last also with .gz
FOREIGN = {  # endings of files that hold tables too
    ".xlsx": "export the sheet as .csv",
    ".xls": "export the sheet as .csv",
    ".ods": "export the sheet as .csv",
    ".zip": "unpack it first",
    ".tar": "unpack it first",
    ".tgz": "unpack it first",
    ".bz2": "unpack it first, or pack it by gzip",
    ".xz": "unpack it first, or pack it by gzip",
    ".zst": "unpack it first, or pack it by gzip",
    ".pkl": "save the table as .parquet",
    ".feather": "save the table as .parquet",
    ".arrow": "save the table as .parquet",
}
ALLOWED = "allowed: .csv, .tsv, .jsonl, .ndjson, .json, .txt, each also with .gz, and .parquet"
FOLDER_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
PATIENCE = 5.0  # seconds until the hub counts as out of reach


def data_folder() -> Path:
    """Where the embedded corpora are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "data" if (package / "data").is_dir() else package.parent / "data"


def open_source(
    source: str | Sequence[str], split: str, wanted: Sequence[str], *, labelled: bool, reading: Reading
) -> Iterator[Table]:
    """The tables of a source, or of several one after the other, each opened when the one before has been read.

    ``wanted`` are the columns that will be read, texts first, then the label if it is ``labelled``; ``split`` is for
    sources that have splits. Raises DataError for what is not there or cannot be read.
    """
    for each in [source] if isinstance(source, str) else source:
        if each in EMBEDDED:
            yield json_table(TextFile(data_folder() / each / f"{split}.jsonl", each, "utf-8"), wanted)
        elif is_path(each):
            for path in _files(each, split):
                yield _open_path(path, wanted, labelled, reading)
        elif HUB_NAME.fullmatch(each):
            yield dataset_table(_from_hub(each, split), f"{each} [{split}]")
        else:
            raise DataError(
                f"cannot tell what data {each!r} is: no file or folder of that name, no known ending, no hub name such "
                f"as stanfordnlp/imdb{_sibling(Path(each)) or nearest(each, EMBEDDED)}"
            )


def is_path(source: str) -> bool:
    """Whether a source is meant as a path: it is there, or looks like one."""
    if source in EMBEDDED:
        return False
    path = Path(source)
    return (
        source.startswith((".", "/", "~"))
        or source.count("/") > 1
        or path.suffix.lower() in (*ENDINGS, *FOREIGN, ".gz")
        or _there(path)
        or (len(path.parts) > 1 and _there(Path(path.parts[0])))
        or glob.has_magic(source)
    )


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or none a file can have
        return False


def _expanded(source: str) -> Path:
    """The path; a leading ~ is the home folder, as in a shell, unless a file has that name."""
    path = Path(source)
    try:
        return path if _there(path) else path.expanduser()
    except RuntimeError:  # no such user
        return path


def paths_of(source: str) -> list[str]:
    """What a path or a pattern of paths stands for, in full; anything else is left as it is."""
    if source in EMBEDDED or not is_path(source):
        return [source]
    path = _expanded(source)
    if not _there(path) and glob.has_magic(source):
        return [str(each.absolute()) for each in _matching(path)]
    return [str(path.absolute())] if _there(path) else [source]


def _matching(pattern: Path) -> list[Path]:
    found = sorted(glob.glob(str(pattern), recursive=True))
    if not found:
        raise DataError(f"{pattern}: no file has such a name; give the name of a file, or another pattern")
    return [Path(each) for each in found]


def _files(source: str, split: str) -> list[Path]:
    """The files and folders that a path stands for."""
    path = _expanded(source)
    if _there(path):
        splits = _folder_splits(path)
        if splits and split not in splits:
            raise DataError(f"{source}: has no split {split!r}, but {', '.join(splits)}; give one of these folders")
        return [splits.get(split, path)]
    if glob.has_magic(source):
        return _matching(path)
    try:
        path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise DataError(
                f"{source}: cannot be read ({error.strerror}); check the path and its permissions"
            ) from error
        if path.is_symlink():
            raise DataError(f"{source}: is a link to {path.readlink()}, which is not there; mend it") from error
    except ValueError as error:
        raise DataError(f"{source!r}: no name that a file can have ({error})") from error
    raise DataError(f"{source}: no such file{_sibling(path) or '; give a file with the data'}")


def _sibling(path: Path) -> str:
    """A hint at the file of the nearest name in the same folder, if one is near."""
    try:
        names = [each.name for each in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, {*names} - {path.name}, n=1, cutoff=0.7)
    return f"; did you mean {str(path.parent / close[0])!r}?" if close else ""


def _folder_splits(path: Path) -> dict[str, Path]:
    """The folders of splits in a folder that has one called "train", by the names that splits have here."""
    if not path.is_dir() or not (path / "train").is_dir():
        return {}
    folders = {name: [path / each for each in names if (path / each).is_dir()] for name, names in FOLDER_SPLITS.items()}
    return {name: found[0] for name, found in folders.items() if found}


def _open_path(path: Path, wanted: Sequence[str], labelled: bool, reading: Reading) -> Table:
    where, endings = str(path), [each.lower() for each in path.suffixes[-2:]]
    if path.is_dir():
        return folder_table(path, reading.encoding, wanted, labelled)
    if not path.is_file():
        raise DataError(f"{where}: is no regular file; save what it yields to one, and give that")
    ending = endings[-1] if endings else ""
    if ending == ".gz" and len(endings) > 1:
        ending = endings[0]
    if ending in FOREIGN or ending not in ENDINGS:
        mend = FOREIGN.get(ending, ALLOWED)
        raise DataError(f"{where}: a file that ends in {ending or 'nothing'!r} is not read; {mend}")
    if path.stat().st_size == 0:
        raise DataError(f"{where}: the file is empty; it needs a text and a label column")
    if ending == ".parquet":
        return parquet_table(path, where)
    file = TextFile(path, where, reading.encoding)
    if ending in (".csv", ".tsv"):
        return delimited(file, ending == ".tsv", reading, wanted)
    return line_table(file, wanted, labelled) if ending == ".txt" else json_table(file, wanted)


def splits_of(source: str | Sequence[str]) -> list[str]:
    """The named splits of an embedded corpus, a folder of them, or a hub data set; files have none."""
    if not isinstance(source, str):
        return []
    if source in EMBEDDED:
        return [file.stem for file in (data_folder() / source).glob("*.jsonl")]
    if is_path(source):
        return list(_folder_splits(_expanded(source)))
    if HUB_NAME.fullmatch(source):
        return _hub(source, lambda datasets: datasets.get_dataset_split_names(source))
    return []


def _from_hub(name: str, split: str):
    return _hub(name, lambda datasets: datasets.load_dataset(name, split=split))


def _hub(name: str, load: Callable):
    """Run a loader of `datasets` without its bars and log lines; any failure of it becomes one line.

    The hub is asked once whether it has such a data set. Where it cannot be reached, what an earlier run has left on
    the disk is taken.
    """
    import datasets
    from huggingface_hub import constants

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    trouble = _asked(name)
    offline = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    try:
        if trouble:
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        return load(datasets)
    except Exception as error:  # the library and the readers under it raise many unrelated types
        cause = error.__cause__ or error
        first = trouble or (str(cause).strip() or type(cause).__name__).splitlines()[0][:200]
        found = f"no file or folder, and no data set of the hub ({first})"
        raise DataError(f"{name}: {found}; --data FILE reads a file") from error
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = offline


@functools.cache
def _asked(name: str) -> str:
    """Ask the hub for a data set; returns what is in the way, nothing if it is there."""
    from huggingface_hub import HfApi

    answer = ["it does not answer"]

    def ask() -> None:
        try:
            HfApi().dataset_info(name, timeout=PATIENCE)
            answer[0] = ""
        except Exception as error:  # of several libraries, by version
            answer[0] = (str(error).strip() or type(error).__name__).splitlines()[0][:120]

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return answer[0]
