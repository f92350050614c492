"""Figures of the requests, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "autosparse_http_requests", "Requests", ["method", "route", "status"], registry=REGISTRY
)
SECONDS = Histogram(
    "autosparse_http_seconds", "Time until an answer began", ["method", "route"], registry=REGISTRY
)
