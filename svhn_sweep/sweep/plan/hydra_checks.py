"""Checks the settings of Hydra that a sweep has no use for."""

from typing import cast

from hydra.conf import HydraConf
from omegaconf import OmegaConf

from svhn_sweep.config.schema import CONFIG_NAME, conf_dir
from svhn_sweep.errors import ConfigError
from svhn_sweep.tracking.run_folders import MULTIRUN

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def check_hydra(hydra: HydraConf) -> None:
    """Checks that the user chose neither a launcher nor a folder for the runs.

    Raises:
        ConfigError: The user did; a sweep starts its own workers, and resuming, `ui` and `sync`
            look for studies in `multirun`.
    """
    launcher = hydra.launcher["_target_"]
    if launcher != BASIC_LAUNCHER:
        raise ConfigError(
            f"hydra/launcher must be basic: a sweep starts its own workers; but got {launcher}."
        )
    conf = OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml")
    defaults = {"subdir": "${hydra.job.num}", **_unresolved(conf.hydra.sweep)}
    for key, value in _unresolved(hydra.sweep).items():
        if value != defaults[key]:
            raise ConfigError(
                f"hydra.sweep.{key} must be left out with optuna, whose folders are "
                f"{MULTIRUN}/STUDY in the current folder, but got {value}; for another place "
                "start the sweep in another folder."
            )


def _unresolved(config: object) -> dict[str, str]:
    return cast(dict[str, str], OmegaConf.to_container(config))
