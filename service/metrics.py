"""The service's Prometheus metrics, in a registry of their own; knows no route."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Every metric of one service process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests by route and status", "route", "status")
        self.choices = self._counter(
            "choices", "Sampled answers by delivery and stop reason", "delivery", "stop_reason"
        )
        self.tokens = self._counter("tokens", "Tokens by kind: prompt, completion", "kind")
        self.votes = self._counter("votes", "Rankings by outcome", "outcome")
        self.feedback = self._counter("feedback_events", "Feedback events accepted", "type")
        self.swaps = self._counter("swaps", "Routes changed by channel", "channel")
        self.swap_refusals = self._counter("swap_refusals", "Adapters refused by reason", "reason")
        self.spool_failures = self._counter(
            "spool_failures", "Completions served without a ballot: the spool did not take them"
        )
        self.first_token_s = self._histogram("first_token_seconds", "Arrival to first token")
        self.completion_s = self._histogram("completion_seconds", "Arrival to end of the answer")
        self.ack_s = self._histogram("vote_ack_seconds", "Time until a vote is durable")
        self.swap_s = self._histogram("swap_seconds", "From seeing an entry to routing to it")
        self.in_flight = self._gauge("responses_in_flight", "Responses being generated")
        self.spool_depth = self._gauge("spool_pending", "Feedback events not yet durable")
        self.engine_alive = self._gauge("engine_alive", "1 if the engine's loop turns")
        self.heartbeat_age_s = self._gauge("engine_heartbeat_age_seconds", "Age of its last turn")
        self.num_running = self._gauge("engine_running", "Choices being decoded")
        self.num_waiting = self._gauge("engine_waiting", "Choices waiting for a place")
        self.adapter = self._gauge(
            "channel_adapter", "1 for what a channel routes to now", "channel", "adapter_id"
        )
        self.channel_lag_s = self._gauge(
            "channel_lag_seconds", "How long a newer entry has not been served", "channel"
        )
        self.live_adapters = self._gauge("live_adapters", "Adapters loaded, the base included")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"instructloop_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"instructloop_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"instructloop_{name}", text, buckets=_SECONDS, registry=self.registry)
