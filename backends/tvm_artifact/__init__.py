"""What TVM makes of a model: one shared library and a file of parameters, and what runs them."""
