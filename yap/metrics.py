"""Every metric of the service, with its buckets chosen for spoken conversation."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

# A reply should begin within a human turn gap, about 0.2 s; past a second it feels broken.
_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_TURN_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 21, 34, 60)


class Metrics:
    """The collectors. One instance a process: Prometheus refuses a second of the same name."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._declare_connections(registry)
        self._declare_turns(registry)
        self._declare_decisions(registry)
        self._declare_replies(registry)

    def _declare_connections(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge(
            "yap_connections",
            "WebSocket connections that hold a permit.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.refusals = Counter(
            "yap_refusals_total",
            "Connections and frames that were refused, by error code.",
            ["error_code"],
            registry=registry,
        )

    def _declare_turns(self, registry: CollectorRegistry) -> None:
        self.turns = Counter(
            "yap_turns_total", "Turns that ended, by how.", ["finish_reason"], registry=registry
        )
        self.turn_seconds = Histogram(
            "yap_turn_seconds",
            "From the receipt of start to done.",
            buckets=_TURN_BUCKETS,
            registry=registry,
        )
        self.toolcall_seconds = Histogram(
            "yap_toolcall_seconds",
            "From the receipt of start to the screen decision.",
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self.ttft_seconds = Histogram(
            "yap_time_to_first_token_seconds",
            "From the receipt of start to the first token frame.",
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=registry,
        )

    def _declare_decisions(self, registry: CollectorRegistry) -> None:
        self.router_decisions = Counter(
            "yap_router_decisions_total",
            "Screen decisions, by answer and by who gave it.",
            ["status", "source"],
            registry=registry,
        )
        self.early_replies = Counter(
            "yap_early_replies_total",
            "Replies begun while the classifier decided, by whether they were used.",
            ["used"],
            registry=registry,
        )

    def _declare_replies(self, registry: CollectorRegistry) -> None:
        self.phrase_rewinds = Counter(
            "yap_phrase_rewinds_total",
            "Times that a reply was taken back to before a banned phrase.",
            registry=registry,
        )
        self.phrases_left_out = Counter(
            "yap_phrases_left_out_total",
            "Banned phrases that the model kept saying, so that they were cut out of the text.",
            registry=registry,
        )
        self.completion_tokens = Counter(
            "yap_completion_tokens_total", "Tokens that the chat model made.", registry=registry
        )
        self.prompt_tokens = Counter(
            "yap_prompt_tokens_total",
            "Tokens of prompts, by whether the prefix cache had them.",
            ["cached"],
            registry=registry,
        )
