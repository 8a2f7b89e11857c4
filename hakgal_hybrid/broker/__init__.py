"""What happened, for whom, and who has what: no framework, no socket."""
