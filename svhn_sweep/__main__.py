"""Runs the command line: `python -m svhn_sweep`."""

import sys

from svhn_sweep.cli import main

if __name__ == "__main__":
    sys.exit(main())
