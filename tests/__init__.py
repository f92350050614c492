"""Tests of AutoSparse."""
