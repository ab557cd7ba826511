"""What each provider of each primitive answered to the official vectors, for `saggar doctor` and the log."""

from __future__ import annotations

from sandbox.crypto import providers
from sandbox.crypto.providers import ProviderReport

__all__ = ["ProviderReport", "provider_reports"]


def provider_reports() -> tuple[ProviderReport, ...]:
    """Return one report per primitive and provider, those that serve first within each primitive.

    The reports are those on which this process's choices rest; nothing is tested twice.
    """
    choices = (
        providers.hash_family("sm3"),
        providers.hash_family("sha256"),
        providers.sm4_block(),
        providers.sm4_gcm(),
        providers.aes_gcm(),
        providers.sm2(),
        providers.ed25519(),
        providers.hpke(),
        providers.scrypt(),
    )
    return tuple(report for choice in choices for report in choice.reports)
