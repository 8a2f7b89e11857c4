"""Who is served by some settings: what a server says of it as it begins to serve."""

from __future__ import annotations

import logging

from . import Settings


def audience(settings: Settings, *, away: bool) -> tuple[int, str]:
    """Return the level of a record about who is served, and its text.

    :param settings: the key, and who may be a client.
    :param away: true if the server listens for other machines.
    """
    if settings.access == "app":
        others = "by this machine" if settings.api_key is None else "with HAKGAL_API_KEY"
        return logging.INFO, ("HYBRID_ACCESS=app: everybody may become a client, unless a connect handler or "
                              "transport.authorize of the app refuses; the operator's URLs can be used "
                              f"{others} only")
    if settings.api_key is None:
        return (logging.WARNING if away else logging.INFO,
                "only this machine is served, because HAKGAL_API_KEY is not set; with HYBRID_ACCESS=app the app "
                "decides who may be a client")
    return logging.INFO, ("HYBRID_ACCESS=local: clients on other machines need HAKGAL_API_KEY or a ticket; with "
                          "HYBRID_ACCESS=app the app decides who may be a client")
