"""What measuring needs beyond the package's own requirements: the extra ``measure``."""

from __future__ import annotations

import importlib
from typing import Any

from ...errors import ConfigurationError


def need(module: str, why: str) -> Any:
    """Import a module of the extra ``measure``.

    :param module: its dotted name.
    :param why: what it is needed for, as the end of a sentence.
    :raises ConfigurationError: if it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ConfigurationError(f"{name} is needed to {why} and cannot be imported ({error}); pip install "
                                 "'hakgal_hybrid[measure]'") from error
