"""Adapters of the legacy backend: persistence, reasoning, push channel, governor, monitor, agents."""
