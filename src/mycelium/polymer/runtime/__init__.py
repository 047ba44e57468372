"""Running programs: one interpreter as the reference, one dataflow runtime over any pool."""
