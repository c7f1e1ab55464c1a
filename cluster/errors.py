"""Errors of brokers and clusters: one sentence each."""

from __future__ import annotations


class ClusterError(Exception):
    """A broker or a cluster cannot be started, reached or stopped; the text says why and what to do."""
