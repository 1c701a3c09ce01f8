"""Two to five faults of each kind, with fixed seeds; `make chaos` goes on for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import settings
from tests.chaos.cells import CELLS, Cell
from tests.chaos.chaos import combinations, problem, run
from tests.harness import needs

# One after another: a fault of one cell must not keep another one's workers from their time.
pytestmark = pytest.mark.xdist_group("chaos")
SEED = 20261127
# `make chaos` alone has these: here they would take as long as all others together.
LATER = {
    *(("celery-rabbitmq", name) for name in ("cut", "database", "deploys")),
    *(("celery-redis", name) for name in ("clocks", "cut", "database", "freeze")),
}
HERE = [
    pytest.param(cell, engine, id=f"{cell.name}-{engine}")
    for cell, engine, database in combinations(CELLS.values())
    if database == settings.DATABASE and (engine, cell.name) not in LATER
]


@pytest.mark.parametrize(("cell", "engine"), HERE)
def test_every_task_has_one_outcome_and_every_second_run_is_explained(
    cell: Cell, engine: str, tmp_path: Path
) -> None:
    if lacking := problem(cell):
        needs.missing(lacking)
    print(run(cell, engine, settings.DATABASE, tmp_path, SEED))
