"""The dashboard's files: pages, style and scripts, served as they are."""
