"""Tests of how the parts hang together."""
