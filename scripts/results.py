"""Figures of runs: as a table, and put into README.md and docs/ from the records in docs/results/.

python scripts/results.py RUN …                   # the table of finished runs; seeds of one configuration are one line
cp RUN/metrics.json docs/results/NAME-SEED.json   # how a run becomes a record; so do check.json and the like
python scripts/results.py                         # fill in what is between <!--= REQUEST --> and <!--/-->

Requests are those of `eqnp.app.records.written`.
"""

import json
import re
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

from eqnp.app.records import table, written
from eqnp.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"(<!--= (.+?) -->)(.*?)(<!--/-->)", re.DOTALL)


def records(name: str) -> list[dict]:
    """The records NAME-SEED.json, or the one called NAME.json."""
    folder = ROOT / "docs" / "results"
    found = sorted(folder.glob(f"{name}-[0-9].json")) or [folder / f"{name}.json"]
    return [json.loads(path.read_text("utf-8")) for path in found]


def filled(page: str) -> str:
    """A page with its figures as the records have them."""
    return PLACE.sub(lambda place: f"{place[1]}{written(place[2], records)}{place[4]}", page)


def of_folders(folders: list[Path]) -> list[tuple[str, list[dict]]]:
    """Metrics of finished runs, by configuration without its seed."""
    groups = defaultdict(list)
    for folder in folders:
        try:
            config = tomllib.loads((folder / "config.toml").read_text("utf-8"))
            metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            sys.exit(f"{folder}: {error}; give folders of finished runs")
        config["training"].pop("seed")
        config["data"].pop("seed", None)  # −1 in a configuration, but in a run that of its texts
        groups[json.dumps(config, sort_keys=True)].append(metrics)
    return [(f"{runs[0]['preset']}, {runs[0]['algorithm']}", runs) for runs in groups.values()]


if __name__ == "__main__":
    if sys.argv[1:]:
        print(table(of_folders([Path(name) for name in sys.argv[1:]])))
    else:
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
            write_text(path, filled(path.read_text("utf-8")))
