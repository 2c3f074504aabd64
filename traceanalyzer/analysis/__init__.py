"""From a run to its result: the stages in order, the headline, and the assembly."""
