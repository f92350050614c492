"""The routes of `/v1`, one file for each kind of thing."""
