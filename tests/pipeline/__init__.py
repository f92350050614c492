"""Tests of the story, with planted worlds and with the real runtime."""
