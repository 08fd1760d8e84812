"""What Hydra's override parser should take but does not."""

import re


def with_null(override: str) -> str:
    """`key=choice(null,1)` as `key=null,1`: the same to Hydra, whose functions refuse null as an argument."""
    return re.sub(r"^([^=]+=)\s*choice\(((?:[^()]*,)?\s*null\s*(?:,[^()]*)?)\)\s*$", r"\1\2", override)
