"""Hubs without a transport around them, and streams on these and on those that have one."""

from __future__ import annotations

from typing import Any

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.broker.broker import Broker
from hakgal_hybrid.broker.client import Client, Session
from hakgal_hybrid.broker.hub import Hub
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.sessions import SessionRegistry
from hakgal_hybrid.broker.states import SessionState
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamRequest
from hakgal_hybrid.web.stream import open_stream


def make_hub(log: EventLog, **limits: Any) -> Hub:
    """Return a hub; what lapses in it is forgotten."""
    bounds = {"max_streams": 1000, "max_per_address": 1000, "connect_s": 30, "resume_s": 60, **limits}
    clients = bounds.pop("max_clients", 1000)
    hub: Hub

    def lapsed(session: Session, before: SessionState) -> None:
        for client in session.clients:
            hub.forget(client)

    hub = Hub(Broker(log), SessionRegistry(lapsed, held=log.held, **bounds), max_clients=clients)
    return hub


def admit(hub: Hub, namespace: str = "/") -> Client:
    """Return a client that is about to get a stream of its own."""
    return hub.admit(hub.new_session({}), {}, namespace)


def carried(feed: SubscriberStream) -> SubscriberStream:
    """Make ``feed`` the stream of its link; return it."""
    feed.hub.sessions.attach(feed.session, feed)
    return feed


def client_of(feed: SubscriberStream) -> Client:
    """Return the first client of a stream."""
    return feed.session.clients[0]


def open_feed_of(transport: HybridTransport, **options: Any) -> SubscriberStream:
    """Return a stream that is opened as a request opens it, for whoever is to write it."""
    with transport.app.test_request_context():
        return open_stream(transport.services, StreamRequest(**options))
