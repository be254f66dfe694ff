"""What `/metrics` tells Prometheus. Figures only: never a word of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class WorkerCounts(Protocol):
    """What is counted of a pair's thread."""

    @property
    def totals(self) -> tuple[int, int, int]:
        """Passes of (base, aligned), and tokens."""
        ...

    @property
    def live(self) -> int:
        """Samples on their way."""
        ...


class HostCounts(Protocol):
    """What is counted of a served pair."""

    @property
    def worker(self) -> WorkerCounts:
        """Its thread."""
        ...


class Telemetry:
    """Counters of one server, in a registry of their own.

    Args:
        hosts: The served pairs by name.
    """

    def __init__(self, hosts: Mapping[str, HostCounts]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "baco_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "baco_request_seconds",
            "Time to the end of an answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first = Histogram(
            "baco_first_token_seconds",
            "Time to the first text of an answer",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "baco_answer_tokens", "Tokens in answers", ["pair", "method"], registry=self.registry
        )
        self.disconnects = Counter(
            "baco_disconnects", "Clients that left before the end", registry=self.registry
        )
        self.refused = Counter(
            "baco_refused", "Requests turned away", ["reason"], registry=self.registry
        )
        self.registry.register(_Engines(hosts))

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Engines(Collector):
    """Reads the engines' own counters when asked."""

    def __init__(self, hosts: Mapping[str, HostCounts]) -> None:
        self._hosts = hosts

    def collect(self) -> Iterable[Metric]:
        """Yields the metrics."""
        rows = GaugeMetricFamily("baco_rows", "Samples in the engines", labels=["pair"])
        tokens = CounterMetricFamily("baco_decoded_tokens", "Tokens decoded", labels=["pair"])
        passes = CounterMetricFamily(
            "baco_forward_passes", "Forward passes", labels=["pair", "side"]
        )
        for name, host in self._hosts.items():
            base, aligned, emitted = host.worker.totals
            rows.add_metric([name], host.worker.live)
            tokens.add_metric([name], emitted)
            passes.add_metric([name, "base"], base)
            passes.add_metric([name, "aligned"], aligned)
        return [rows, tokens, passes]
