"""Fakes in place of mocks: a backend, a lane and a clock with which a whole job takes moments."""
