"""Found first by child processes of ``hakgal-hybrid exec --children``: arms them, then makes way for the real one."""

import importlib.machinery
import importlib.util
import logging
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _arm() -> None:
    from hakgal_hybrid.host.launcher import INHERIT, arm

    arm(os.environ.get(INHERIT) or None)


def _run_the_real_one() -> None:
    """Load the ``sitecustomize`` that this one hides, if there is one."""
    paths = [path for path in sys.path if os.path.abspath(path or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


try:
    _arm()
except Exception as error:  # a child must start as it would without us
    # Without logging set up, which is too early here, it goes to standard error.
    logging.getLogger("hakgal_hybrid.child_hook").warning("hakgal_hybrid: this child process is not armed: %s", error)
_run_the_real_one()
