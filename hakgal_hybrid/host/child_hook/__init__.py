"""A folder that goes on the path of child processes: see ``sitecustomize``."""
