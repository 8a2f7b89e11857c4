"""Speaking to a running host from outside: one timed request, and the event stream. Standard library only."""
