"""Grids: Hydra's plain multiruns, which are continued, compared and recorded as a whole."""
