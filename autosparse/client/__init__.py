"""The client of a service, and the words that both speak. Needs none of the heavy libraries."""
