"""TVMScript sources of the kernels: a file per family, specialised by instruction set and tile."""
