"""Real faults: a job as a process of its own that is killed, or whose disk fills up."""
