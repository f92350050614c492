"""TVMScript sources of the kernels: one file per family, specialised by instruction set and tile."""
