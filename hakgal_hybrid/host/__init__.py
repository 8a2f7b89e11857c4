"""A backend that is not changed: its class is hybridized, or its start command is run under this package."""
