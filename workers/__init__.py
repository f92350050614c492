"""Where work runs: measurement in isolated processes, and the assembly of a whole job."""
