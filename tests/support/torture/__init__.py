"""Torture of the shared log: real processes, Redis servers and proxies, one fault upon the other, then the accounts."""
