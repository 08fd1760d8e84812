"""Names the folders below the current one that hold runs."""

from pathlib import Path

MULTIRUN = Path("multirun")  # Hydra's folder for the runs of a grid, and this package's for sweeps
NEWEST = ".newest"  # file in MULTIRUN: the names of the studies of the last started sweep
RUN_FOLDERS = (Path("outputs"), MULTIRUN)
DRIVER_LOG = "driver.log"  # file in MULTIRUN: the log of the last sweeps
WORKERS_LOG = "workers.log"  # file in MULTIRUN: what workers print outside their trials
