"""The story: stages from a model and a budget to a verified bundle. Read `optimize.py` first."""
