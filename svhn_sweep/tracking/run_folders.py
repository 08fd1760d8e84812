"""Where runs are: folders below the current one."""

from pathlib import Path

MULTIRUN = Path("multirun")  # Hydra's folder for the runs of a grid; sweeps live there too
NEWEST = ".newest"  # in MULTIRUN: the names of the studies of the sweep that was started last
RUN_FOLDERS = (Path("outputs"), MULTIRUN)
