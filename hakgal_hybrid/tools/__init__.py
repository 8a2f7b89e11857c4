"""The operator's commands: of ``hakgal-hybrid``, where the host is named by its URL, and of ``flask hybrid``."""
